"""fastMRI HDF5: scans in and out, images out as submissions.

The layout is that of the fastMRI dataset (arXiv 1811.08839): ``kspace`` (slices, coils, readout,
phase) or, single-coil, (slices, readout, phase); ``reconstruction_rss`` or ``reconstruction_esc``;
``mask`` where the scan is undersampled; ``ismrmrd_header``; attributes ``acquisition``, ``max``,
``norm``, ``patient_id``.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptmr.data.fastmri_contents import attribute, read_header
from adaptmr.data.files import complete_file, require_room
from adaptmr.data.geometry import check_matrix, header_of, padding_of
from adaptmr.data.hdf5 import damage_named, dataset, names, open_hdf5, read_slice
from adaptmr.data.header_xml import write_xml
from adaptmr.data.image_writing import create_dataset, write_images, write_slice
from adaptmr.data.positions import as_lines, columns, mask_positions, phase_axes
from adaptmr.data.scan import Scan, Stack
from adaptmr.data.values import require_complex, require_finite
from adaptmr.errors import BadInputError, UsageError

_log = logging.getLogger(__name__)
_TARGETS = ("reconstruction_rss", "reconstruction_esc")


def read_scan(path: Path) -> Scan:
    """Open a fastMRI file, single-coil (3 axes, gets a coil axis of 1) or multi-coil (4 axes).

    Slices are read when they are asked for, each checked to be finite and converted to complex64.
    A missing or unreadable header means: nothing known but the matrix, no padding. Positions
    outside the mask or in the padding are zero in what is read, whatever the file has there.

    Args:
        path: the file.

    Raises:
        BadInputError: the file is damaged, lacks ``kspace``, or its parts disagree.
    """
    with open_hdf5(path) as file:
        kspace = dataset(file, path, "kspace")
        _check_kspace(path, kspace)
        slices, *coils, readout, phase = kspace.shape
        header, unusable = read_header(path, file)
        if unusable is not None:
            _log.warning("%s: nothing but the matrix is known: %s", path, unusable)
        check_matrix(path, header, (readout, phase))
        padding = padding_of(path, header, phase)
        acquired = _read_mask(path, file, (readout, phase), padding)
        header = header.model_copy(update={"phase_axes": phase_axes(header, acquired)})
        target = _read_target(path, file, slices)
        maximum = None if target is None else _read_maximum(file)
        noise = _read_noise(path, file)
    if target is not None and maximum is None:
        maximum = max(float(image.max()) for image in target)
    shape = (slices, coils[0] if coils else 1, readout, phase)
    return Scan(
        name=path.name,
        kspace=Stack(shape, partial(_read_kspace, path, acquired)),
        acquired=torch.from_numpy(acquired),
        padding=padding,
        header=header,
        target=target,
        maximum=maximum,
        noise=noise,
    )


def _check_kspace(path: Path, kspace: h5py.Dataset) -> None:
    require_complex(path, kspace.dtype, kspace.shape)
    if kspace.ndim not in (3, 4):
        raise BadInputError(
            "k-space has the wrong number of axes",
            file=path,
            field="kspace",
            got=f"{kspace.dtype} of shape {kspace.shape}",
            expected="(slices, coils, readout, phase), or (slices, readout, phase) for one coil",
        )


def _read_mask(
    path: Path, file: h5py.File, matrix: tuple[int, int], padding: tuple[int, int]
) -> NDArray[np.bool_]:
    encoded = columns(padding, matrix[1])
    if "mask" not in names(file, path):
        return encoded
    data = dataset(file, path, "mask")
    with damage_named(path, "mask"):
        values = np.asarray(data[()])
    return as_lines(mask_positions(values, matrix, encoded, path))


def _read_kspace(path: Path, acquired: NDArray[np.bool_], start: int, stop: int) -> Tensor:
    with open_hdf5(path) as file:
        data = dataset(file, path, "kspace")
        shape = data.shape if data.ndim == 4 else (data.shape[0], 1, *data.shape[1:])
        out = np.empty((stop - start, *shape[1:]), dtype=np.complex64)
        for index in range(start, stop):
            out[index - start] = read_slice(path, data, index, np.complex64)
    if not acquired.all():
        out[..., ~acquired] = 0
    return torch.from_numpy(out)


def _read_images(path: Path, name: str, start: int, stop: int) -> Tensor:
    with open_hdf5(path) as file:
        data = dataset(file, path, name)
        out = np.empty((stop - start, *data.shape[1:]), dtype=np.float32)
        for index in range(start, stop):
            out[index - start] = read_slice(path, data, index, np.float32)
    return torch.from_numpy(out)


def _read_target(path: Path, file: h5py.File, slices: int) -> Stack | None:
    name = _target_name(path, file)
    if name is None:
        return None
    images = _images(path, file, name)
    if len(images) != slices:
        raise BadInputError(
            "the target has another number of slices than the k-space",
            file=path,
            field=name,
            got=len(images),
            expected=slices,
        )
    return images


def _target_name(path: Path, file: h5py.File) -> str | None:
    present = names(file, path)
    single = "kspace" in present and dataset(file, path, "kspace").ndim == 3
    order = reversed(_TARGETS) if single else _TARGETS
    return next((name for name in order if name in present), None)


def target_dataset(path: Path) -> str:
    """Name of the reference images of a file.

    ``reconstruction_rss`` for multi-coil files; single-coil files (3 axes) carry both, and
    ``reconstruction_esc`` is the one that fastMRI evaluates them against.

    Raises:
        BadInputError: the file has neither.
    """
    with open_hdf5(path) as file:
        name = _target_name(path, file)
    if name is None:
        raise BadInputError(
            "the file has no reference images",
            file=path,
            field="reconstruction_rss",
            expected=" or ".join(_TARGETS),
        )
    return name


def image_dataset(path: Path) -> str:
    """Name of the images of a file: ``reconstruction`` of a submission, else its reference.

    Raises:
        BadInputError: the file has neither.
    """
    with open_hdf5(path) as file:
        submission = "reconstruction" in names(file, path)
    return "reconstruction" if submission else target_dataset(path)


def read_images(path: Path, name: str) -> Stack:
    """The images (slices, rows, columns) float32 of a dataset, for example ``reconstruction``.

    Raises:
        BadInputError: the file is damaged, the dataset missing, complex or of another rank.
    """
    with open_hdf5(path) as file:
        return _images(path, file, name)


def _images(path: Path, file: h5py.File, name: str) -> Stack:
    data = dataset(file, path, name)
    if data.ndim != 3 or data.dtype.kind not in "iuf":
        raise BadInputError(
            "these are not magnitude images",
            file=path,
            field=name,
            got=f"{data.dtype} of shape {data.shape}",
            expected="real numbers (slices, rows, columns)",
        )
    return Stack(tuple(data.shape), partial(_read_images, path, name))


def _read_maximum(file: h5py.File) -> float | None:
    value = attribute(file, "max")
    if isinstance(value, int | float | np.number) and math.isfinite(value) and value > 0:
        return float(value)
    return None


def _read_noise(path: Path, file: h5py.File) -> Tensor | None:
    if "noise" not in names(file, path):
        return None
    data = dataset(file, path, "noise")
    if data.ndim != 2 or data.dtype.kind != "c":
        raise BadInputError(
            "the noise samples have the wrong layout",
            file=path,
            field="noise",
            got=f"{data.dtype} of shape {data.shape}",
            expected="complex (coils, samples)",
        )
    return torch.from_numpy(
        np.stack([read_slice(path, data, coil, np.complex64) for coil in range(data.shape[0])])
    )


@dataclass(frozen=True)
class _Layout:
    """How k-space and target of a scan are stored."""

    target: str
    coil_axis: bool


_MULTI_COIL = _Layout("reconstruction_rss", coil_axis=True)
_SINGLE_COIL = _Layout("reconstruction_esc", coil_axis=False)


def write_scan(
    scan: Scan,
    path: Path,
    *,
    overwrite: bool = False,
    extra_datasets: Mapping[str, NDArray[np.generic]] | None = None,
    extra_attributes: Mapping[str, str | float | int] | None = None,
) -> None:
    """Write a scan as a multi-coil fastMRI file, slice by slice.

    K-space is chunked by coil image and carries fletcher32 checksums, so that damaged bytes are
    noticed on reading. The same scan gives the same bytes.

    Args:
        scan: what to write; a target becomes ``reconstruction_rss``.
        path: the file.
        overwrite: whether an existing file may be replaced.
        extra_datasets: further arrays by name, for example tissue labels.
        extra_attributes: further attributes of the file.

    Raises:
        BadInputError: the output exists or cannot be written, or the scan contradicts itself.
        UsageError: an extra has the name of something that the layout defines.
    """
    _write(scan, path, _MULTI_COIL, overwrite, extra_datasets or {}, extra_attributes or {})


def write_single_coil_scan(
    scan: Scan,
    path: Path,
    *,
    overwrite: bool = False,
    extra_datasets: Mapping[str, NDArray[np.generic]] | None = None,
    extra_attributes: Mapping[str, str | float | int] | None = None,
) -> None:
    """Write a scan of one coil in fastMRI's single-coil layout: no coil axis, target ``_esc``.

    Arguments and errors are those of `write_scan`.

    Raises:
        BadInputError: also when the scan has several coils.
    """
    if scan.coils != 1:
        raise BadInputError(
            "the single-coil layout holds one coil",
            file=scan.name,
            field="kspace",
            got=f"{scan.coils} coils",
            hint="Write it as a multi-coil file",
        )
    _write(scan, path, _SINGLE_COIL, overwrite, extra_datasets or {}, extra_attributes or {})


def _write(
    scan: Scan,
    path: Path,
    layout: _Layout,
    overwrite: bool,
    extra_datasets: Mapping[str, NDArray[np.generic]],
    extra_attributes: Mapping[str, str | float | int],
) -> None:
    _check_extras(extra_datasets, extra_attributes)
    header = header_of(scan)
    require_room(path.parent, 8 * math.prod(scan.kspace.shape))
    with (
        complete_file(path, overwrite=overwrite) as partial_path,
        h5py.File(partial_path, "w") as file,
    ):
        _write_kspace(file, scan, layout)
        xml = write_xml(
            # These two have attributes of their own.
            header.model_copy(update={"acquisition": None, "subject": None}),
            coils=scan.coils,
            slices=scan.slices,
        )
        # Of fixed length: HDF5 can loop for ever over the heap of a damaged variable-length text.
        file["ismrmrd_header"] = np.bytes_(xml.encode())
        if scan.target is not None:
            _write_target(file, scan.target, layout.target)
        if not scan.fully_sampled:
            _store(file, "mask", (scan.acquired & scan.encoded).numpy())
        if scan.noise is not None:
            _store(file, "noise", scan.noise.to(torch.complex64).cpu().numpy())
        for name, array in extra_datasets.items():
            _store(file, name, array)
        if header.acquisition is not None:
            file.attrs["acquisition"] = header.acquisition
        if header.subject is not None:
            file.attrs["patient_id"] = header.subject
        for name, value in extra_attributes.items():
            file.attrs[name] = value


def _store(file: h5py.File, name: str, array: NDArray[np.generic]) -> None:
    """Write an array with a checksum; only numbers with axes can have one."""
    if array.size and array.ndim and array.dtype.kind in "biufc":
        chunks = (1, *array.shape[1:]) if array.ndim > 2 else array.shape
        file.create_dataset(name, data=array, chunks=chunks, fletcher32=True)
    else:
        file[name] = array


def _check_extras(datasets: Mapping[str, object], attributes: Mapping[str, object]) -> None:
    taken = {"kspace", "ismrmrd_header", "mask", "noise", *_TARGETS} & set(datasets)
    taken |= {"acquisition", "max", "norm", "patient_id"} & set(attributes)
    if taken:
        raise UsageError(
            "the fastMRI layout defines these names itself", got=", ".join(sorted(taken))
        )


def _write_kspace(file: h5py.File, scan: Scan, layout: _Layout) -> None:
    shape = scan.kspace.shape if layout.coil_axis else (scan.slices, *scan.matrix)
    data = file.create_dataset(
        "kspace",
        shape,
        np.complex64,
        chunks=(1,) * (len(shape) - 2) + scan.matrix,
        fletcher32=True,
    )
    for index, kspace in enumerate(scan.kspace):
        values = kspace.to(torch.complex64).cpu().numpy()
        require_finite(values, scan.name, "kspace", index)
        data[index] = values if layout.coil_axis else values[0]


def _write_target(file: h5py.File, target: Stack, name: str) -> None:
    data = create_dataset(file, name, target.shape)
    maximum, squares = -math.inf, 0.0
    for index, image in enumerate(target):
        values = write_slice(data, index, image)
        maximum = max(maximum, float(values.max()))
        squares += float(np.square(values, dtype=np.float64).sum())
    file.attrs["max"] = maximum
    file.attrs["norm"] = math.sqrt(squares)


def write_submission(
    path: Path,
    images: Stack | Tensor,
    *,
    overwrite: bool = False,
    attributes: Mapping[str, str | float | int] | None = None,
) -> None:
    """Write images as a fastMRI submission: dataset ``reconstruction``, one file per volume.

    Args:
        path: the file; ``fastmri.evaluate`` expects the name of the target's file.
        images: (slices, rows, columns) magnitude, written as float32.
        overwrite: whether an existing file may be replaced.
        attributes: attributes of the file.

    Raises:
        BadInputError: wrong rank, not finite, or an output that exists or cannot be written.
    """
    stack = Stack.of(images) if isinstance(images, Tensor) else images
    write_images(path, {"reconstruction": stack}, overwrite=overwrite, attributes=attributes)
