"""Label and image volumes (NIfTI) in the place of the parametric head."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from adaptmr.data.anatomy.anatomy import Corners
from adaptmr.data.anatomy.deformation import Deformation
from adaptmr.data.anatomy.geometry import Array, RandomField
from adaptmr.data.anatomy.signal import Contrast, signals
from adaptmr.data.anatomy.tissue import BRAIN, LESIONS, Tissue
from adaptmr.errors import BadInputError

_FREESURFER: dict[Tissue, tuple[int, ...]] = {
    # 0 to 258: FreeSurferColorLUT. 501 to 530: the head labels of the CHARM atlas (Puonti et al.,
    # NeuroImage 219:117044, 2020). The choroid plexus counts as ventricle.
    Tissue.BACKGROUND: (0, 501, 517),
    Tissue.CSF: (
        *(4, 5, 14, 15, 24, 31, 43, 44, 63, 72, 122, 213, 221, 257),
        *(136, 137, 163, 164),  # along the lateral ventricles
    ),
    Tissue.CORTEX: (3, 8, 19, 20, 42, 47, 55, 56, *range(1000, 1036), *range(2000, 2036)),
    Tissue.WHITE_MATTER: (
        *(2, 7, 16, 28, 41, 46, 60, 85, 192, 250, 251, 252, 253, 254, 255, 512, 530),
        *(75, 76, 86, 170, 171, 172, 173, 174, 175),
    ),
    Tissue.DEEP_GREY: (
        *(9, 10, 11, 12, 13, 17, 18, 26, 27, 48, 49, 50, 51, 52, 53, 54, 58, 59),
        *(80, 81, 82, 96, 97, 138, 139),
    ),
    Tissue.WHITE_MATTER_LESION: (25, 57, 77, 78, 79, 99),
    Tissue.VESSEL: (30, 62, 502, 514),
    Tissue.EYE: (506,),
    Tissue.FAT: (507,),
    Tissue.MUSCLE: (508, 509, 258),
    Tissue.SKIN: (511,),
    Tissue.BONE: (165, 515),
    Tissue.MARROW: (516,),
}
_TUMOUR = {
    Tissue.BACKGROUND: (0,),
    Tissue.NECROSIS: (1,),
    Tissue.OEDEMA: (2,),
    Tissue.TUMOUR: (3, 4),
}
_OWN: dict[Tissue, tuple[int, ...]] = {tissue: (int(tissue),) for tissue in Tissue}
_COMPANIONS = {"tissue": _OWN, "labels": _FREESURFER, "tumour": _TUMOUR}
_OTHERS = ("brain", "mask")
_CONTRASTS = {
    "T1w": Contrast.T1,
    "T1": Contrast.T1,
    "T1c": Contrast.T1POST,
    "T1post": Contrast.T1POST,
    "T2w": Contrast.T2,
    "T2": Contrast.T2,
    "FLAIR": Contrast.FLAIR,
    "PDw": Contrast.PD,
    "PD": Contrast.PD,
}
_MOST_LABELS = 200
"""A volume of whole numbers with no more values than these is a label map."""
_THIN = 40.0
"""A slab thinner than this (mm) is not tilted, or its slices would leave it."""


def volume_paths(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The NIfTI files among files and folders, without the label maps and masks of an image there.

    Args:
        paths: files, and folders that are searched (not their subfolders).

    Raises:
        BadInputError: a path does not exist, is no NIfTI file, or a folder holds none.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(child for child in path.iterdir() if _is_nifti(child))
            if not inside:
                raise BadInputError("the folder holds no NIfTI volume", file=path, field="anatomy")
            found += inside
        elif path.is_file() and _is_nifti(path):
            found.append(path)
        else:
            raise BadInputError(
                "this is not a NIfTI volume",
                file=path,
                field="anatomy",
                got="nothing there" if not path.exists() else path.name,
                expected="a .nii or .nii.gz file, or a folder of them",
            )
    images = {_base(path) for path in found if _part(path) in _CONTRASTS}
    belongs = {*_COMPANIONS, *_OTHERS}
    return tuple(path for path in found if _part(path) not in belongs or _base(path) not in images)


def _is_nifti(path: Path) -> bool:
    return path.name.endswith((".nii", ".nii.gz"))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _part(path: Path) -> str:
    """What follows the last underscore: ``T1w`` in ``sub-01_ses-1_T1w``."""
    return _stem(path).rpartition("_")[2]


def _base(path: Path) -> Path:
    return path.parent / _stem(path).rpartition("_")[0]


def _subject(path: Path) -> str:
    """What the sessions of one subject share: ``sub-01``, or else the name of the file."""
    found = re.match(r"sub-[A-Za-z0-9]+", path.name)
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", found.group() if found else _stem(path))[:64]


def _load(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Values and affine of a volume of three axes."""
    try:
        image: Any = nib.load(path)
        values = np.asanyarray(image.dataobj)
        affine = np.asarray(image.affine, dtype=np.float64)
    except (
        OSError,
        EOFError,
        ValueError,
        TypeError,
        MemoryError,
        ImageFileError,
    ) as error:
        raise BadInputError(
            "the volume cannot be read",
            file=path,
            got=error,
            expected="a NIfTI volume",
            hint="Check that the file is complete",
        ) from error
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3 or values.dtype.kind not in "iuf" or not values.size:
        raise BadInputError(
            "this is not a volume of real numbers",
            file=path,
            got=f"{values.dtype} of shape {values.shape}",
            expected="three axes",
        )
    if not np.isfinite(values).all():
        raise BadInputError("the volume has values that are not finite", file=path)
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9 or not np.isfinite(affine).all():
        raise BadInputError("the volume's affine cannot be inverted", file=path, field="affine")
    return values, affine


