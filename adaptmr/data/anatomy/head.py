"""The parametric head: what lies around the brain, and how old and how ill its owner is.

Everything is a level function of position, evaluated at any points: there is no voxel grid, so
any matrix size and any orientation can be cut, and no two slices are alike.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from adaptmr.data.anatomy.anatomy import Corners
from adaptmr.data.anatomy.brain import CEREBRUM, POSTERIOR_FOSSA, Brain
from adaptmr.data.anatomy.deformation import Deformation
from adaptmr.data.anatomy.geometry import (
    Array,
    RandomField,
    ellipsoid,
    mirrored,
    smooth_union,
    tube,
)
from adaptmr.data.anatomy.lesions import Lesions, Tumour
from adaptmr.data.anatomy.signal import Contrast, signals
from adaptmr.data.anatomy.tissue import Tissue

_CENTRE = (0.0, 2.0, 5.0)
"""The point of the head that is put at the centre of the field of view, mm."""

_FACE_TOP = 24.0
"""Above this height, mm, there is nothing but vault and brain."""


@dataclass(frozen=True)
class Head:
    """One digital head; lengths in mm.

    Attributes:
        age: years; it drives ventricles, sulci, cortical thickness and white-matter lesions.
        brain: what is inside the skull.
        lesions: what is wrong with the brain.
        skull: thickness of the skull.
        scalp: thickness of the scalp, skin included.
        patches: field that mixes fat, muscle, marrow and air cells.
        texture: field of the small variation of the signal within a tissue.
        variation: (tissues, 3) factors on T1, T2 and proton density.
        deformation: pose, size and shape.
    """

    age: float
    brain: Brain
    lesions: Lesions
    skull: float
    scalp: float
    patches: RandomField
    texture: RandomField
    variation: NDArray[np.float64]
    deformation: Deformation

    focus: ClassVar[Corners] = ((-68.0, -88.0, -45.0), (68.0, 84.0, 62.0))
    """Lowest and highest corner of the brain, mm about the centre of the field of view."""
    contrasts: ClassVar[None] = None
    """It can be seen in every contrast."""
    subject: ClassVar[None] = None
    """It comes from no file."""

    @classmethod
    def draw(
        cls,
        generator: np.random.Generator,
        *,
        white_matter_lesions: bool,
        tumour_probability: float,
    ) -> Self:
        """Draw a head of 20 to 85 years.

        Args:
            generator: source of randomness.
            white_matter_lesions: whether lesions appear, more of them with age.
            tumour_probability: probability of a tumour.
        """
        age = float(generator.uniform(20, 85))
        brain = Brain.draw(generator, age)
        load = 1.0 + 22.0 * max(0.0, (age - 35.0) / 50.0) ** 2
        count = int(generator.poisson(load)) if white_matter_lesions else 0
        sick = bool(generator.uniform() < tumour_probability)
        return cls(
            age=age,
            brain=brain,
            lesions=Lesions(
                spots=_spots(generator, count, brain.ventricles),
                tumour=_tumour(generator) if sick else None,
                shape=RandomField.draw(generator, 10.0),
            ),
            skull=float(generator.uniform(5.0, 8.0)),
            scalp=float(generator.uniform(5.0, 9.0)),
            patches=RandomField.draw(generator, 14.0),
            texture=RandomField.draw(generator, 6.0, band=0.5),
            variation=np.exp(0.03 * generator.standard_normal((len(Tissue), 3))),
            deformation=Deformation.draw(generator),
        )

    @property
    def attributes(self) -> dict[str, str | float | int]:
        """Age in years, and the widening of the ventricles that goes with it."""
        return {"age": self.age, "ventricle_scale": self.brain.ventricles}

    def signals(self, contrast: Contrast, field_strength: float) -> NDArray[np.float32]:
        """Signal of each tissue, (tissues,)."""
        return signals(contrast, field_strength, self.variation)

    def sample(self, points: Array) -> tuple[NDArray[np.uint8], Array]:
        """Tissue and factor on its signal at points.

        Args:
            points: (3, n) mm about the centre of the field of view.

        Returns:
            (n,) `Tissue`, (n,) factor.
        """
        tissue = np.full(points.shape[1], Tissue.BACKGROUND, dtype=np.uint8)
        weight = np.ones(points.shape[1], dtype=np.float32)
        reach = np.flatnonzero((points[0] / 100) ** 2 + ((points[1] - 2) / 122) ** 2 < 1)
        place = self.deformation.applied(points[:, reach])
        place += np.asarray(_CENTRE, dtype=np.float32)[:, None]
        healthy = self.lesions.displaced(place)
        # The front of the head is narrower than its back.
        healthy = healthy.copy()
        healthy[0] /= 1 - np.float32(0.0012) * np.clip(healthy[1], -80, 90)
        cavity, surface = self._levels(healthy)
        inside = np.flatnonzero(surface < 0)
        reach, place, healthy = reach[inside], place[:, inside], healthy[:, inside]
        cavity, surface = cavity[inside], surface[inside]
        patches = self.patches.at(healthy)
        found = np.empty(len(inside), dtype=np.uint8)
        within = cavity < 0
        found[within] = self.brain.tissue(healthy[:, within])
        shell = np.flatnonzero(~within)
        found[shell] = self._shell(healthy[:, shell], cavity[shell], surface[shell], patches[shell])
        self._vessels(healthy, found, cavity)
        found = self.lesions.laid_over(found, place)
        tissue[reach] = found
        weight[reach] = 1 + np.float32(0.025) * self.texture.at(healthy)
        soft = np.isin(found, (Tissue.FAT, Tissue.MUSCLE, Tissue.MARROW))
        weight[reach[soft]] *= 1 + np.float32(0.08) * patches[soft]
        return tissue, weight

    def _levels(self, points: Array) -> tuple[Array, Array]:
        """Level functions of the skull's inside and of the whole head."""
        cavity = smooth_union(ellipsoid(points, *CEREBRUM), ellipsoid(points, *POSTERIOR_FOSSA), 8)
        surface = ellipsoid(points, *CEREBRUM) - np.float32(self.skull + self.scalp)
        low = np.flatnonzero(points[2] < _FACE_TOP)
        points = points[:, low]
        sides = mirrored(points)
        orbits = ellipsoid(sides, (30, 66, -33), (23, 34, 19))
        canal = tube(points, ((0, -30, -60, 10), (0, -36, -120, 9)))
        cavity[low] = smooth_union(np.maximum(cavity[low], -orbits), canal, 5)
        face = ellipsoid(points, (0, 34, -62), (61, 61, 62))
        neck = tube(points, ((0, -20, -50, 56), (0, -24, -150, 54)))
        nose = tube(points, ((0, 88, -34, 5), (0, 100, -58, 10)))
        temples = ellipsoid(sides, (60, 22, -22), (18, 32, 30))
        lower = smooth_union(smooth_union(surface[low], face, 14), neck, 12)
        surface[low] = smooth_union(smooth_union(lower, temples, 8), nose, 8)
        return cavity, surface

    def _shell(
        self, points: Array, cavity: Array, surface: Array, patches: Array
    ) -> NDArray[np.uint8]:
        """Everything outside the inner table of the skull."""
        deep = -surface
        found = np.full(deep.shape, Tissue.FAT, dtype=np.uint8)
        fat = 0.45 * self.scalp + 2.0 + 1.2 * patches
        found[(deep > fat) & (np.abs(patches) > 0.13)] = Tissue.MUSCLE
        found[deep < 1.8] = Tissue.SKIN
        thick = self.skull * (1 + 0.12 * patches)
        skull = (cavity < thick) & (deep > 1.8)
        found[skull] = Tissue.BONE
        found[skull & (cavity > 1.9) & (cavity < thick - 1.7) & (patches > -1.7)] = Tissue.MARROW
        low = np.flatnonzero(points[2] < _FACE_TOP)
        found[low] = self._face(points[:, low], found[low], cavity[low], patches[low])
        return found

    def _face(
        self, points: Array, found: NDArray[np.uint8], cavity: Array, patches: Array
    ) -> NDArray[np.uint8]:
        """Air, bones, eyes and muscles below the forehead, in place of what the shell has there."""
        sides = mirrored(points)
        outside = cavity > 1.0
        x = points[0]
        air = np.minimum(
            ellipsoid(points, (0, 62, -52), (14, 32, 19)),
            ellipsoid(sides, (5, 34, -36), (9, 11, 8)),
        )
        turbinates = (np.abs(np.abs(x) - 8 - patches) < 2.2) | (np.abs(x + patches) < 1.0)
        found[(air < 2.0) & outside] = Tissue.MUSCLE
        found[(air < 0) & ~turbinates & outside] = Tissue.BACKGROUND
        sinus = np.minimum(
            ellipsoid(sides, (29, 58, -58), (13, 15, 15)),
            ellipsoid(sides, (9, 88, -6), (8, 4, 9)),
        )
        found[(sinus < 1.5) & outside] = Tissue.BONE
        found[(sinus < 0) & outside] = Tissue.BACKGROUND
        mastoid = ellipsoid(sides, (56, -20, -42), (9, 13, 16))
        found[(mastoid < 0) & outside] = Tissue.BONE
        found[(mastoid < 0) & outside & (patches > 0.1)] = Tissue.BACKGROUND
        spine = tube(points, ((0, -13, -62, 8), (0, -13, -150, 9)))
        discs = np.abs((points[2] / 18) - np.rint(points[2] / 18)) < 0.11
        found[(spine < 1.5) & outside] = Tissue.BONE
        found[(spine < 0) & outside] = Tissue.MARROW
        found[(spine < 1) & outside & discs] = Tissue.SKIN
        tongue = ellipsoid(points, (0, 48, -98), (25, 34, 24))
        found[(tongue < 0) & outside] = Tissue.MUSCLE
        throat = tube(points, ((0, 28, -62, 7), (0, 12, -95, 8), (0, 8, -150, 9)))
        found[(throat < 2) & outside] = Tissue.MUSCLE
        found[(throat < 0) & outside] = Tissue.BACKGROUND
        orbit = ellipsoid(sides, (30, 62, -32), (18, 26, 15))
        found[(orbit < 0) & outside] = Tissue.FAT
        muscles = np.abs(np.abs(sides[0] - 30) - 11 + 0.25 * (62 - points[1])) < 1.6
        found[(orbit < 0) & outside & muscles & (points[1] < 66)] = Tissue.MUSCLE
        globe = ellipsoid(sides, (31, 74, -31), (12.3, 12.3, 12.3))
        found[globe < 0.8] = Tissue.MUSCLE
        found[globe < 0] = Tissue.EYE
        lens = ellipsoid(sides, (31, 83, -31), (4.6, 2.2, 4.6))
        found[lens < 0] = Tissue.MUSCLE
        nerve = tube(sides, ((29, 62, -31, 2.0), (8, 32, -26, 2.0)))
        found[(nerve < 0) & outside] = Tissue.WHITE_MATTER
        return found

    def _vessels(self, points: Array, found: NDArray[np.uint8], cavity: Array) -> None:
        """Venous sinuses along the skull, and the large arteries at the base."""
        x, y, z = points
        sagittal = (np.abs(x) + 0.9 * np.abs(cavity + 1.5) < 4.5) & (z > 8 + 0.35 * y)
        transverse = (
            (np.abs(z + 14 + 0.1 * np.abs(x)) < 3.2) & (cavity > -5) & (cavity < 0.5) & (y < -28)
        )
        found[sagittal | transverse] = Tissue.VESSEL
        base = np.flatnonzero((np.abs(x) < 48) & (np.abs(y) < 50) & (z < 36))
        sides = mirrored(points[:, base])
        arteries = tube(sides, ((12, 18, -60, 2.4), (11, 14, -30, 2.2), (9, 10, -20, 2.0)))
        for nodes in (
            ((9, 10, -20, 1.6), (24, 12, -18, 1.5), (38, 10, -10, 1.3), (44, -8, 2, 1.0)),
            ((9, 10, -20, 1.4), (1.5, 30, -10, 1.3), (1.5, 42, 8, 1.1), (1.5, 20, 32, 0.9)),
            ((0, 5, -44, 1.8), (0, 4, -24, 1.7), (16, -10, -16, 1.3), (24, -34, -6, 1.0)),
        ):
            arteries = np.minimum(arteries, tube(sides, nodes))
        carotids = tube(sides, ((24, 4, -150, 3.0), (22, 4, -80, 2.6), (14, 14, -55, 2.4)))
        found[base[((arteries < 0) & (cavity[base] < 0)) | (carotids < 0)]] = Tissue.VESSEL
        fluid = np.flatnonzero((found == Tissue.CSF) & (cavity < -1) & (cavity > -22))
        cortical = self.patches.at(points[:, fluid] * np.float32(1.7)) > 2.1
        found[fluid[cortical]] = Tissue.VESSEL


