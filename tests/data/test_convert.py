import json
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import torch
from fastmri import fftc, rss_complex
from made_scans import made_scan

from adaptmr.data import fastmri, mrd
from adaptmr.data.convert import convert
from adaptmr.data.nifti import Image, read_image, write_image
from adaptmr.errors import BadInputError, UsageError


def test_fastmri_to_mrd_and_back(tmp_path: Path) -> None:
    scan = made_scan()
    fastmri.write_scan(scan, tmp_path / "a.h5")
    convert(tmp_path / "a.h5", tmp_path / "b.mrd")
    convert(tmp_path / "b.mrd", tmp_path / "c.h5")
    assert torch.equal(mrd.read_scan(tmp_path / "b.mrd").kspace[:], scan.kspace[:])
    read = fastmri.read_scan(tmp_path / "c.h5")
    assert torch.equal(read.kspace[:], scan.kspace[:])
    assert read.header == fastmri.read_scan(tmp_path / "a.h5").header
    # The reference does not travel through MRD: it is made again.
    images = fftc.ifft2c_new(torch.view_as_real(scan.kspace[:]))
    assert read.target is not None
    torch.testing.assert_close(read.target[:], rss_complex(images, dim=1))


def test_undersampled_scan_keeps_its_mask_and_gets_no_reference(tmp_path: Path) -> None:
    kspace = made_scan(acquired=torch.arange(9) % 2 == 0, target=False).kspace[:]
    np.save(tmp_path / "a.npy", kspace.numpy())
    convert(tmp_path / "a.npy", tmp_path / "b.h5")
    scan = fastmri.read_scan(tmp_path / "b.h5")
    assert scan.acceleration == 9 / 5
    assert scan.target is None
    assert torch.equal(scan.kspace[:], kspace)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_images_to_nifti(tmp_path: Path, suffix: str) -> None:
    images = torch.rand((3, 5, 4), generator=torch.Generator().manual_seed(0))
    fastmri.write_submission(tmp_path / "a.h5", images)
    convert(tmp_path / "a.h5", tmp_path / f"b{suffix}")
    stored = nibabel.load(tmp_path / f"b{suffix}")
    assert stored.shape == (4, 5, 3)
    np.testing.assert_array_equal(stored.get_fdata()[:, :, 2].T, images[2].numpy())
    np.testing.assert_array_equal(stored.affine, np.eye(4))


def test_nifti_to_images_and_back(tmp_path: Path) -> None:
    affine = np.array([[0, 0, 3, -7], [2, 0, 0, 5], [0, -1.5, 0, 1], [0, 0, 0, 1]])
    data = np.random.default_rng(0).random((4, 5, 3)).astype("f4")
    write_image(Image(data, affine), tmp_path / "a.nii.gz")
    convert(tmp_path / "a.nii.gz", tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["reconstruction"].shape == (3, 5, 4)
        assert json.loads(file.attrs["affine"]) == affine.tolist()
    convert(tmp_path / "b.h5", tmp_path / "c.nii.gz")
    read = read_image(tmp_path / "c.nii.gz")
    np.testing.assert_array_equal(read.data, data)
    np.testing.assert_array_equal(read.affine, affine)


def test_broken_affine_is_named(tmp_path: Path) -> None:
    fastmri.write_submission(tmp_path / "a.h5", torch.ones(1, 2, 2), attributes={"affine": "[1]"})
    with pytest.raises(BadInputError, match="field 'affine'"):
        convert(tmp_path / "a.h5", tmp_path / "b.nii")


@pytest.mark.parametrize(
    ("source", "destination"),
    [("scan.h5", "out.nii.gz"), ("scan.h5", "out.npy"), ("image.nii", "out.mrd"), ("i.h5", "o.h5")],
)
def test_no_such_conversion(tmp_path: Path, source: str, destination: str) -> None:
    fastmri.write_scan(made_scan(), tmp_path / "scan.h5")
    fastmri.write_submission(tmp_path / "i.h5", torch.ones(1, 2, 2))
    write_image(Image(np.ones((2, 2, 2)), np.eye(4)), tmp_path / "image.nii")
    with pytest.raises(UsageError, match="there is no conversion"):
        convert(tmp_path / source, tmp_path / destination)
    assert not (tmp_path / destination).exists()


def test_outputs_are_guarded(tmp_path: Path) -> None:
    fastmri.write_scan(made_scan(), tmp_path / "a.h5")
    (tmp_path / "b.mrd").write_text("old")
    with pytest.raises(BadInputError, match="exists already"):
        convert(tmp_path / "a.h5", tmp_path / "b.mrd")
    assert (tmp_path / "b.mrd").read_text() == "old"
    convert(tmp_path / "a.h5", tmp_path / "b.mrd", overwrite=True)
    assert mrd.read_scan(tmp_path / "b.mrd").slices == 3
    with pytest.raises(BadInputError, match="cannot be written"):
        convert(tmp_path / "a.h5", tmp_path / "b.mrd" / "c.mrd")


def test_damage_found_on_the_way_leaves_no_output(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    fastmri.write_scan(made_scan(target=False), path)
    with h5py.File(path) as file:
        place = file["kspace"].id.get_chunk_info(5).byte_offset
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BadInputError, match="slice 2, field 'kspace': the file is damaged"):
        convert(path, tmp_path / "b.mrd")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5"]
