"""Draws of an exact number of positions, lines or points.

Each takes ``candidates`` (bool, the positions that may be drawn), ``block`` (bool of the same
shape, the low-frequency block), ``count`` and a generator, and returns the positions drawn, bool.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

# Positions less likely than this are as far apart as these: 32 steps for points.
_LEAST_INCLUSION = 1e-3


def uniform(
    candidates: NDArray[np.bool_],
    block: NDArray[np.bool_],  # noqa: ARG001 - one signature for all draws
    count: int,
    generator: np.random.Generator,
) -> NDArray[np.bool_]:
    """Draw ``count`` of the candidates, each as likely as the other."""
    return weighted(np.where(candidates, 0.0, -np.inf), count, generator)


def variable_density(
    candidates: NDArray[np.bool_],
    block: NDArray[np.bool_],  # noqa: ARG001 - one signature for all draws
    count: int,
    generator: np.random.Generator,
) -> NDArray[np.bool_]:
    """Draw ``count`` of the candidates with probability proportional to ``exp(-c r^(3/2))``.

    ``r`` is `radius` and ``c`` is `decay`, so that the probabilities sum to the count (ada-sel,
    Hong et al., ECCV 2024).
    """
    power = radius(candidates.shape) ** 1.5
    logarithm = -decay(power[candidates], count) * power
    return weighted(np.where(candidates, logarithm, -np.inf), count, generator)


def weighted(
    log_weight: NDArray[np.float64], count: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw ``count`` positions without replacement, weights ``exp(log_weight)``.

    One after another, each with its share of the weight that is left (Plackett-Luce law), drawn
    at once as the ``count`` largest of ``log_weight`` plus Gumbel noise (Gumbel top-k).

    Args:
        log_weight: any shape; ``-inf`` where a position must not be drawn.
        count: at most the number of finite weights.
        generator: where the noise comes from.
    """
    chosen = np.zeros(log_weight.size, dtype=np.bool_)
    keys = log_weight.ravel() + generator.gumbel(size=log_weight.size)
    if count:
        chosen[np.argpartition(-keys, count - 1)[:count]] = True
    return chosen.reshape(log_weight.shape)


