"""Pose, size and shape of a subject: where a point of the scanner lies in the anatomy."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from adaptmr.data.anatomy.geometry import Array, RandomField


@dataclass(frozen=True)
class Deformation:
    """Scanner coordinates to anatomy coordinates, mm.

    Attributes:
        matrix: (3, 3) inverse rotation and scaling.
        shift: (3,) inverse translation.
        bends: three fields of the smooth displacement along x, y and z.
        amplitude: standard deviation of the smooth displacement, mm.
    """

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]
    bends: tuple[RandomField, RandomField, RandomField]
    amplitude: float

    @classmethod
    def draw(cls, generator: np.random.Generator, *, amplitude: float = 2.0) -> Self:
        """Draw a pose (a few degrees and mm), a size (a few per cent) and a smooth shape."""
        angles = np.radians(generator.normal(0, [4.0, 3.0, 4.0]))
        size = np.exp(generator.normal(0, 0.03) + generator.normal(0, 0.02, 3))
        rotation = Rotation.from_euler("xyz", angles).as_matrix()
        return cls(
            matrix=np.diag(1 / size) @ rotation,
            shift=generator.normal(0, [2.0, 3.0, 3.0]),
            bends=(
                RandomField.draw(generator, 90.0),
                RandomField.draw(generator, 90.0),
                RandomField.draw(generator, 90.0),
            ),
            amplitude=amplitude,
        )

    def applied(self, points: Array) -> Array:
        """The anatomy's coordinates of (3, n) points of the scanner, float32."""
        moved = self.matrix.astype(np.float32) @ points
        moved += self.shift.astype(np.float32)[:, None]
        bent: Array = moved + np.float32(self.amplitude) * np.stack(
            [bend.at(moved) for bend in self.bends]
        )
        return bent
