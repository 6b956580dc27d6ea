"""Receive coils: loops around the head, their sensitivities after Biot and Savart."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ellipe, ellipk

from adaptmr.data.acquisition.smooth import SmoothMap, axes
from adaptmr.errors import BadInputError

COILS = range(1, 33)
"""Numbers of coils that an array can have."""

_FORMER = (138.0, 155.0)
"""Half axes of the elliptic cylinder the loops sit on, mm; the head must fit inside."""

_CONDUCTOR = 10.0
"""Width of the conductor, mm; it keeps the field finite at the wire."""


def loop_field(
    points: NDArray[np.float64], radius: float, conductor: float = 0.0
) -> NDArray[np.float64]:
    """Magnetic field of a circular loop of unit current, by complete elliptic integrals.

    Source: Simpson et al., NASA/TM-2001-210919, in units where mu0 / pi = 1.

    Args:
        points: (..., 3) mm, about the loop's centre, its normal along the last axis.
        radius: radius of the loop, mm.
        conductor: width over which the wire is smeared out, mm.

    Returns:
        (..., 3) field along the same axes.
    """
    x, y, z = np.moveaxis(points, -1, 0)
    across = np.maximum(np.hypot(x, y), 1e-6 * radius)
    square = across * across + z * z + radius * radius + conductor * conductor
    near = square - 2 * radius * across
    far = square + 2 * radius * across
    modulus = 1 - near / far
    first, second = ellipk(modulus), ellipe(modulus)
    shared = 1 / (2 * near * np.sqrt(far))
    axial = shared * ((2 * radius * radius - square) * second + near * first)
    radial = shared * z / across * (square * second - near * first)
    return np.stack([radial * x / across, radial * y / across, axial], axis=-1)


def coil_array(coils: int, generator: np.random.Generator) -> SmoothMap:
    """Complex sensitivities of an array of loops on rows around the head.

    The sensitivity is the field's component that rotates with the spins, Bx - i By (Hoult, Concepts
    Magn Reson 12:173, 2000), with the main field along z. One coil is a birdcage: eight loops
    combined in quadrature, nearly uniform. The root sum of squares is about 1 in the head.

    Args:
        coils: 1 to 32.
        generator: places the loops, a few mm and degrees off their nominal places.

    Returns:
        (coils, ...) complex64 maps.

    Raises:
        BadInputError: the number of coils is out of range.
    """
    if coils not in COILS:
        raise BadInputError(
            "there is no coil array of this size", field="coils", got=coils, expected="1 to 32"
        )
    grid = np.stack(np.meshgrid(*axes(), indexing="ij"), axis=-1)
    rows = 1 if coils <= 8 else 2 if coils <= 16 else 3
    loops = 8 if coils == 1 else coils
    heights = {1: [0.0], 2: [-38.0, 38.0], 3: [-62.0, 0.0, 62.0]}[rows]
    maps = []
    for row, height in enumerate(heights):
        count = len(range(row, loops, rows))
        start = generator.uniform(0, 2 * np.pi)
        for index in range(count):
            turn = start + 2 * np.pi * (index + generator.normal(0, 0.03)) / count
            place = np.array([_FORMER[0] * np.cos(turn), _FORMER[1] * np.sin(turn), height])
            place[2] += generator.normal(0, 4)
            radius = min(75.0, 1.15 * np.pi * sum(_FORMER) / 2 / max(count, 4))
            maps.append(_sensitivity(grid, place, radius))
    sensitivities: NDArray[Any] = np.stack(maps)
    if coils == 1:
        angles = 2 * np.pi * np.arange(loops) / loops
        # Each loop is turned back by its azimuth, so that all add up in the middle.
        sensitivities = np.tensordot(np.exp(1j * angles), sensitivities, 1)[None]
    energy = (np.abs(sensitivities) ** 2).sum(0)[_head()].mean()
    return SmoothMap((sensitivities / np.sqrt(energy)).astype(np.complex64))


def _sensitivity(
    grid: NDArray[np.float64], place: NDArray[np.float64], radius: float
) -> NDArray[np.complex128]:
    inward = -place * [1, 1, 0.5]
    inward /= np.linalg.norm(inward)
    side = np.cross([0.0, 0.0, 1.0], inward)
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(inward, side), inward])
    field = loop_field((grid - place) @ frame.T, radius, _CONDUCTOR) @ frame
    return np.asarray(field[..., 0] - 1j * field[..., 1])


def _head() -> NDArray[np.bool_]:
    """Nodes of the grid inside a head-sized ellipsoid."""
    x, y, z = np.meshgrid(*axes(), indexing="ij")
    return np.asarray((x / 75) ** 2 + (y / 92) ** 2 + (z / 75) ** 2 < 1)


def noise_covariance(
    coils: SmoothMap, correlation: float, generator: np.random.Generator
) -> NDArray[np.complex128]:
    """Covariance of the coils' noise.

    Coils that see the same tissue hear the same noise (Roemer et al., Magn Reson Med 16:192, 1990):
    their covariance is taken as the overlap of the sensitivities in the head, mixed with the
    uncorrelated noise of the preamplifiers; the gains of the channels differ by some 10 %.

    Args:
        coils: the array.
        correlation: share of the noise that comes from the head, 0 to below 1.
        generator: draws the gains.

    Returns:
        (coils, coils) Hermitian, positive definite, with a mean diagonal of 1.
    """
    sensitivities = coils.values[:, _head()].astype(np.complex128)
    overlap = sensitivities @ sensitivities.conj().T
    scale = np.sqrt(np.diag(overlap).real)
    overlap /= np.outer(scale, scale)
    mixed = (1 - correlation) * np.eye(len(overlap)) + correlation * overlap
    gains = np.exp(generator.normal(0, 0.1, len(overlap)))
    covariance = mixed * np.outer(gains, gains)
    return np.asarray(covariance * len(overlap) / np.trace(covariance).real)


def noise(
    covariance: NDArray[np.complex128], samples: tuple[int, ...], generator: np.random.Generator
) -> NDArray[np.complex64]:
    """Circular complex Gaussian noise, (coils, *samples).

    The real and the imaginary part each have the covariance's diagonal as variance.
    """
    shape = (len(covariance), *samples)
    white = generator.standard_normal(shape, dtype=np.float32) + 1j * generator.standard_normal(
        shape, dtype=np.float32
    )
    mixing = np.linalg.cholesky(covariance).astype(np.complex64)
    return np.tensordot(mixing, white, 1).astype(np.complex64)