def radius(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Distance from the centre ``n // 2``, in steps of the longest axis.

    On a matrix that is not square the shorter axis has the coarser steps, as if both axes reached
    equally far into k-space (isotropic resolution).
    """
    axes = [(np.arange(size) - size // 2) * (max(shape) / size) for size in shape]
    squares = np.meshgrid(*(axis**2 for axis in axes), indexing="ij")
    distance: NDArray[np.float64] = np.sqrt(np.sum(squares, axis=0))
    return distance


def decay(power: NDArray[np.float64], count: int) -> float:
    """The ``c >= 0`` at which ``exp(-c * power)`` sums to ``count``.

    Zero when even that sums to no more than the count; the largest finite one tried when the
    centre alone sums to more.
    """

    def excess(c: float) -> float:
        return float(np.exp(-c * power).sum()) - count

    if excess(0.0) <= 0:
        return 0.0
    upper = 1e-3
    while excess(upper) > 0 and upper < 1e3:
        upper *= 4
    return upper if excess(upper) > 0 else float(brentq(excess, 0.0, upper, xtol=1e-14))


def poisson_disc(
    candidates: NDArray[np.bool_],
    block: NDArray[np.bool_],
    count: int,
    generator: np.random.Generator,
) -> NDArray[np.bool_]:
    """Draw ``count`` of the candidates by throwing darts that keep their distance.

    A dart is refused within the radius ``1 + s d`` of an earlier one; ``d`` is the distance from
    the low-frequency block, 1 at the nearest edge of k-space. Darts are thrown in random order
    until the count is reached, with the largest slope ``s`` (by bisection) at which it is. So the
    density falls off from the centre and the budget is met exactly. On a grid, a radius between
    two of its distances does what the larger does, and the density would fall in steps; so each
    dart's radius is shortened at random by up to half a position. No two points are closer than
    the smaller of their radii, less one half.

    Sources: the radius law of ``sigpy.mri.poisson``; Cook, "Stochastic sampling in computer
    graphics", 1986.
    """
    order = generator.permutation(np.flatnonzero(candidates))
    distance = _beyond(block)
    dither = generator.random(candidates.shape) / 2
    return _widest(order, lambda slope: 1 + slope * distance - dither, count)


def spaced(
    inclusion: NDArray[np.float64],
    candidates: NDArray[np.bool_],
    count: int,
    generator: np.random.Generator,
) -> NDArray[np.bool_]:
    """Draw ``count`` of the candidates about as often as asked, but at a distance from each other.

    Darts are thrown as in `poisson_disc`. The radius follows the distance at which positions of
    this density lie from each other: ``s / inclusion`` for lines, ``s / sqrt(inclusion)`` for
    points, with the largest ``s`` at which the count is reached. Parallel imaging fills small gaps
    well and large ones not at all, so positions bring most where their neighbours are left out.

    Args:
        inclusion: share of draws that a position should be in, 0 to 1; lines or points.
        candidates: bool, positions that may be drawn.
        count: how many, at most the number of candidates.
        generator: where the randomness comes from.
    """
    apart = np.maximum(inclusion, _LEAST_INCLUSION) ** (-1 / inclusion.ndim)
    grid = np.atleast_2d(apart)
    order = generator.permutation(np.flatnonzero(candidates))
    dither = generator.random(grid.shape) / 2
    chosen = _widest(order, lambda scale: np.maximum(scale * grid, 1) - dither, count)
    return chosen.reshape(inclusion.shape)


def _widest(
    order: NDArray[np.int64], radii: Callable[[float], NDArray[np.float64]], count: int
) -> NDArray[np.bool_]:
    """The darts that land with the widest radii at which ``count`` of them do.

    Args:
        order: flat positions in the order in which darts are thrown at them.
        radii: of all positions, (rows, columns), for a width from 0, where any count is reached.
        count: at most the length of ``order``.
    """

    def thrown(width: float) -> list[int]:
        return _throw(order, radii(width), count)

    narrowest = radii(0.0)
    lower, upper, best = 0.0, 1.0, thrown(0.0)
    while len(darts := thrown(upper)) == count and upper < max(narrowest.shape):
        lower, upper, best = upper, 2 * upper, darts
    # A width finer than this moves no radius by more than 1 % of a position.
    while upper - lower > 0.01:
        width = (lower + upper) / 2
        darts = thrown(width)
        if len(darts) == count:
            lower, best = width, darts
        else:
            upper = width
    chosen = np.zeros(narrowest.size, dtype=np.bool_)
    chosen[best] = True
    return chosen.reshape(narrowest.shape)


def _beyond(block: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance from the low-frequency block over that of the nearest edge, per axis combined."""
    squares = []
    for size, length in zip(block.shape, _extent(block), strict=True):
        beyond = np.maximum(np.abs(np.arange(size) - size // 2) - length / 2, 0.0)
        squares.append((beyond / max(beyond.max(), 1.0)) ** 2)
    distance: NDArray[np.float64] = np.sqrt(np.sum(np.meshgrid(*squares, indexing="ij"), axis=0))
    return distance


def _extent(block: NDArray[np.bool_]) -> tuple[int, int]:
    return int(block.any(axis=1).sum()), int(block.any(axis=0).sum())


def _throw(order: NDArray[np.int64], radii: NDArray[np.float64], count: int) -> list[int]:
    """The darts that land: flat positions, at most ``count``.

    Plain Python over a byte array with a margin: marking the rows of a disc by slices is several
    times faster than NumPy on arrays this small.
    """
    rows, columns = radii.shape
    longest = max(rows, columns)
    down, across = longest / rows, longest / columns
    # Radii in steps of 1/16 share their footprints.
    steps = np.ceil(radii * 16).astype(int)
    largest = float(steps.max()) / 16
    above, beside = math.ceil(largest / down), math.ceil(largest / across)
    width = columns + 2 * beside
    taken = bytearray(width * (rows + 2 * above))
    footprints: dict[int, list[tuple[int, int, bytes]]] = {}
    position = (order // columns + above) * width + order % columns + beside
    landed: list[int] = []
    step = steps.ravel()[order]
    for flat, place, size in zip(order.tolist(), position.tolist(), step.tolist(), strict=True):
        if taken[place]:
            continue
        if len(landed) == count:
            break
        landed.append(flat)
        if size not in footprints:
            footprints[size] = _footprint(size / 16, down, across, width)
        for start, length, ones in footprints[size]:
            taken[place + start : place + start + length] = ones
    return landed


def _footprint(
    radius: float, down: float, across: float, width: int
) -> list[tuple[int, int, bytes]]:
    """Rows of a disc as (offset from its centre in the flat array, length, that many ones)."""
    rows = []
    reach = math.ceil(radius / down) - 1
    for row in range(-reach, reach + 1):
        half = math.ceil(math.sqrt(radius**2 - (row * down) ** 2) / across) - 1
        rows.append((row * width - half, 2 * half + 1, b"\1" * (2 * half + 1)))
    return rows
