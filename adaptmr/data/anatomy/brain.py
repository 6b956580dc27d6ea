"""The parametric brain: folded cortex, white matter, deep nuclei, ventricles, cerebellum.

Sulci are the zero set of a random field, a labyrinth of sheets, taken at points pushed outwards
along the radius so that the sheets dive into the brain; the cortex is a ribbon of constant
thickness along the outer surface and along every sheet.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from adaptmr.data.anatomy.geometry import (
    Array,
    RandomField,
    ellipsoid,
    mirrored,
    smooth_union,
    tube,
)
from adaptmr.data.anatomy.tissue import Tissue

CEREBRUM = ((0.0, 0.0, 12.0), (68.0, 86.0, 60.0))
"""Centre and half axes of the space for the cerebrum, mm."""

POSTERIOR_FOSSA = ((0.0, -44.0, -36.0), (54.0, 44.0, 32.0))
"""Centre and half axes of the space for the cerebellum, mm."""


@dataclass(frozen=True)
class Brain:
    """One brain; lengths in mm.

    Attributes:
        gap: subarachnoid space over the cerebrum.
        sulcus: half width of the sulci at their mouth.
        cortex: thickness of the cortex.
        ventricles: widening of the ventricles, 1 in a young adult.
        folds: distance to the nearest sulcal sheet.
        wobble: field that keeps planes and outlines from being straight.
    """

    gap: float
    sulcus: float
    cortex: float
    ventricles: float
    folds: RandomField
    wobble: RandomField

    @classmethod
    def draw(cls, generator: np.random.Generator, age: float) -> Self:
        """Draw a brain of an age in years.

        The course with age is that of the reviews (Fjell and Walhovd, Rev Neurosci 21:187, 2010):
        ventricles and sulci widen, faster after sixty; the cortex thins slowly.
        """
        late = max(0.0, age - 55.0) / 30.0
        adult = (age - 20.0) / 65.0
        spread = generator.standard_normal(4).tolist()
        return cls(
            gap=max(1.2, 1.8 + 0.8 * adult + 1.5 * late + 0.3 * spread[0]),
            sulcus=max(0.35, 0.55 + 0.3 * adult + 0.7 * late + 0.1 * spread[1]),
            cortex=max(2.2, 3.1 - 0.4 * adult + 0.12 * spread[2]),
            ventricles=max(0.6, 0.85 + 0.3 * adult + 0.75 * late + 0.1 * spread[3]),
            folds=RandomField.draw(generator, 25.0).as_distance(),
            wobble=RandomField.draw(generator, 30.0),
        )

    def tissue(self, points: Array) -> NDArray[np.uint8]:
        """Tissue at points inside the skull.

        Args:
            points: (3, n) mm.

        Returns:
            (n,) `Tissue`; CSF wherever nothing else is.
        """
        wobble = self.wobble.at(points)
        cerebellum = ellipsoid(points, (0, -47, -37), (50, 39.5, 27.5)) + wobble * np.float32(0.8)
        tissue = self._cerebrum(points, wobble, cerebellum)
        self._cerebellum(points, tissue, wobble, cerebellum)
        low = np.flatnonzero((np.abs(points[0]) < 20) & (points[2] < 6))
        upper = tube(points[:, low], ((0, -13, -8, 11), (0, -12, -20, 12), (0, -13, -31, 15)))
        lower = tube(points[:, low], ((0, -15, -36, 14), (0, -24, -55, 9), (0, -34, -115, 7)))
        tissue[low[smooth_union(upper, lower, 6) < 0]] = Tissue.WHITE_MATTER
        self._deep(points, tissue, wobble)
        return tissue

    def _cerebrum(self, points: Array, wobble: Array, cerebellum: Array) -> NDArray[np.uint8]:
        x, y, z = points
        centre, axes = CEREBRUM
        outer = ellipsoid(points, centre, axes) + np.float32(self.gap)
        # Room for the tentorium, for the cisterns below, and for the brain stem.
        cistern = smooth_union(
            ellipsoid(points, (0, 14, -30), (15, 16, 13)),
            ellipsoid(points, (0, -14, -42), (19, 20, 30)),
            6,
        )
        floor = np.maximum(-cistern + wobble, 2.5 - cerebellum)
        outer = np.maximum(outer, floor)
        depth = -outer

        midline = x + wobble * np.float32(0.7)
        callosum = np.sqrt(((y + 3) / 44) ** 2 + ((z - 4) / 25) ** 2)
        below = np.maximum(1 - callosum, 0) * 30
        medial = np.hypot(midline, below)

        slope = z + 3 + np.float32(0.45) * (y - 4) + wobble * 3
        lateral = np.hypot(
            np.maximum(36 - np.abs(x), 0),
            np.maximum(np.abs(y - 3) - 33, 0),
        )
        sylvian = np.hypot(slope * np.float32(0.9), lateral)

        # Sheets are read at points pushed out to the surface, so that they run inwards.
        offset = points - np.asarray(centre, dtype=np.float32)[:, None]
        scaled = offset / np.asarray(axes, dtype=np.float32)[:, None]
        radius = np.sqrt((scaled * scaled).sum(0))
        shrink = np.clip(radius, 0.35, 1.1) ** np.float32(0.7)
        sheet = np.abs(self.folds.at(offset / shrink)) * shrink
        reach = np.minimum(depth, np.minimum(medial + 8 + 2 * below, sylvian + 4))
        bottom = 15 + 5 * wobble
        folds = np.hypot(sheet, np.maximum(reach - bottom, 0))

        width = self.sulcus * (1 + 1.2 * np.exp(-np.maximum(depth, 0) / 5))
        pial = np.minimum(depth, folds - width)
        pial = np.minimum(pial, np.minimum(medial - width - 0.1, sylvian - width - 0.5))
        tissue = np.full(x.shape, Tissue.CSF, dtype=np.uint8)
        tissue[pial > 0] = Tissue.CORTEX
        thickness = self.cortex * (1 + 0.12 * wobble)
        tissue[pial > thickness] = Tissue.WHITE_MATTER
        return tissue

    def _cerebellum(
        self, points: Array, tissue: NDArray[np.uint8], wobble: Array, level: Array
    ) -> None:
        near = np.flatnonzero(level < 2.5)
        place, depth = points[:, near], -level[near]
        # Folia are leaves about the transverse axis, every 6 mm at the surface.
        y, z = place[1] + 40, place[2] + 34
        leaf = np.arctan2(z, y) * np.float32(32 / 6) + 0.35 * wobble[near] + 0.012 * place[0]
        sheet = np.abs(leaf - np.rint(leaf)) * np.hypot(y, z) * np.float32(6 / 32)
        pial = np.minimum(
            depth, np.hypot(sheet, np.maximum(depth - 7 - 2 * wobble[near], 0)) - 0.35
        )
        inside = np.full(near.shape, Tissue.CSF, dtype=np.uint8)
        inside[pial > 0] = Tissue.CORTEX
        branch = np.abs(leaf / 3 - np.rint(leaf / 3)) < 0.13
        inside[(pial > 0.9) & (depth > 3.0) & branch] = Tissue.WHITE_MATTER
        inside[(pial > 1.6) & (depth > 12)] = Tissue.WHITE_MATTER
        tissue[near] = inside

    def _deep(self, points: Array, tissue: NDArray[np.uint8], wobble: Array) -> None:
        near = np.flatnonzero(
            (np.abs(points[0]) < 46) & (np.abs(points[1] + 8) < 62) & (np.abs(points[2] - 2) < 46)
        )
        place = mirrored(points[:, near])
        ragged = wobble[near] * np.float32(0.7)
        inside = tissue[near]

        wide = self.ventricles
        push = 1.5 * (wide - 1)
        nuclei = tube(  # the caudate: a head beside the frontal horn, a tail along the body
            place,
            (
                (14 + push, 27, 4, 6.5),
                (17 + push, 14, 14, 4.8),
                (19 + push, -8, 20, 2.8),
                (23 + push, -24, 16, 1.5),
            ),
        )
        for centre, axes in (
            ((27.0, 6.0, 1.0), (5.0, 17.0, 10.5)),  # putamen
            ((19.5, 2.0, -1.0), (4.2, 9.0, 6.5)),  # globus pallidus
            ((12.0 + push, -13.0, 6.0), (8.5, 14.5, 9.0)),  # thalamus
            ((24.0, -6.0, -17.0), (6.5, 9.0, 5.5)),  # amygdala and hippocampal head
        ):
            nuclei = np.minimum(nuclei, ellipsoid(place, centre, axes))
        inside[(nuclei + ragged < 0) & (inside != Tissue.CSF)] = Tissue.DEEP_GREY

        lateral = tube(
            place,
            (
                (11 + push, 36, 5, 2.6 * wide),
                (7 + push, 24, 12, 4.6 * wide),
                (7 + push, 2, 20, 4.6 * wide),
                (13 + push, -20, 21, 5.2 * wide),
                (23 + push, -37, 13, 6.4 * wide),
                (26 + push, -56, 8, 2.4 * wide),
            ),
        )
        temporal = tube(
            place,
            (
                (23 + push, -37, 13, 4.5 * wide),
                (31, -28, -6, 1.9 * wide),
                (31, -8, -17, 1.3 * wide),
            ),
        )
        lateral = smooth_union(lateral, temporal, 3)
        septum = place[0] < 0.9
        inside[(lateral + ragged < 0) & ~septum] = Tissue.CSF
        third = ellipsoid(place, (0, -8, 0), (1.6 * wide, 15, 11))
        fourth = ellipsoid(place, (0, -31, -35), (6.5 * wide**0.5, 5, 9))
        inside[np.minimum(third, fourth) < 0] = Tissue.CSF
        tissue[near] = inside
