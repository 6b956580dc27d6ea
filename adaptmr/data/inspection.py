"""What is in a file, what would be refused, and what should make one think."""

from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from adaptmr.data import fastmri
from adaptmr.data.doors import Format, identify, open_scan
from adaptmr.data.fastmri_contents import oddities, stored_header, stored_kspace
from adaptmr.data.nifti import read_image
from adaptmr.data.positions import largest_block
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.data.survey import Survey, survey
from adaptmr.data.values import NotFiniteError
from adaptmr.errors import BadInputError

_SYMMETRIC = 0.99
_SMALL_BLOCK = 8


class Noise(BaseModel):
    """Noise level of each coil: standard deviation of the real (or imaginary) part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_coil: tuple[float, ...]
    method: str


class Inspection(BaseModel):
    """What a file says and holds; fields that could not be found out are None.

    Attributes:
        file: the path as given.
        format: what the file is.
        shape: (slices, coils, readout, phase), or that of the images.
        dtype: type of the numbers, as stored.
        acceleration: measured: positions that exist over positions acquired.
        sampling: ``full``, ``lines`` or ``points``.
        padding: first column that exists, and one past the last.
        low_frequency: size of the fully acquired centred block.
        noise: noise level per coil.
        not_finite: number of NaN and infinite values by slice, where there are any.
        empty_slices: slices that are all zero.
        empty_coils: coils that are all zero in all slices.
        centre: position (readout, phase) of the largest energy.
        zero_rings: rows at the first, rows at the last, columns at the first and at the last edge
            that are exactly zero although they count as acquired.
        conjugate_symmetry: 1 for the transform of real images, near 0 for raw data with phase.
        header: the allow-listed header.
        target: name of the reference images.
        target_shape: their shape.
        maximum: largest value of the target.
        refusals: why the file or a slice of it would be refused; empty when it would not.
        warnings: what is unusual, and would be used nevertheless.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    format: str
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    acceleration: float | None = None
    sampling: str | None = None
    padding: tuple[int, int] | None = None
    low_frequency: tuple[int, ...] | None = None
    noise: Noise | None = None
    not_finite: dict[int, int] = {}
    empty_slices: tuple[int, ...] = ()
    empty_coils: tuple[int, ...] = ()
    centre: tuple[int, int] | None = None
    zero_rings: tuple[int, int, int, int] | None = None
    conjugate_symmetry: float | None = None
    header: Header | None = None
    target: str | None = None
    target_shape: tuple[int, ...] | None = None
    maximum: float | None = None
    refusals: list[str] = []
    warnings: list[str] = []

    @property
    def coils(self) -> int | None:
        """Number of coils, for k-space."""
        return self.shape[1] if self.shape is not None and len(self.shape) == 4 else None


def inspect(path: Path) -> Inspection:
    """Look at all of a file, slice by slice, and say what is in it.

    A damaged file is inspected as far as something can be said; what is wrong stands in
    ``refusals``.

    Raises:
        BadInputError: there is nothing to say: no file, an empty one, or HDF5 that does not open.
    """
    found = identify(path)
    if found is Format.NIFTI:
        return _inspect_nifti(path)
    if found is Format.HDF5_IMAGES:
        return _inspect_images(path)
    try:
        scan = open_scan(path)
    except BadInputError as error:
        shape, dtype = stored_kspace(path) if found is Format.FASTMRI else (None, None)
        return Inspection(
            file=str(path),
            format=found.value,
            shape=shape,
            dtype=dtype,
            header=stored_header(path) if found is Format.FASTMRI else None,
            refusals=[str(error)],
        )
    return _inspect_scan(path, found, scan)


def _inspect_nifti(path: Path) -> Inspection:
    try:
        image = read_image(path)
    except BadInputError as error:
        return Inspection(file=str(path), format=Format.NIFTI.value, refusals=[str(error)])
    return Inspection(
        file=str(path),
        format=Format.NIFTI.value,
        shape=image.data.shape,
        dtype=str(image.data.dtype),
        maximum=float(image.data.max()),
        warnings=["an image, no k-space: its own Fourier transform is no raw data"],
    )


def _inspect_images(path: Path) -> Inspection:
    try:
        name = fastmri.image_dataset(path)
        images = fastmri.read_images(path, name)
    except BadInputError as error:
        return Inspection(file=str(path), format=Format.HDF5_IMAGES.value, refusals=[str(error)])
    maximum, not_finite, refusals = _largest(images)
    return Inspection(
        file=str(path),
        format=Format.HDF5_IMAGES.value,
        shape=images.shape,
        dtype="float32",
        target=name,
        target_shape=images.shape,
        maximum=maximum,
        not_finite=not_finite,
        refusals=refusals,
    )


