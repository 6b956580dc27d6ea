"""Level functions of simple bodies, and smooth random fields, at points in mm.

Points are (3, n) float32, rows x to the right, y to the front, z to the top of the head. A level
function is negative inside its body and close to the distance in mm near its surface.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft
from torch.nn.functional import grid_sample

Array = NDArray[np.float32]


def ellipsoid(points: Array, centre: Sequence[float], axes: Sequence[float]) -> Array:
    """First-order distance to an axis-parallel ellipsoid.

    Args:
        points: (3, n) mm.
        centre: centre, mm.
        axes: half axes, mm.

    Returns:
        (n,) level function f (f - 1) / |grad f| with f the normalised radius.
    """
    radius = np.zeros(points.shape[1], dtype=np.float32)
    slope = np.zeros_like(radius)
    for row, middle, half in zip(points, centre, axes, strict=True):
        scaled = (row - np.float32(middle)) / np.float32(half)
        radius += scaled * scaled
        slope += (scaled / np.float32(half)) ** 2
    np.sqrt(radius, out=radius)
    np.sqrt(slope, out=slope)
    level: Array = radius * (radius - 1) / np.maximum(slope, np.float32(1e-6))
    return level


def tube(points: Array, nodes: Sequence[Sequence[float]]) -> Array:
    """Distance to a tube along a line of nodes, its radius running linearly between them.

    Args:
        points: (3, n) mm.
        nodes: two or more (x, y, z, radius), mm.
    """
    level = np.full(points.shape[1], np.inf, dtype=np.float32)
    for start, stop in pairwise(nodes):
        begin = np.asarray(start[:3], dtype=np.float32)[:, None]
        along = np.asarray(stop[:3], dtype=np.float32)[:, None] - begin
        offset = points - begin
        share = np.clip((offset * along).sum(0) / (along * along).sum(), 0, 1)
        away = offset - share * along
        distance = np.sqrt((away * away).sum(0))
        radius = np.float32(start[3]) + share * np.float32(stop[3] - start[3])
        np.minimum(level, distance - radius, out=level)
    return level


def smooth_union(first: Array, second: Array, width: float) -> Array:
    """Union of two bodies, rounded over ``width`` mm where they meet (polynomial minimum)."""
    near = np.maximum(np.float32(width) - np.abs(first - second), 0) / np.float32(width)
    union: Array = np.minimum(first, second) - near * near * np.float32(width / 4)
    return union


def mirrored(points: Array) -> Array:
    """The points with x made positive: one body then stands on both sides of the midline."""
    return np.stack([np.abs(points[0]), points[1], points[2]])


@dataclass(frozen=True)
class RandomField:
    """A stationary Gaussian random field of one band of wavelengths, unit variance, periodic.

    Attributes:
        grid: (k, k, k) float32 values on a grid.
        spacing: distance of the grid's points, mm.
    """

    grid: Array
    spacing: float

    @classmethod
    def draw(cls, generator: np.random.Generator, wavelength: float, *, band: float = 0.25) -> Self:
        """Filter white noise to wavelengths about ``wavelength``.

        Args:
            generator: source of randomness.
            wavelength: mm.
            band: relative half width of the pass band (standard deviation of a Gaussian).
        """
        spacing = wavelength / 8
        # Long enough to hide the period where that is affordable.
        size = int(min(96, max(24, fft.next_fast_len(int(np.ceil(240 / spacing)), real=True))))
        axis = fft.fftfreq(size, d=spacing)
        last = fft.rfftfreq(size, d=spacing)
        frequency = np.sqrt(
            axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + last[None, None, :] ** 2
        )
        gain = np.exp(-0.5 * ((frequency * wavelength - 1) / band) ** 2)
        gain[0, 0, 0] = 0
        noise = generator.standard_normal((size, size, size), dtype=np.float32)
        filtered = fft.irfftn(fft.rfftn(noise) * gain.astype(np.float32), s=noise.shape)
        return cls((filtered / filtered.std()).astype(np.float32), spacing)

    def as_distance(self) -> Self:
        """Signed distance to the field's zero set in mm, to second order.

        Solves ``|g| = s d + h d^2 / 2`` for d, with the local slope s and the typical curvature h;
        the first-order |g| / s would leave holes where the slope vanishes.
        """
        slopes = [
            (np.roll(self.grid, -1, axis) - np.roll(self.grid, 1, axis)) / (2 * self.spacing)
            for axis in range(3)
        ]
        square = np.sum([part * part for part in slopes], axis=0)
        value = np.abs(self.grid)
        distance = 2 * self.grid / (np.sqrt(square) + np.sqrt(square + 0.6 * square.mean() * value))
        return type(self)(distance.astype(np.float32), self.spacing)

    def at(self, points: Array) -> Array:
        """Values at (3, n) points in mm, linear between grid points."""
        values: Array = interpolated([self], points)[0]
        return values


def interpolated(fields: Sequence[RandomField], points: Array) -> Array:
    """Values (fields, n) of fields of one spacing and size at (3, n) points in mm."""
    size, spacing = len(fields[0].grid), np.float32(fields[0].spacing)
    periodic = np.pad(np.stack([field.grid for field in fields]), [(0, 0)] + [(0, 1)] * 3, "wrap")
    cells = torch.from_numpy(points / spacing)
    cells -= size * torch.floor(cells / size)
    # grid_sample counts axes from the last, and from -1 to 1.
    places = (cells * (2 / size) - 1).flip(0).T[None, None, None]
    grid = torch.from_numpy(periodic)[None]
    values: Array = grid_sample(grid, places, align_corners=True)[0, :, 0, 0].numpy()
    return values
