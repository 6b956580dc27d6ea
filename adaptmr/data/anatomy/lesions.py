"""Lesions that are laid over an anatomy: white-matter lesions, and a tumour with its oedema."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptmr.data.anatomy.geometry import Array, RandomField
from adaptmr.data.anatomy.tissue import BRAIN, Tissue

_MASS_EFFECT = 0.35
"""Share of the tumour's volume that displaces tissue; the rest has infiltrated it."""


@dataclass(frozen=True)
class Tumour:
    """A tumour; lengths in mm.

    Attributes:
        centre: (x, y, z).
        radius: mean radius of its solid part.
        oedema: mean reach of the oedema beyond it.
        necrosis: radius of the necrotic core over that of the solid part.
    """

    centre: tuple[float, float, float]
    radius: float
    oedema: float
    necrosis: float


@dataclass(frozen=True)
class Lesions:
    """What is wrong with one brain.

    Attributes:
        spots: (k, 4) white-matter lesions: centre and radius, mm.
        tumour: the tumour, if there is one.
        shape: field that makes outlines irregular.
    """

    spots: NDArray[np.float64]
    tumour: Tumour | None
    shape: RandomField

    def displaced(self, points: Array) -> Array:
        """Where the tissue at ``points`` would lie without the tumour's mass effect.

        Tissue is incompressible: what lay at radius r0 now lies at (r0^3 + m R^3)^(1/3).

        Args:
            points: (3, n) mm.
        """
        if self.tumour is None:
            return points
        centre = np.asarray(self.tumour.centre, dtype=np.float32)[:, None]
        offset = points - centre
        radius = np.sqrt((offset * offset).sum(0)) + np.float32(1e-3)
        mass = np.float32(_MASS_EFFECT * self.tumour.radius**3)
        origin = np.cbrt(np.maximum(radius**3 - mass, 0))
        moved: Array = centre + offset * (origin / radius)
        return moved

    def laid_over(self, tissue: NDArray[np.uint8], points: Array) -> NDArray[np.uint8]:
        """Tissue with the lesions in it: lesions and oedema in white matter, tumour in brain.

        Args:
            tissue: (n,) healthy tissue.
            points: (3, n) mm, before `displaced`.
        """
        result = tissue.copy()
        for x, y, z, size in self.spots:
            reach = 1.6 * size
            near = np.flatnonzero(
                (np.abs(points[0] - x) < reach)
                & (np.abs(points[1] - y) < reach)
                & (np.abs(points[2] - z) < reach)
                & (tissue == Tissue.WHITE_MATTER)
            )
            place = points[:, near]
            away = np.sqrt((place[0] - x) ** 2 + (place[1] - y) ** 2 + (place[2] - z) ** 2)
            inside = away < size * (1 + 0.2 * np.clip(self.shape.at(place), -2, 2))
            result[near[inside]] = Tissue.WHITE_MATTER_LESION
        if self.tumour is not None:
            self._grow(self.tumour, result, points)
        return result

    def _grow(self, tumour: Tumour, tissue: NDArray[np.uint8], points: Array) -> None:
        reach = 1.5 * (tumour.radius + tumour.oedema)
        offset = points - np.asarray(tumour.centre, dtype=np.float32)[:, None]
        away = np.sqrt((offset * offset).sum(0))
        near = np.flatnonzero((away < reach) & np.isin(tissue, (*BRAIN, Tissue.CSF)))
        ragged = np.clip(self.shape.at(points[:, near] * np.float32(0.5)), -2, 2)
        distance = away[near]
        solid = distance < tumour.radius * (1 + 0.16 * ragged)
        core = distance < tumour.necrosis * tumour.radius * (1 + 0.3 * ragged)
        # Oedema spreads through white matter and stops at the cortex: hence its fingers.
        wet = distance < tumour.radius + tumour.oedema * (1 + 0.3 * ragged)
        current = tissue[near]
        current[wet & (current == Tissue.WHITE_MATTER)] = Tissue.OEDEMA
        current[solid] = Tissue.TUMOUR
        current[solid & core] = Tissue.NECROSIS
        tissue[near] = current
