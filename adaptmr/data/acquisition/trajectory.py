"""Which lines of k-space a Cartesian scan measures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SAFE = 0.16
"""Share of the columns about the centre that are never lost: without them there is no image."""


@dataclass(frozen=True)
class Lines:
    """Columns of k-space along the phase axis.

    Attributes:
        padding: columns ``padding[0] <= column < padding[1]`` belong to the scan; the others are
            zero, because of a reduced phase resolution or of partial Fourier.
        acquired: (phase,) bool, columns that were measured and arrived.
    """

    padding: tuple[int, int]
    acquired: NDArray[np.bool_]


def lines(
    phase: int,
    *,
    phase_resolution: float,
    partial_fourier: float,
    dropped: float,
    generator: np.random.Generator,
) -> Lines:
    """Lay out the lines of a scan.

    Args:
        phase: number of columns of the matrix.
        phase_resolution: share of the columns, about the centre, that the scan has; the others are
            padded with zeros (interpolated matrix).
        partial_fourier: share of those that are measured; the first ones are left out.
        dropped: share of the measured ones that are lost, at random outside the centre.
        generator: draws the lost ones.
    """
    encoded = max(1, round(phase * phase_resolution))
    right = phase // 2 - encoded // 2 + encoded
    left = min(phase // 2, right - max(1, round(encoded * partial_fourier)))
    acquired = np.zeros(phase, dtype=np.bool_)
    acquired[left:right] = True
    columns = np.flatnonzero(acquired)
    outer = columns[np.abs(columns - phase // 2) > _SAFE * phase / 2]
    lost = min(round(dropped * len(columns)), len(outer))
    acquired[generator.choice(outer, lost, replace=False)] = False
    return Lines((left, right), acquired)