def _largest(images: Stack) -> tuple[float | None, dict[int, int], list[str]]:
    """Largest value of images, values that are not finite by slice, and what was refused."""
    maximum: float | None = None
    not_finite: dict[int, int] = {}
    refusals: list[str] = []
    for index in range(len(images)):
        try:
            value = float(images[index].max())
        except BadInputError as error:
            refusals.append(str(error))
            if isinstance(error, NotFiniteError):
                not_finite[index] = error.count
        else:
            maximum = value if maximum is None else max(maximum, value)
    return maximum, not_finite, refusals


def _inspect_scan(path: Path, found: Format, scan: Scan) -> Inspection:
    seen = survey(scan)
    is_fastmri = found is Format.FASTMRI
    refusals, warnings = list(seen.refusals), _warnings(scan, seen)
    maximum = None
    if scan.target is not None:
        maximum, _, target_refusals = _largest(scan.target)
        refusals += target_refusals
        if maximum is not None and scan.maximum and abs(maximum / scan.maximum - 1) > 1e-3:
            warnings.append(
                f"attribute 'max' is {scan.maximum:.6g}, the largest target value {maximum:.6g}"
            )
    if is_fastmri:
        warnings += oddities(path, scan)
    sampling = "lines" if scan.acquired.ndim == 1 else "points"
    return Inspection(
        file=str(path),
        format=found.value,
        shape=scan.kspace.shape,
        dtype=(stored_kspace(path)[1] if is_fastmri else None) or "complex64",
        acceleration=scan.acceleration,
        sampling="full" if scan.fully_sampled else sampling,
        padding=scan.padding,
        low_frequency=largest_block(scan.acquired.numpy()),
        noise=_noise(scan, seen),
        not_finite=seen.not_finite,
        empty_slices=seen.empty_slices,
        empty_coils=seen.empty_coils,
        centre=seen.centre,
        zero_rings=seen.zero_rings,
        conjugate_symmetry=seen.conjugate_symmetry,
        header=scan.header,
        target=fastmri.target_dataset(path) if is_fastmri and scan.target is not None else None,
        target_shape=None if scan.target is None else scan.target.shape,
        maximum=maximum,
        refusals=refusals,
        warnings=warnings,
    )


def _noise(scan: Scan, seen: Survey) -> Noise | None:
    if scan.noise is not None:
        parts = torch.view_as_real(scan.noise)
        levels = tuple(parts.std(dim=(1, 2), correction=0).tolist())
        return Noise(per_coil=levels, method=f"{scan.noise.shape[1]} noise samples per coil")
    if seen.noise is None:
        return None
    return Noise(
        per_coil=seen.noise,
        method="median magnitude of the outermost acquired samples (2 %, at least 64), median over"
        " slices: an upper bound where signal reaches that far",
    )


def _warnings(scan: Scan, seen: Survey) -> list[str]:
    """What is unusual about a scan that would be read."""
    warnings = []
    if seen.empty_slices:
        warnings.append(f"{len(seen.empty_slices)} slices are all zero")
    if seen.empty_coils:
        warnings.append(f"{len(seen.empty_coils)} coils are all zero")
    if seen.zero_rings is not None and any(seen.zero_rings):
        top, bottom, left, right = seen.zero_rings
        warnings.append(
            f"the outer rows ({top} and {bottom}) and columns ({left} and {right}) are exactly"
            " zero: zero-filled or partial Fourier data, which flatter results"
        )
    if seen.zero_columns:
        warnings.append(
            f"{seen.zero_columns} columns inside are exactly zero although they count as"
            " acquired: undersampled without a mask"
        )
    if seen.conjugate_symmetry is not None and seen.conjugate_symmetry > _SYMMETRIC:
        warnings.append(
            "k-space is conjugate symmetric: the transform of magnitude images, no raw data"
        )
    block = largest_block(scan.acquired.numpy())
    if min(block) < min(_SMALL_BLOCK, *scan.matrix):
        warnings.append(
            f"the fully acquired centre is {' x '.join(map(str, block))}: coil maps need at"
            f" least {_SMALL_BLOCK}"
        )
    middle = tuple(size // 2 for size in scan.matrix)
    if seen.centre is not None and np.abs(np.subtract(seen.centre, middle)).max() > 2:
        warnings.append(f"the largest energy is at {seen.centre}, not near the centre {middle}")
    return warnings
