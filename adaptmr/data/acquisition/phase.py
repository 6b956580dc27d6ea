"""Phase of the object: off-resonance over the echo time, and what the scanner adds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptmr.data.acquisition.smooth import SmoothMap, axes

_PROTON_HZ_PER_TESLA = 42.577e6
_SUSCEPTIBILITY = 9.0e-6
"""Of air against tissue: Schenck, Med Phys 23:815 (1996)."""


def _polynomial(generator: np.random.Generator, deviations: tuple[float, ...]) -> NDArray[Any]:
    """Random polynomial over the grid, in units of 100 mm; one deviation per order, from 0."""
    x, y, z = (axis / 100 for axis in np.meshgrid(*axes(), indexing="ij"))
    total = np.zeros_like(x)
    for order, deviation in enumerate(deviations):
        for first in range(order + 1):
            for second in range(order + 1 - first):
                weight = generator.normal(0, deviation)
                total += weight * x**first * y**second * z ** (order - first - second)
    return total


def off_resonance(generator: np.random.Generator, field_strength: float) -> SmoothMap:
    """Field map in Hz: what the shim leaves, and the dipole field of the air in the sinuses.

    Args:
        generator: source of randomness.
        field_strength: tesla; everything grows with it.

    Returns:
        (1, ...) float32 map.
    """
    x, y, z = np.meshgrid(*axes(), indexing="ij")
    radius = generator.uniform(10, 16)
    x, y, z = (
        x - generator.normal(0, 4),
        y - generator.uniform(48, 60),
        z + generator.uniform(38, 52),
    )
    distance = np.sqrt(x * x + y * y + z * z)
    # Inside and close by the field of a sphere is no dipole: hold its growth there.
    capped = np.maximum(distance, 1.5 * radius)
    dipole = _SUSCEPTIBILITY / 3 * radius**3 * (2 * z * z - x * x - y * y) / (capped**5)
    shim = _polynomial(generator, (2.0, 8.0, 12.0, 6.0)) * 1e-6 / 128
    hertz = (dipole + shim) * _PROTON_HZ_PER_TESLA * field_strength
    return SmoothMap(hertz[None].astype(np.float32))


def receive_phase(generator: np.random.Generator) -> SmoothMap:
    """Phase in rad that every sequence has: receiver, echo shift, eddy currents.

    Returns:
        (1, ...) float32 map, of order 2 in space.
    """
    return SmoothMap(_polynomial(generator, (2.0, 1.2, 0.8))[None].astype(np.float32))
