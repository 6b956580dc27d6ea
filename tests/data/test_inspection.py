import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from made_scans import FULL_HEADER, made_scan

from adaptmr.data import fastmri, mrd
from adaptmr.data.header_xml import write_xml
from adaptmr.data.inspection import Inspection, inspect
from adaptmr.data.nifti import Image, write_image
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.data.survey import survey
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import fourier

SHAPE = (3, 2, 48, 40)


def inspected(tmp_path: Path, scan: Scan) -> Inspection:
    path = tmp_path / "scan.h5"
    fastmri.write_scan(scan, path, overwrite=True)
    return inspect(path)


def of_kspace(tmp_path: Path, kspace: np.ndarray, **more: object) -> Inspection:
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        for name, value in more.items():
            file[name] = value
    return inspect(path)


def phantom(sigma: float, *, phase: bool = True) -> torch.Tensor:
    """K-space (slices, coils, readout, phase) of a smooth object plus noise."""
    rows, columns = (torch.linspace(-1, 1, size) for size in SHAPE[2:])
    radius = rows[:, None] ** 2 + columns**2
    blob = torch.exp(-8 * radius).expand(SHAPE).to(torch.complex64)
    if phase:
        blob = blob * torch.exp(9j * (rows[:, None] ** 2 - 0.5 * columns**2))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(SHAPE, dtype=torch.complex64, generator=generator) * 2**0.5
    return fourier(100 * blob) + sigma * noise


def test_a_clean_scan(tmp_path: Path) -> None:
    scan = made_scan(SHAPE, padding=(2, 39))
    found = inspected(tmp_path, scan)
    assert found.format == "fastMRI HDF5"
    assert found.shape == SHAPE
    assert found.coils == 2
    assert found.dtype == "complex64"
    assert found.padding == (2, 39)
    assert found.acceleration == 1
    assert found.sampling == "full"
    assert found.header is not None
    assert found.header.acquisition == FULL_HEADER.acquisition
    assert (found.target, found.target_shape) == ("reconstruction_rss", (3, 48, 40))
    assert found.maximum == scan.maximum
    assert found.refusals == []
    assert found.not_finite == {}
    assert found.zero_rings == (0, 0, 0, 0)
    assert Inspection.model_validate_json(json.dumps(found.model_dump(mode="json"))) == found


def test_undersampling_and_low_frequency_block(tmp_path: Path) -> None:
    acquired = torch.arange(40) % 4 == 0
    acquired[15:25] = True
    found = inspected(tmp_path, made_scan(SHAPE, acquired=acquired, target=False))
    assert found.sampling == "lines"
    assert found.acceleration == pytest.approx(40 / int(acquired.sum()))
    assert found.low_frequency == (10,)
    assert not any("fully acquired centre" in warning for warning in found.warnings)
    acquired[:] = torch.arange(40) % 4 == 0
    found = inspected(tmp_path, made_scan(SHAPE, acquired=acquired, target=False))
    assert any("fully acquired centre" in warning for warning in found.warnings)


@pytest.mark.parametrize("sigma", [0.01, 1.0])
def test_noise_level_is_found(tmp_path: Path, sigma: float) -> None:
    found = of_kspace(tmp_path, phantom(sigma).numpy())
    assert found.noise is not None
    assert found.noise.per_coil == pytest.approx((sigma, sigma), rel=0.2)
    assert "outermost" in found.noise.method
    assert found.centre == (24, 20)
    assert found.conjugate_symmetry is not None
    assert found.conjugate_symmetry < 0.9
    assert len(found.warnings) == 1
    assert "no usable header" in found.warnings[0]


def test_noise_samples_come_first(tmp_path: Path) -> None:
    noise = 3 * torch.randn(
        2, 4000, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)
    )
    found = inspected(tmp_path, made_scan(SHAPE, noise=noise))
    assert found.noise is not None
    assert found.noise.per_coil == pytest.approx((3 / 2**0.5,) * 2, rel=0.05)
    assert found.noise.method == "4000 noise samples per coil"


