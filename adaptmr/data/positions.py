"""Positions of k-space: lines (phase,) or points (readout, phase)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaptmr.data.scan import Header, Stack
from adaptmr.errors import BadInputError


def columns(padding: tuple[int, int], phase: int) -> NDArray[np.bool_]:
    """The columns from ``padding[0]`` to ``padding[1] - 1`` as bool (phase,)."""
    inside = np.zeros(phase, dtype=np.bool_)
    inside[padding[0] : padding[1]] = True
    return inside


def mask_positions(
    values: NDArray[np.generic],
    matrix: tuple[int, int],
    encoded: NDArray[np.bool_],
    path: Path | str,
) -> NDArray[np.bool_]:
    """A mask array of a file, checked against the k-space it belongs to, without the padding.

    Args:
        values: (phase,) or (readout, phase), bool or numbers that are 0 or 1.
        matrix: (readout, phase) of the k-space.
        encoded: (phase,) columns that exist.
        path: the file, for the message.

    Raises:
        BadInputError: another shape, other values, or nothing acquired.
    """
    if values.shape not in (matrix, matrix[1:]):
        raise BadInputError(
            "the mask does not fit the k-space",
            file=path,
            field="mask",
            got=f"shape {values.shape}",
            expected=f"{matrix[1:]} for lines or {matrix} for points",
            hint="Store the mask that the scan was acquired with",
        )
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise BadInputError(
            "the mask has values other than 0 and 1",
            file=path,
            field="mask",
            got=values.dtype,
            expected="bool, or numbers that are 0 or 1",
        )
    acquired: NDArray[np.bool_] = np.logical_and(values, encoded)
    if not acquired.any():
        raise BadInputError(
            "the mask acquires nothing", file=path, field="mask", expected="at least one line"
        )
    return acquired


def nonzero_positions(kspace: Stack) -> NDArray[np.bool_]:
    """Positions (readout, phase) that are not exactly zero in every slice and coil.

    How formats without a mask (BART, plain arrays) tell what was acquired: measured samples carry
    noise and are never exactly zero. Reads the volume once, slice by slice.

    Args:
        kspace: (slices, coils, readout, phase).
    """
    found = np.zeros(kspace.shape[2:], dtype=np.bool_)
    for one_slice in kspace:
        found |= (one_slice != 0).any(0).numpy()
    return found


def as_lines(acquired: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Positions (readout, phase) as (phase,) where whole lines were acquired, else unchanged."""
    if acquired.ndim == 2 and np.array_equal(
        acquired, np.broadcast_to(acquired[0], acquired.shape)
    ):
        return np.array(acquired[0])
    return acquired


def phase_axes(header: Header, acquired: NDArray[np.bool_]) -> int:
    """2 when the acquired points can only come of two phase encodes, else what the header says.

    Points that are some rows of some columns are lines with a partial echo, so one phase encode.
    """
    if acquired.ndim == 1:
        return header.phase_axes
    partial_echo = np.array_equal(acquired, np.outer(acquired.any(axis=1), acquired.any(axis=0)))
    return header.phase_axes if partial_echo else 2


def centred_block(size: int, length: int) -> slice:
    """The ``length`` positions about the centre of an axis of ``size``, as fastMRI places them."""
    start = (size - length + 1) // 2
    return slice(start, start + length)


def largest_block(positions: NDArray[np.bool_]) -> tuple[int, ...]:
    """Sizes of the largest centred block that is fully acquired; zeros when the centre is not."""

    def full(sizes: tuple[int, ...]) -> bool:
        index = tuple(centred_block(n, k) for n, k in zip(positions.shape, sizes, strict=True))
        return bool(positions[index].all())

    def grown(sizes: tuple[int, ...], by: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(min(n, k + d) for n, k, d in zip(positions.shape, sizes, by, strict=True))

    # Blocks are nested, so growing step by step finds the largest square, then widens it.
    sizes = (0,) * positions.ndim
    for by in [(1,) * positions.ndim, *np.eye(positions.ndim, dtype=int).tolist()]:
        while (larger := grown(sizes, tuple(by))) != sizes and full(larger):
            sizes = larger
    return sizes if all(sizes) else (0,) * positions.ndim
