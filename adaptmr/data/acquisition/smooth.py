"""Smooth maps on a coarse grid in mm, read at any matrix size."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

HALF_WIDTHS = (115.0, 130.0, 125.0)
"""Half widths of the box the maps are known in, mm: right, front, top. Outside, where there is
nothing that gives signal, they continue with their value on its border."""

_NODES = 31


def axes() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates of the grid's nodes along x, y and z, mm."""
    x, y, z = (np.linspace(-half, half, _NODES) for half in HALF_WIDTHS)
    return x, y, z


@dataclass(frozen=True)
class SmoothMap:
    """Maps that are smooth in space; the grid is fixed in mm, so no matrix size changes them.

    Attributes:
        values: (channels, nodes, nodes, nodes) on the grid of `axes`, real or complex.
    """

    values: NDArray[Any]

    def on_grid(
        self, x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
    ) -> NDArray[Any]:
        """Cubic-spline interpolation on the grid that three coordinate axes span.

        Args:
            x: coordinates to the right, mm.
            y: coordinates to the front, mm.
            z: coordinates to the top, mm.

        Returns:
            (channels, len(x), len(y), len(z)), single precision.
        """
        result = self.values
        order = sorted(range(3), key=lambda axis: len((x, y, z)[axis]))
        for axis in order:
            nodes, half = axes()[axis], HALF_WIDTHS[axis]
            spline = make_interp_spline(nodes, np.eye(len(nodes)), k=3)
            weights = spline(np.clip((x, y, z)[axis], -half, half)).astype(np.float32)
            result = np.moveaxis(np.tensordot(result, weights, axes=(axis + 1, 1)), -1, axis + 1)
        return result
