from pathlib import Path

import h5py
import numpy as np
import pytest
import sigpy.mri as mr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_kspace import complex_normal, line_mask, made_kspace, phantom, point_mask, smooth_maps
from torch import Tensor

from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.reconstruction.sensitivity import Espirit, LowResolutionMaps, low_frequency_block
from adaptmr.sampling.mask import Mask

FINDERS = [Espirit(), LowResolutionMaps()]
every_finder = pytest.mark.parametrize("find", FINDERS, ids=["espirit", "low-resolution"])


def sigpy_maps(kspace: Tensor, width: int = 24) -> Tensor:
    calibration = mr.app.EspiritCalib(
        kspace.numpy(), calib_width=width, crop=Espirit().crop, show_pbar=False
    )
    maps = calibration.run()
    return torch.from_numpy(maps)


def agrees(maps: Tensor, other: Tensor) -> tuple[float, float]:
    """NRMSE where both have maps, and the share of pixels where only one has."""
    here, there = maps.abs().sum(0) > 0, other.abs().sum(0) > 0
    both = here & there
    error = torch.linalg.norm((maps - other)[:, both]) / torch.linalg.norm(other[:, both])
    return float(error), float((here ^ there).double().mean())


@pytest.mark.parametrize(("coils", "matrix"), [(4, (48, 40)), (3, (37, 45)), (1, (40, 40))])
def test_espirit_equals_sigpy(coils: int, matrix: tuple[int, int]) -> None:
    kspace = made_kspace(1, coils, matrix)
    # Of an odd axis sigpy and we take the same positions when their number is odd.
    width = 24 - matrix[0] % 2
    maps = Espirit(width=width)(kspace, point_mask(matrix, (width, width)))
    error, share = agrees(maps[0], sigpy_maps(kspace[0], width))
    assert error < 1e-3
    assert share < 0.01


@pytest.mark.parametrize("name", ["brain_gre_16ch", "brain_t1_7ch", "brain_gre_bodycoil_2ch"])
@pytest.mark.slow
def test_espirit_equals_sigpy_on_real_scans(shared_data: Path, name: str) -> None:
    with h5py.File(shared_data / "kspace" / f"{name}.h5") as file:
        kspace = torch.from_numpy(file["kspace"][:])
    matrix = (kspace.shape[-2], kspace.shape[-1])
    maps = Espirit()(kspace, point_mask(matrix, (24, 24)))
    error, share = agrees(maps[0], sigpy_maps(kspace[0]))
    assert error < 1e-3
    assert share < 1e-3


@every_finder
@pytest.mark.parametrize("axes", [1, 2])
def test_finds_the_true_maps(find: Espirit | LowResolutionMaps, axes: int) -> None:
    matrix = (64, 60)
    kspace = made_kspace(1, 4, matrix, noise=1e-4)
    mask = line_mask(60, 24) if axes == 1 else point_mask(matrix, (24, 24))
    found, true = find(kspace, mask)[0], smooth_maps(4, matrix, torch.complex128)
    object_ = phantom(matrix).abs() > 0
    # Maps are known up to a phase at every pixel.
    alignment = (found.conj() * true).sum(0).abs()[object_]
    assert float(alignment.quantile(0.05)) > (0.999 if isinstance(find, Espirit) else 0.98)


@every_finder
@settings(max_examples=12, deadline=None)
@given(
    coils=st.integers(1, 5),
    rows=st.integers(12, 33),
    columns=st.integers(12, 33),
    low=st.integers(1, 12),
)
def test_maps_have_unit_length_or_none(
    find: Espirit | LowResolutionMaps, coils: int, rows: int, columns: int, low: int
) -> None:
    kspace = made_kspace(2, coils, (rows, columns))
    maps = find(kspace, line_mask(columns, low))
    assert maps.shape == kspace.shape
    length = maps.abs().square().sum(1)
    assert bool(torch.isclose(length, (length > 0.5).double(), atol=1e-9).all())
    assert bool((length > 0.5).any())


@every_finder
def test_uses_the_block_alone(find: Espirit | LowResolutionMaps) -> None:
    matrix = (33, 30)
    kspace, mask = made_kspace(2, 3, matrix), point_mask(matrix, (14, 12))
    inside = mask.low_frequency_only().apply(kspace)
    assert torch.equal(find(kspace, mask), find(inside, mask))


@every_finder
@pytest.mark.parametrize("axes", [1, 2])
def test_no_low_frequency_block(find: Espirit | LowResolutionMaps, axes: int) -> None:
    positions = np.zeros((12,) if axes == 1 else (16, 12), dtype=bool)
    positions[..., ::3] = True
    with pytest.raises(BadInputError, match=r"this mask has none.*Use a mask with") as error:
        find(made_kspace(1, 2, (16, 12)), Mask(positions, (0,) * axes))
    assert error.value.field == "low_frequency"
    assert "\n" not in str(error.value)


def test_a_mask_of_another_size() -> None:
    with pytest.raises(BadInputError, match=r"expected \(12,\)"):
        low_frequency_block(complex_normal((1, 2, 16, 12)), line_mask(10, 4))


def test_block_of_lines_and_points() -> None:
    kspace = complex_normal((2, 16, 13))
    assert low_frequency_block(kspace, line_mask(13, 5)) == (slice(0, 16), slice(4, 9))
    rows, columns = low_frequency_block(kspace, point_mask((16, 13), (4, 5)))
    assert (rows, columns) == (slice(6, 10), slice(4, 9))


def test_crop_takes_away_what_the_model_does_not_explain() -> None:
    kspace = made_kspace(1, 4, (40, 40), noise=0.02)
    mask = point_mask((40, 40), (24, 24))
    kept = [
        float((Espirit(crop=c)(kspace, mask).abs().sum(1) > 0).double().mean()) for c in (0, 0.9)
    ]
    assert kept[0] == 1
    assert 0.2 < kept[1] < 0.95


@pytest.mark.parametrize("coils", [1, 4, 16])
def test_a_narrow_block_still_gives_maps_inside(coils: int) -> None:
    matrix = (64, 60)
    kspace = made_kspace(1, coils, matrix, noise=1e-4)
    maps = Espirit()(kspace, point_mask(matrix, (10, 10)))[0]
    object_ = phantom(matrix).abs() > 0
    assert float((maps.abs().sum(0) > 0)[object_].double().mean()) > 0.95


def test_low_resolution_maps_are_the_ratio_of_images() -> None:
    kspace = made_kspace(1, 3, (20, 18))
    mask = point_mask((20, 18), (1, 1))
    # A block of one position is constant in the image, so the maps are its share of each coil.
    centre = kspace[0, :, 10, 9]
    expected = (centre / torch.linalg.norm(centre))[:, None, None].expand(3, 20, 18)
    torch.testing.assert_close(LowResolutionMaps()(kspace, mask)[0], expected)
    images = inverse_fourier(mask.low_frequency_only().apply(kspace))
    assert images.shape == (1, 3, 20, 18)