def test_not_finite_values_are_counted_by_slice(tmp_path: Path) -> None:
    kspace = phantom(1).numpy()
    kspace[1, 0, 0, :3] = np.nan
    kspace[2, 1, 0, 0] = np.inf
    found = of_kspace(tmp_path, kspace)
    assert found.not_finite == {1: 3, 2: 1}
    assert len(found.refusals) == 2
    assert "slice 1" in found.refusals[0]
    assert found.centre == (24, 20)


def test_empty_slices_and_coils(tmp_path: Path) -> None:
    kspace = phantom(1).numpy()
    kspace[2] = 0
    kspace[:, 1] = 0
    found = of_kspace(tmp_path, kspace)
    assert found.empty_slices == (2,)
    assert found.empty_coils == (1,)
    assert any("1 slices are all zero" in warning for warning in found.warnings)
    nothing = of_kspace(tmp_path, np.zeros_like(kspace))
    assert nothing.empty_slices == (0, 1, 2)
    assert nothing.centre is None


def test_zero_rings_and_missing_columns(tmp_path: Path) -> None:
    kspace = phantom(1).numpy()
    kspace[:, :, :4] = 0
    kspace[:, :, -5:] = 0
    kspace[..., :6] = 0
    kspace[..., 8] = 0
    found = of_kspace(tmp_path, kspace)
    assert found.zero_rings == (4, 5, 6, 0)
    assert any("exactly zero: zero-filled" in warning for warning in found.warnings)
    assert any("1 columns inside are exactly zero" in warning for warning in found.warnings)


@pytest.mark.parametrize("size", [(48, 40), (47, 39)])
def test_transform_of_magnitude_images_is_noticed(tmp_path: Path, size: tuple[int, int]) -> None:
    images = torch.rand((2, 1, *size), generator=torch.Generator().manual_seed(0))
    constant = torch.exp(torch.tensor(0.7j))
    found = of_kspace(tmp_path, fourier(images * constant).numpy())
    assert found.conjugate_symmetry == pytest.approx(1, abs=1e-3)
    assert any("conjugate symmetric" in warning for warning in found.warnings)


def test_centre_that_is_off(tmp_path: Path) -> None:
    found = of_kspace(tmp_path, phantom(0.1).roll(5, dims=-1).numpy())
    assert found.centre == (24, 25)
    assert any("not near the centre" in warning for warning in found.warnings)


def test_filled_in_parallel_imaging(tmp_path: Path) -> None:
    xml = write_xml(Header(encoded_matrix=(48, 40, 1)), coils=2).replace(
        "</encoding>",
        "<parallelImaging><accelerationFactor><kspace_encoding_step_1>2</kspace_encoding_step_1>"
        "<kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor>"
        "</parallelImaging></encoding>",
    )
    found = of_kspace(tmp_path, phantom(1).numpy(), ismrmrd_header=xml)
    assert any("parallel imaging (2x)" in warning for warning in found.warnings)


def test_values_that_are_ignored_are_told_of(tmp_path: Path) -> None:
    found = of_kspace(tmp_path, phantom(1).numpy(), mask=np.arange(40) % 2)
    assert any("outside the mask or in the padding" in warning for warning in found.warnings)
    assert found.acceleration == 2


