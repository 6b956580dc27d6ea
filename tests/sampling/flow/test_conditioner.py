"""The conditioner: what it sees of the block, and the sizes of its features."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from small_flows import SMALL

from adaptmr.data.weights import initialise
from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.sampling.flow.conditioner import Conditioner, Resampling
from adaptmr.sampling.low_frequency import acquire

quick = settings(max_examples=25, deadline=None)


def kspace(matrix: tuple[int, int], coils: int = 2, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, coils, *matrix, generator=generator, dtype=torch.complex128)


def shifted_by(block: torch.Tensor, matrix: tuple[int, int]) -> torch.Tensor:
    """The block's k-space, its image shifted so that samples lie at the centres of cells."""
    for axis, size in zip((-2, -1), matrix, strict=True):
        count = block.shape[axis]
        frequency = torch.arange(count, dtype=torch.float64) - count // 2
        # Where the transform puts sample 0, and where the centre of cell 0 is, in pixels.
        transform = size // 2 - count // 2 * size / count
        centre = 0.5 * size / count - 0.5
        wave = torch.exp(2j * torch.pi * frequency * (centre - transform) / size)
        block = block * (wave if axis == -1 else wave[:, None])
    return block


@quick
@given(rows=st.integers(3, 16), columns=st.integers(3, 16), data=st.data())
def test_resampling_is_the_inverse_transform_of_the_block_alone(
    rows: int, columns: int, data: st.DataObject
) -> None:
    matrix = (rows, columns)
    block = (
        data.draw(st.integers(1, (rows + 1) // 2)),
        data.draw(st.integers(1, (columns + 1) // 2)),
    )
    known = acquire(kspace(matrix), block)
    own = inverse_fourier(shifted_by(known.kspace, matrix))
    own = torch.linalg.vector_norm(own, dim=1) / known.scale[:, None, None]
    own = own * (block[0] * block[1] / (rows * columns)) ** 0.5
    # The block of even length reaches further to one side: its own transform counts from there.
    assert Resampling(matrix, block)(known.image).shape == own.shape
    torch.testing.assert_close(Resampling(matrix, block)(known.image), own, atol=1e-9, rtol=0)


def test_resampling_to_the_same_grid_changes_nothing() -> None:
    image = acquire(kspace((11, 13)), (5, 6)).image
    torch.testing.assert_close(Resampling((11, 13), (11, 13))(image), image, atol=1e-9, rtol=0)


@pytest.mark.parametrize("stacked", [(), (0, 1)])
@pytest.mark.parametrize("block", [(4, 4), (5, 3), (16, 2)])
def test_features_fit_the_levels(stacked: tuple[int, ...], block: tuple[int, int]) -> None:
    config = SMALL.model_copy(update={"stacked_blocks": stacked})
    sizes = [(8, 10), (4, 5), (2, 3)]
    conditioner = Conditioner(config, (16, 20), block, sizes)
    initialise(conditioner, 0)
    low = torch.rand(3, 16, 20, generator=torch.Generator().manual_seed(0))
    levels, whole = conditioner(low, torch.zeros_like(low))
    assert [tuple(level.shape) for level in levels] == [
        (3, conditioner.channels, *size) for size in sizes
    ]
    assert conditioner.channels == config.features * (1 + len(stacked))
    assert whole.shape == (3, 2 * config.features)


def test_features_follow_image_and_disturbance() -> None:
    conditioner = Conditioner(SMALL, (16, 16), (4, 4), [(8, 8), (4, 4)])
    initialise(conditioner, 0)
    low = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0))
    none = torch.zeros_like(low)
    with torch.no_grad():
        plain, other, disturbed = (
            conditioner(*inputs)[0][0]
            for inputs in ((low, none), (low.flip(-1), none), (low, none + 0.1))
        )
    assert not torch.allclose(plain, other)
    assert not torch.allclose(plain, disturbed)