def _tissues(
    path: Path, values: NDArray[Any], numbers: dict[Tissue, tuple[int, ...]]
) -> NDArray[np.uint8]:
    """Label numbers to `Tissue`.

    Raises:
        BadInputError: a number that means nothing here.
    """
    present = np.unique(values)
    unknown = set(present.tolist()) - {number for group in numbers.values() for number in group}
    if unknown:
        shown = ", ".join(f"{number:g}" for number in sorted(unknown)[:8])
        raise BadInputError(
            "the label map has numbers of unknown meaning",
            file=path,
            got=shown,
            expected="FreeSurfer numbers, or 0 to 15 as in adaptmr.data.anatomy.tissue",
            hint="Renumber them",
        )
    table = np.zeros(int(present.max()) + 1, dtype=np.uint8)
    for tissue, group in numbers.items():
        for number in group:
            if number < len(table):
                table[number] = tissue
    return table[values.astype(np.int64)]


@dataclass(frozen=True)
class Volume:
    """A subject from a file: a label map seen by signal equations, or an image as it is.

    Attributes:
        tissue: (x, y, z) `Tissue`; background wherever nothing is known.
        magnitude: (x, y, z) float32 image about 1, for image volumes.
        to_voxels: (4, 4) from mm about the centre of the field of view to voxel indices.
        focus: lowest and highest corner of what slices are spread over, mm.
        contrast: the contrast of an image.
        name: name of the file.
        subject: key; the sessions of one subject share it.
        variation: (tissues, 3) factors on T1, T2 and proton density.
        deformation: pose, size and shape, drawn for each scan: they augment the file.
        texture: field of the small variation of a label map's signal within a tissue.
    """

    tissue: NDArray[np.uint8]
    magnitude: NDArray[np.float32] | None
    to_voxels: NDArray[np.float64]
    focus: Corners
    contrast: Contrast | None
    subject: str
    name: str
    variation: NDArray[np.float64]
    deformation: Deformation
    texture: RandomField

    @classmethod
    def load(cls, path: Path, generator: np.random.Generator) -> Self:
        """Read a volume; label maps are told from images by their few whole numbers.

        An image keeps its magnitude. Its contrast is read off its name (``..._T1w.nii.gz``), and
        label maps beside it are carried along: ``..._tissue`` (numbered as `Tissue`),
        ``..._labels`` (FreeSurfer) or ``..._tumour`` (1 necrosis, 2 oedema, 3 and 4 tumour).

        Args:
            path: NIfTI file.
            generator: draws pose, shape and contrast.

        Raises:
            BadInputError: the file cannot be read, its numbers or its name mean nothing here, or
                its label map is of another size.
        """
        values, affine = _load(path)
        magnitude, contrast = None, None
        if _is_label_map(values):
            numbers = _OWN if float(values.max()) < len(Tissue) else _FREESURFER
            tissue = _tissues(path, values, numbers)
        else:
            contrast = _contrast(path)
            bright = float(np.percentile(values[values > 0], 98)) if (values > 0).any() else 1.0
            magnitude = np.clip(values, 0, None).astype(np.float32) / np.float32(bright)
            tissue = _companion_tissue(path, values.shape)
        visible = tissue > 0 if magnitude is None else magnitude > 0.1
        brain = np.isin(tissue, (*BRAIN, *LESIONS))
        # A tumour map alone does not outline the brain.
        known = np.isin(tissue, BRAIN).any()
        head = _box(path, visible, affine)
        centre = (head[0] + head[1]) / 2
        middle = np.eye(4)
        middle[:3, 3] = centre
        focus = _box(path, brain, affine) if known else head
        free = tuple(bool(length > _THIN) for length in head[1] - head[0])
        return cls(
            tissue=tissue,
            magnitude=magnitude,
            to_voxels=np.linalg.inv(affine) @ middle,
            focus=(_corner(focus[0] - centre), _corner(focus[1] - centre)),
            contrast=contrast,
            subject=_subject(path),
            name=path.name,
            variation=np.exp(0.03 * generator.standard_normal((len(Tissue), 3))),
            deformation=Deformation.draw(generator, free=(free[0], free[1], free[2])),
            texture=RandomField.draw(generator, 6.0, band=0.5),
        )

    @property
    def contrasts(self) -> tuple[Contrast, ...] | None:
        """The contrast of an image; None for a label map."""
        return None if self.contrast is None else (self.contrast,)

    @property
    def attributes(self) -> dict[str, str | float | int]:
        """The name of the file, without its folder."""
        return {"anatomy": self.name}

    def signals(self, contrast: Contrast, field_strength: float) -> NDArray[np.float32]:
        """Signal of each tissue, (tissues,); 1 for an image, which has its own."""
        if self.magnitude is not None:
            return np.ones(len(Tissue), dtype=np.float32)
        return signals(contrast, field_strength, self.variation)

    def sample(self, points: Array) -> tuple[NDArray[np.uint8], Array]:
        """Tissue, and magnitude of the image (about 1 for a label map), at (3, n) points in mm."""
        place = self.deformation.applied(points)
        matrix = self.to_voxels.astype(np.float32)
        voxels = matrix[:3, :3] @ place + matrix[:3, 3:]
        nearest = np.rint(voxels).astype(np.int32)
        size = np.asarray(self.tissue.shape, dtype=np.int32)[:, None]
        inside = ((nearest >= 0) & (nearest < size)).all(0)
        tissue = np.zeros(points.shape[1], dtype=np.uint8)
        tissue[inside] = self.tissue[tuple(nearest[:, inside])]
        weight = np.ones(points.shape[1], dtype=np.float32)
        if self.magnitude is not None:
            weight[~inside] = 0
            weight[inside] = map_coordinates(
                self.magnitude, voxels[:, inside], order=1, mode="nearest"
            )
        else:
            weight[inside] += np.float32(0.025) * self.texture.at(place[:, inside])
        return tissue, weight


