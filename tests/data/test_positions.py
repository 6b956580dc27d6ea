import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as any_array

from adaptmr.data.positions import (
    as_lines,
    centred_block,
    columns,
    largest_block,
    nonzero_positions,
    phase_axes,
)
from adaptmr.data.scan import Header, Stack

masks = any_array(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@settings(max_examples=25, deadline=None)
@given(masks)
def test_lines_and_points_say_the_same(points: np.ndarray) -> None:
    found = as_lines(points)
    np.testing.assert_array_equal(np.broadcast_to(found, points.shape), points)
    lines = np.broadcast_to(points[0], points.shape)
    assert as_lines(lines).shape == points.shape[1:]


@settings(max_examples=25, deadline=None)
@given(masks)
def test_nonzero_positions_are_found(points: np.ndarray) -> None:
    kspace = torch.zeros((2, 3, *points.shape), dtype=torch.complex64)
    kspace[1, 2, torch.from_numpy(points)] = 1e-30j
    np.testing.assert_array_equal(nonzero_positions(Stack.of(kspace)), points)


@settings(max_examples=25, deadline=None)
@given(masks)
def test_block_is_full_and_square_blocks_are_no_larger(points: np.ndarray) -> None:
    sizes = largest_block(points)
    block = tuple(centred_block(n, k) for n, k in zip(points.shape, sizes, strict=True))
    assert points[block].all()
    for size in range(1, min(points.shape) + 1):
        square = tuple(centred_block(n, size) for n in points.shape)
        if points[square].all():
            assert min(sizes) >= size


def test_columns() -> None:
    assert columns((1, 3), 5).tolist() == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("points", "axes"),
    [
        (np.eye(4, dtype=bool), 2),
        (np.outer([0, 1, 1, 1], [1, 0, 1, 0]).astype(bool), 1),
        (np.ones(4, bool), 1),
    ],
)
def test_phase_axes(points: np.ndarray, axes: int) -> None:
    assert phase_axes(Header(), points) == axes
    assert phase_axes(Header(phase_axes=2), points) == 2
