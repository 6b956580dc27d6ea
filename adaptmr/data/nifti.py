"""NIfTI images in and out."""

import gzip
import math
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from adaptmr.data.files import complete_file
from adaptmr.data.hdf5 import require_file
from adaptmr.data.values import require_finite
from adaptmr.errors import BadInputError

_BLOCK = 2**20
_AGAIN = "Copy the file again from where it came"


@dataclass(frozen=True, eq=False)
class Image:
    """A volume in space.

    Attributes:
        data: (i, j, k) real numbers; read-only.
        affine: (4, 4) from voxel indices to patient coordinates in mm (right, anterior, superior
            positive).
    """

    data: NDArray[np.generic]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.data.ndim != 3 or self.data.dtype.kind not in "biuf":
            raise BadInputError(
                "an image has three axes of real numbers",
                field="data",
                got=f"{self.data.dtype} of shape {self.data.shape}",
                expected="(i, j, k)",
            )
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise BadInputError(
                "an affine is a 4 x 4 matrix of finite numbers", field="affine", got=self.affine
            )
        for name in ("data", "affine"):
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Edges of a voxel in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)


def read_image(path: Path) -> Image:
    """Read a NIfTI-1 or NIfTI-2 volume, compressed or not.

    Values are scaled as the header says; without scaling they keep their type, so labels stay
    integers. Nothing of the header travels but the affine.

    Raises:
        BadInputError: not NIfTI, truncated, damaged, not 3-D, not real, or not finite.
    """
    require_file(path)
    try:
        stored: Any = nibabel.load(path)
        dtype, is_nifti = stored.get_data_dtype(), isinstance(stored, nibabel.Nifti1Image)
    except (nibabel.filebasedimages.ImageFileError, *_DAMAGE) as error:
        raise BadInputError(
            "this is not a NIfTI image, or its header is damaged",
            file=path,
            got=error,
            expected=".nii or .nii.gz",
            hint=_AGAIN,
        ) from error
    if not is_nifti:
        raise BadInputError(
            "the image is not NIfTI", file=path, got=type(stored).__name__, expected=".nii, .nii.gz"
        )
    _require_complete(path, tuple(stored.shape), dtype)
    shape = tuple(stored.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or dtype.kind not in "biuf":
        raise BadInputError(
            "the image is not one volume of real numbers",
            file=path,
            got=f"{dtype} of shape {stored.shape}",
            expected="three axes",
            hint="Take one volume of it, for example with `fslsplit`",
        )
    try:
        data = np.asanyarray(stored.dataobj).reshape(shape)
    except _DAMAGE as error:
        raise BadInputError(
            "the image data are damaged or truncated", file=path, got=error, hint=_AGAIN
        ) from error
    require_finite(data, path, "data")
    affine = np.asarray(stored.affine, dtype=np.float64)
    require_finite(affine, path, "affine")
    return Image(data, affine)


_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
    zlib.error,
    nibabel.spatialimages.HeaderDataError,
    nibabel.wrapstruct.WrapStructError,
)


def _require_complete(path: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    needed = math.prod(shape) * dtype.itemsize
    there = _size(path)
    if needed > there:
        raise BadInputError(
            "the header promises more than the file can hold",
            file=path,
            field="dim",
            got=f"{there:,} bytes",
            expected=f"{needed:,} bytes of data for shape {shape}",
            hint=_AGAIN,
        )


def _size(path: Path) -> int:
    """Bytes of a file once unpacked; goes through all of it, so that its checksum is verified."""
    if path.suffix != ".gz":
        return path.stat().st_size
    try:
        with gzip.open(path) as stream:
            return sum(len(block) for block in iter(partial(stream.read, _BLOCK), b""))
    except _DAMAGE as error:
        raise BadInputError(
            "the compressed file is damaged or truncated", file=path, got=error, hint=_AGAIN
        ) from error


def write_image(image: Image, path: Path, *, overwrite: bool = False) -> None:
    """Write a volume as NIfTI-1, float64 as float32, bool as uint8; other types as they are.

    Args:
        image: what to write.
        path: ``.nii`` or ``.nii.gz``.
        overwrite: whether an existing file may be replaced.

    Raises:
        BadInputError: another suffix, values that are not finite, or an output that exists or
            cannot be written.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise BadInputError(
            "the name is not that of a NIfTI image",
            file=path,
            got=path.suffix or "no suffix",
            expected=".nii or .nii.gz",
        )
    require_finite(image.data, path, "data")
    stored: Any = nibabel.Nifti1Image(  # type: ignore[no-untyped-call] # nibabel has no types here
        image.data.astype(_stored_type(image.data)), image.affine
    )
    stored.header.set_xyzt_units("mm")
    with complete_file(path, overwrite=overwrite) as partial_path:
        nibabel.save(stored, partial_path)


def _stored_type(data: NDArray[np.generic]) -> np.dtype[np.generic]:
    """A type that every NIfTI program reads: few take bool, float64 or 64-bit integers."""
    if data.dtype.kind == "b":
        return np.dtype(np.uint8)
    if data.dtype.kind == "f":
        return np.dtype(np.float32)
    narrow = data.dtype.itemsize == 8 and bool(np.all(np.abs(data.astype(np.float64)) < 2**31))
    return np.dtype(np.int32) if narrow else data.dtype