def _is_label_map(values: NDArray[Any]) -> bool:
    few = np.unique(values[tuple(slice(None, None, 4) for _ in range(3))])
    if len(few) > _MOST_LABELS:
        return False
    present = np.unique(values)
    return bool(len(present) <= _MOST_LABELS and (present == np.rint(present)).all())


def _contrast(path: Path) -> Contrast:
    if _part(path) not in _CONTRASTS:
        raise BadInputError(
            "the contrast of this image is not told by its name",
            file=path,
            got=path.name,
            expected="a name that ends in one of " + ", ".join(f"_{name}" for name in _CONTRASTS),
            hint="Rename it, for example to ..._T1w.nii.gz",
        )
    return _CONTRASTS[_part(path)]


def _companion_tissue(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    tissue = np.zeros(shape, dtype=np.uint8)
    for name, numbers in _COMPANIONS.items():
        for ending in (".nii.gz", ".nii"):
            beside = path.parent / f"{_base(path).name}_{name}{ending}"
            if not beside.is_file():
                continue
            values, _ = _load(beside)
            if values.shape != shape:
                raise BadInputError(
                    "the label map is of another size than its image",
                    file=beside,
                    got=values.shape,
                    expected=shape,
                )
            found = _tissues(beside, values, numbers)
            tissue[found > 0] = found[found > 0]
    return tissue


def _box(path: Path, inside: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lowest and highest corner, (2, 3) mm, of a region's voxels."""
    if not inside.any():
        raise BadInputError("the volume is empty", file=path, expected="a head")
    low, high = [], []
    for axis in range(3):
        occupied = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
        low.append(occupied[0] - 0.5)
        high.append(occupied[-1] + 0.5)
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, 8)
    world = affine[:3, :3] @ corners + affine[:3, 3:]
    return np.stack([world.min(1), world.max(1)])


def _corner(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