def _spots(generator: np.random.Generator, count: int, ventricles: float) -> NDArray[np.float64]:
    """White-matter lesions: most beside the lateral ventricles, the rest in the centrum."""
    spots = np.zeros((count, 4))
    for index in range(count):
        side = generator.choice([-1.0, 1.0])
        if generator.uniform() < 0.65:
            along = generator.uniform(-45, 35)
            away = generator.uniform(2, 8) + 4.5 * ventricles
            out = 10 + 0.28 * max(0.0, -along) + away * generator.uniform(0.5, 1.0)
            height = 20 - 0.008 * along * along + generator.uniform(-3, 7)
        else:
            along = generator.uniform(-45, 45)
            out = generator.uniform(18, 36)
            height = generator.uniform(12, 42)
        size = float(np.clip(generator.lognormal(0.85, 0.4), 1.4, 6.0))
        spots[index] = side * out, along, height, size
    return spots


def _tumour(generator: np.random.Generator) -> Tumour:
    side = generator.choice([-1.0, 1.0])
    radius = float(generator.uniform(9, 20))
    return Tumour(
        centre=(
            float(side * generator.uniform(24, 40)),
            float(generator.uniform(-45, 42)),
            float(generator.uniform(6, 38)),
        ),
        radius=radius,
        oedema=float(generator.uniform(6, 18)),
        necrosis=float(generator.uniform(0.35, 0.75)),
    )
