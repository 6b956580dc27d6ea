"""The low-frequency acquisition: its images, its scale, and that nothing else gets in."""

from pathlib import Path

import h5py
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from fastmri import ifft2c, rss_complex
from hypothesis import given, settings
from sampling_reference import kspace

from adaptmr.data.doors import open_scan
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.errors import BadInputError
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.low_frequency import acquire, acquire_scan, block_of

quick = settings(max_examples=25, deadline=None)
sizes = st.tuples(st.integers(2, 20), st.integers(2, 20))


def scan(data: torch.Tensor, acquired: torch.Tensor | None = None, padding=None) -> Scan:
    columns = data.shape[-1]
    return Scan(
        "scan.h5",
        Stack.of(data),
        torch.ones(columns, dtype=torch.bool) if acquired is None else acquired,
        padding or (0, columns),
        Header(),
    )


@quick
@given(matrix=sizes, coils=st.integers(1, 4), batch=st.integers(1, 3), data=st.data())
def test_image_is_that_of_the_block_alone(
    matrix: tuple[int, int], coils: int, batch: int, data: st.DataObject
) -> None:
    block = tuple(data.draw(st.integers(1, size)) for size in matrix)
    measured = kspace(matrix, batch, coils)
    low = acquire(measured, block)
    start = [(n - k + 1) // 2 for n, k in zip(matrix, block, strict=True)]
    masked = torch.zeros_like(measured)
    region = (..., *(slice(s, s + k) for s, k in zip(start, block, strict=True)))
    masked[region] = measured[region]
    expected = rss_complex(ifft2c(torch.view_as_real(masked)), dim=1)
    assert torch.allclose(low.image * low.scale[:, None, None], expected, atol=1e-5)
    assert torch.equal(low.kspace, measured[region])
    assert torch.allclose(low.image.amax((1, 2)), torch.ones(batch))
    assert (low.batch, low.coils, low.matrix, low.block) == (batch, coils, matrix, block)
    assert torch.allclose(
        torch.linalg.vector_norm(low.coil_images, dim=1), low.image * low.scale[:, None, None]
    )


@pytest.mark.parametrize("replacement", [0.0, 1e30, float("nan"), float("inf")])
def test_nothing_outside_the_block_gets_in(replacement: float) -> None:
    measured = kspace((17, 20), batch=2, coils=3)
    low = acquire(measured, (5, 6))
    changed = torch.full_like(measured, replacement)
    changed[(..., *low.region)] = measured[(..., *low.region)]
    again = acquire(changed, (5, 6))
    assert torch.equal(again.image, low.image)
    assert torch.equal(again.scale, low.scale)
    assert again.fingerprints == low.fingerprints
    assert low.kspace.untyped_storage().nbytes() < measured.untyped_storage().nbytes()


def test_lines_take_the_whole_readout() -> None:
    mask = make_mask(MaskSpec(kind=MaskKind.VARIABLE_DENSITY_1D, acceleration=4), (31, 40), seed=1)
    block = block_of(mask.low_frequency, (31, 40))
    assert block == (31, 3)
    measured = kspace((31, 40), coils=2)
    alone = mask.low_frequency_only().apply(measured)
    assert torch.equal(acquire(measured, block).image, acquire(alone, (31, 40)).image)


def test_block_is_where_masks_put_it() -> None:
    mask = make_mask(MaskSpec(kind=MaskKind.RANDOM_2D, acceleration=4), (31, 40), seed=1)
    low = acquire(kspace((31, 40)), block_of(mask.low_frequency, (31, 40)))
    assert low.region == mask.block


def test_published_block() -> None:
    # ada-sel: rows and columns 140 to 179 of 320.
    low = acquire(torch.zeros(1, 1, 320, 320, dtype=torch.complex64), (40, 40))
    assert low.region == (slice(140, 180), slice(140, 180))


def test_no_signal_has_scale_one() -> None:
    low = acquire(torch.zeros(2, 3, 8, 9, dtype=torch.complex64), (4, 4))
    assert torch.equal(low.scale, torch.ones(2))
    assert not low.image.any()


def test_scale_follows_the_data_and_the_image_does_not() -> None:
    measured = kspace((16, 15), dtype=torch.complex128)
    low, high = acquire(measured, (4, 5)), acquire(1e6 * measured, (4, 5))
    assert torch.allclose(high.scale, 1e6 * low.scale)
    assert torch.allclose(high.image, low.image)
    assert low.image.dtype == torch.float64


def test_fingerprints_tell_slices_blocks_and_matrices_apart() -> None:
    measured = kspace((16, 16), batch=2)
    low = acquire(measured, (4, 4))
    others = [acquire(measured, (4, 5)), acquire(kspace((18, 16), batch=2), (4, 4))]
    prints = {*low.fingerprints, *(p for other in others for p in other.fingerprints)}
    assert len(prints) == 6
    assert low[1:].fingerprints == low.fingerprints[1:]
    assert low.to("cpu").fingerprints == low.fingerprints


def test_a_scan_is_read_slice_by_slice_to_the_same() -> None:
    measured = kspace((16, 17), batch=3, coils=2)
    low, expected = acquire_scan(scan(measured), (6, 5)), acquire(measured, (6, 5))
    assert torch.equal(low.image, expected.image)
    assert torch.equal(low.scale, expected.scale)
    assert torch.equal(low.kspace, expected.kspace)


def test_scans_without_the_block_are_refused() -> None:
    measured = kspace((16, 17))
    acquired = torch.ones(17, dtype=torch.bool)
    acquired[8] = False
    with pytest.raises(BadInputError, match=r"does not hold the low-frequency block.*64 of 80"):
        acquire_scan(scan(measured, acquired), (16, 5))
    with pytest.raises(BadInputError, match="does not hold"):
        acquire_scan(scan(measured, padding=(8, 17)), (16, 5))


@pytest.mark.parametrize("block", [(0, 4), (4, 0), (9, 4), (4, 10), (-1, 4)])
def test_impossible_blocks_are_refused(block: tuple[int, int]) -> None:
    with pytest.raises(BadInputError, match="no such low-frequency block"):
        acquire(kspace((8, 9)), block)


def test_what_is_no_kspace_is_refused() -> None:
    with pytest.raises(BadInputError, match="complex k-space"):
        acquire(torch.zeros(1, 1, 8, 8), (4, 4))
    with pytest.raises(BadInputError, match="complex k-space"):
        acquire(kspace((8, 8))[0], (4, 4))
    broken = kspace((8, 8))
    broken[0, 0, 4, 4] = torch.nan
    with pytest.raises(BadInputError, match=r"not finite.*1 NaN or infinite of 16"):
        acquire(broken, (4, 4))


def test_real_scan(shared_data: Path) -> None:
    path = shared_data / "kspace" / "brain_8ch.h5"
    block = (24, 24)
    low = acquire_scan(open_scan(path), block)
    with h5py.File(path) as file:
        target = np.asarray(file["reconstruction_rss"])
    zoomed = low.image[0] * low.scale[0]
    assert zoomed.shape == target.shape[1:]
    assert float(np.corrcoef(zoomed.numpy().ravel(), target[0].ravel())[0, 1]) > 0.9
