"""Pose, size and shape of a subject: where a point of the scanner lies in the anatomy."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from adaptmr.data.anatomy.geometry import Array, RandomField, interpolated


@dataclass(frozen=True)
class Deformation:
    """Scanner coordinates to anatomy coordinates, mm.

    Attributes:
        matrix: (3, 3) inverse rotation and scaling.
        shift: (3,) inverse translation.
        bends: three fields of the smooth displacement along x, y and z.
        amplitude: (3,) standard deviation of the smooth displacement, mm.
    """

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]
    bends: tuple[RandomField, RandomField, RandomField]
    amplitude: NDArray[np.float64]

    @classmethod
    def draw(
        cls,
        generator: np.random.Generator,
        *,
        free: tuple[bool, bool, bool] = (True, True, True),
    ) -> Self:
        """Draw a pose (a few degrees and mm), a size (a few per cent) and a smooth shape.

        Args:
            generator: source of randomness.
            free: axes x, y, z along which points may move; a thin slab is held along its normal.
        """
        held = ~np.asarray(free)
        angles = np.radians(generator.normal(0, [4.0, 3.0, 4.0]))
        # A rotation about one axis moves points along the two others.
        angles[[held[[1, 2]].any(), held[[0, 2]].any(), held[[0, 1]].any()]] = 0
        size = np.exp(generator.normal(0, 0.03) + generator.normal(0, 0.02, 3))
        size[held] = 1
        rotation = Rotation.from_euler("xyz", angles).as_matrix()
        return cls(
            matrix=np.diag(1 / size) @ rotation,
            shift=np.where(held, 0, generator.normal(0, [2.0, 3.0, 3.0])),
            bends=(
                RandomField.draw(generator, 90.0),
                RandomField.draw(generator, 90.0),
                RandomField.draw(generator, 90.0),
            ),
            amplitude=np.where(held, 0, 2.0),
        )

    def applied(self, points: Array) -> Array:
        """The anatomy's coordinates of (3, n) points of the scanner, float32."""
        moved = self.matrix.astype(np.float32) @ points
        moved += self.shift.astype(np.float32)[:, None]
        bend = interpolated(self.bends, moved)
        bent: Array = moved + self.amplitude.astype(np.float32)[:, None] * bend
        return bent