def test_maximum_that_disagrees(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    fastmri.write_scan(made_scan(SHAPE), path)
    with h5py.File(path, "r+") as file:
        file.attrs["max"] = 17.0
    assert any("attribute 'max' is 17" in warning for warning in inspect(path).warnings)


@pytest.mark.parametrize(
    ("kspace", "more", "message"),
    [
        (np.ones(SHAPE, "f4"), {}, "not complex"),
        (np.ones((*SHAPE, 2), "f4"), {}, "1j * kspace[..., 1]"),
        (np.ones((4, 4), "c8"), {}, "wrong number of axes"),
        (np.ones(SHAPE, "c8"), {"mask": np.ones(39)}, "mask does not fit"),
        (
            np.ones(SHAPE, "c8"),
            {"ismrmrd_header": write_xml(Header(encoded_matrix=(48, 41, 1)), coils=1)},
            "header disagrees",
        ),
    ],
)
def test_what_would_be_refused_is_still_described(
    tmp_path: Path, kspace: np.ndarray, more: dict[str, object], message: str
) -> None:
    found = of_kspace(tmp_path, kspace, **more)
    assert found.shape == kspace.shape
    assert found.dtype == str(kspace.dtype)
    assert len(found.refusals) == 1
    assert message in found.refusals[0]
    with pytest.raises(BadInputError, match=r".") as caught:
        fastmri.read_scan(tmp_path / "plain.h5")
    assert str(caught.value) == found.refusals[0]


def test_damaged_slice_is_named_and_the_others_seen(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    fastmri.write_scan(made_scan(SHAPE), path)
    with h5py.File(path) as file:
        place = file["kspace"].id.get_chunk_info(2).byte_offset
    damaged = bytearray(path.read_bytes())
    damaged[place + 9] ^= 4
    path.write_bytes(damaged)
    found = inspect(path)
    assert len(found.refusals) == 1
    assert "slice 1, field 'kspace': the file is damaged" in found.refusals[0]
    assert found.noise is not None


def test_target_that_is_not_finite(tmp_path: Path) -> None:
    target = np.ones((3, 48, 40), "f4")
    target[1, 0, 0] = np.nan
    found = of_kspace(tmp_path, phantom(1).numpy(), reconstruction_rss=target)
    assert len(found.refusals) == 1
    assert "slice 1, field 'reconstruction_rss': values are not finite" in found.refusals[0]


def test_other_formats(tmp_path: Path) -> None:
    scan = made_scan(SHAPE)
    mrd.write_scan(scan, tmp_path / "a.mrd")
    assert inspect(tmp_path / "a.mrd").format == "ISMRMRD (MRD v1)"
    assert inspect(tmp_path / "a.mrd").shape == SHAPE
    np.save(tmp_path / "a.npy", scan.kspace[:].numpy())
    assert inspect(tmp_path / "a.npy").sampling == "full"
    write_image(Image(np.ones((2, 3, 4)), np.eye(4)), tmp_path / "a.nii")
    assert inspect(tmp_path / "a.nii").shape == (2, 3, 4)
    fastmri.write_submission(tmp_path / "i.h5", torch.full((2, 3, 4), 5.0))
    images = inspect(tmp_path / "i.h5")
    assert (images.format, images.shape, images.maximum) == ("HDF5 images", (2, 3, 4), 5)
    (tmp_path / "a.txt").write_text("Dear reader")
    assert "unknown" in inspect(tmp_path / "a.txt").refusals[0]


def test_nothing_to_say(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="does not exist"):
        inspect(tmp_path / "none.h5")
    (tmp_path / "empty.h5").touch()
    with pytest.raises(BadInputError, match="empty"):
        inspect(tmp_path / "empty.h5")


def test_real_files(shared_data: Path) -> None:
    for path in shared_data.glob("kspace/*.h5"):
        found = inspect(path)
        assert (found.refusals, found.warnings) == ([], [])
        assert found.noise is not None
    for path in shared_data.glob("raw/*"):
        assert len(inspect(path).refusals) == 1


def test_slices_are_read_one_at_a_time() -> None:
    scan = made_scan(SHAPE)
    ranges: list[tuple[int, int]] = []

    def watched(start: int, stop: int) -> torch.Tensor:
        ranges.append((start, stop))
        return scan.kspace.read(start, stop)

    survey(dataclasses.replace(scan, kspace=Stack(SHAPE, watched)))
    assert ranges == [(0, 1), (1, 2), (2, 3)]
