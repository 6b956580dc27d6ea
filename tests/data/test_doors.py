import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import torch
from made_scans import made_scan

from adaptmr.data import fastmri, mrd
from adaptmr.data.doors import Format, identify, open_scan
from adaptmr.errors import BadInputError


def refused(path: Path) -> str:
    with pytest.raises(BadInputError) as caught:
        open_scan(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def write_npy(kspace: np.ndarray, path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, kspace)


def write_npz(kspace: np.ndarray, path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, kspace=kspace)


@pytest.mark.parametrize("name", ["scan", "scan.h5", "scan.dat", "scan.raw", "scan.nii.gz"])
def test_content_decides_not_the_name(tmp_path: Path, name: str) -> None:
    scan, path = made_scan(), tmp_path / name
    kspace = scan.kspace[:]
    doors: dict[Format, Callable[[], None]] = {
        Format.FASTMRI: lambda: fastmri.write_scan(scan, path, overwrite=True),
        Format.MRD: lambda: mrd.write_scan(scan, path, overwrite=True),
    }
    for found, write in doors.items():
        write()
        assert identify(path) is found
        assert torch.equal(open_scan(path).kspace[:], kspace)
    for save in (write_npy, write_npz):
        save(kspace.numpy(), path)
        assert identify(path) is Format.NUMPY
        assert torch.equal(open_scan(path).kspace[:], kspace)


def test_bart(tmp_path: Path) -> None:
    (tmp_path / "scan.hdr").write_text("# Dimensions\n3 2 1 1\n")
    np.ones(6, "c8").tofile(tmp_path / "scan.cfl")
    assert open_scan(tmp_path / "scan.cfl").matrix == (3, 2)
    assert open_scan(tmp_path / "scan.hdr").matrix == (3, 2)


def test_real_raw_files_are_refused_with_a_hint(shared_data: Path, tmp_path: Path) -> None:
    twix = sorted((shared_data / "raw").glob("*.dat"))
    assert twix
    for path in twix:
        assert identify(path) is Format.TWIX
        assert "siemens_to_ismrmrd" in refused(path)
    assert "not Cartesian" in refused(shared_data / "raw" / "spiral_mrd.h5")
    shutil.copy(shared_data / "brains" / "sub-01_ses-1_T1w.nii.gz", tmp_path / "a.nii.gz")
    assert "simulate --anatomy" in refused(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.dcm", bytes(128) + b"DICM", Format.DICOM),
        ("a.mat", b"MATLAB 5.0 MAT-file", Format.MATLAB),
        ("P12345.7", b"\x01\x02\x03", Format.GE),
        ("a.lab", b"\x01\x02\x03", Format.PHILIPS),
        ("a.txt", b"Dear reader", Format.UNKNOWN),
        ("a.dat", b"\x20\x04\x00\x00\x03\x00\x00\x00Config\x00", Format.TWIX),
    ],
)
def test_other_formats_are_named_with_a_hint(
    tmp_path: Path, name: str, content: bytes, found: Format
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert identify(path) is found
    message = refused(path)
    assert found.value in message
    assert message.count(". ") >= 1


def test_images_are_no_scan(tmp_path: Path) -> None:
    fastmri.write_submission(tmp_path / "a.h5", torch.ones(1, 2, 2))
    assert identify(tmp_path / "a.h5") is Format.HDF5_IMAGES
    assert "images without k-space" in refused(tmp_path / "a.h5")
    nibabel.save(nibabel.Nifti2Image(np.ones((2, 2, 2), "f4"), np.eye(4)), tmp_path / "a.nii")
    assert identify(tmp_path / "a.nii") is Format.NIFTI


def test_unknown_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["kdata"] = np.ones(3)
    assert identify(tmp_path / "a.mat") is Format.HDF5_OTHER
    assert "dataset to 'kspace'" in refused(tmp_path / "a.mat")


def test_no_file_and_empty_file(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "none.h5")
    (tmp_path / "empty.h5").touch()
    assert "empty" in refused(tmp_path / "empty.h5")
    assert "not a file" in refused(tmp_path)


def test_truncated_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    fastmri.write_scan(made_scan(), path)
    path.write_bytes(path.read_bytes()[:5000])
    assert "truncated or damaged" in refused(path)
