"""K-space from plain arrays: NumPy ``.npy`` and ``.npz``, BART ``.cfl`` with ``.hdr``.

None of them has a header. What was acquired is told by ``mask`` in an ``.npz``; otherwise, as in
BART, positions that are exactly zero in every slice and coil were not acquired.
"""

import math
from functools import partial
from pathlib import Path
from zipfile import is_zipfile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptmr.data.hdf5 import damage_named, require_file
from adaptmr.data.positions import as_lines, mask_positions, nonzero_positions, phase_axes
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.data.values import converted, require_complex
from adaptmr.errors import BadInputError

_NUMPY_MARK = b"\x93NUMPY"
_BART_AXES = 16
_BART_SLICES = 13


def read_scan(path: Path) -> Scan:
    """Open k-space in a NumPy or BART file.

    * ``.npy``: one complex array (slices, coils, readout, phase), read slice by slice.
    * ``.npz``: ``kspace`` like that, and optionally ``mask`` (phase,) or (readout, phase); read
      into memory once.
    * ``.cfl``/``.hdr`` (either may be named): BART's order of axes: readout, phase 1, phase 2,
      coils, ..., slices as axis 13; read slice by slice. Phase 2 has to be 1, or the readout: then
      the slice is one position along the readout of a 3-D scan, with two phase axes.

    Pickled objects are never loaded.

    Raises:
        BadInputError: a damaged file, another layout, or k-space that is all zero.
    """
    require_file(path)
    if path.suffix in (".cfl", ".hdr"):
        return _read_bart(path)
    if is_zipfile(path):
        return _read_npz(path)
    with path.open("rb") as stream:
        mark = stream.read(len(_NUMPY_MARK))
    if mark != _NUMPY_MARK:
        raise BadInputError(
            "the file is damaged, or no NumPy array", file=path, got=f"first bytes {mark!r}"
        )
    with damage_named(path, "kspace"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    _check(path, array.dtype, array.shape)
    return _scan(path, Stack(array.shape, partial(_read_npy, path)), None, Header())


def _check(path: Path, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
    require_complex(path, dtype, shape)
    if len(shape) != 4 or not math.prod(shape):
        raise BadInputError(
            "k-space has the wrong number of axes",
            file=path,
            field="kspace",
            got=f"{dtype} of shape {shape}",
            expected="(slices, coils, readout, phase)",
            hint="Give the array an axis of length 1 for a single slice or coil",
        )


def _scan(path: Path, kspace: Stack, mask: NDArray[np.generic] | None, header: Header) -> Scan:
    readout, phase = kspace.shape[2:]
    acquired = (
        nonzero_positions(kspace)
        if mask is None
        else mask_positions(mask, (readout, phase), np.ones(phase, dtype=np.bool_), path)
    )
    if not acquired.any():
        raise BadInputError("k-space is all zero", file=path, field="kspace")
    acquired = as_lines(acquired)
    return Scan(
        name=path.name,
        kspace=kspace,
        acquired=torch.from_numpy(acquired),
        padding=(0, phase),
        header=header.model_copy(update={"phase_axes": phase_axes(header, acquired)}),
    )


def _read_npy(path: Path, start: int, stop: int) -> Tensor:
    with damage_named(path, "kspace"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return _stacked(path, array, start, stop)


def _stacked(path: Path, array: NDArray[np.generic], start: int, stop: int) -> Tensor:
    out = np.empty((stop - start, *array.shape[1:]), dtype=np.complex64)
    for index in range(start, stop):
        out[index - start] = converted(array[index], np.complex64, path, "kspace", index)
    return torch.from_numpy(out)


def _read_npz(path: Path) -> Scan:
    with (
        damage_named(path),
        path.open("rb") as stream,
        np.load(stream, allow_pickle=False) as archive,
    ):
        names = list(archive.files)
        kspace = archive["kspace"] if "kspace" in names else None
        mask = archive["mask"] if "mask" in names else None
    if kspace is None:
        raise BadInputError(
            "an array is missing",
            file=path,
            field="kspace",
            got=", ".join(names) or "no array",
            expected="an array 'kspace'",
        )
    _check(path, kspace.dtype, kspace.shape)
    stack = Stack.of(_stacked(path, kspace, 0, len(kspace)))
    if mask is not None:
        stack = _masked(path, stack, mask)
    return _scan(path, stack, mask, Header())


def _masked(path: Path, kspace: Stack, mask: NDArray[np.generic]) -> Stack:
    """K-space that is zero wherever the mask says nothing was acquired."""
    readout, phase = kspace.shape[2:]
    acquired = mask_positions(mask, (readout, phase), np.ones(phase, dtype=np.bool_), path)
    values = kspace[:]
    values[..., ~torch.from_numpy(acquired)] = 0
    return Stack.of(values)


def _read_bart(path: Path) -> Scan:
    data = path.with_suffix(".cfl")
    for part in (path.with_suffix(".hdr"), data):
        require_file(part)
    sizes = _bart_sizes(path.with_suffix(".hdr"))
    expected = 8 * math.prod(sizes)
    if data.stat().st_size != expected:
        raise BadInputError(
            "the header disagrees with the size of the file",
            file=data,
            field="Dimensions",
            got=f"{data.stat().st_size:,} bytes",
            expected=f"{expected:,} bytes for {_told(sizes)}",
            hint="The .cfl is truncated or belongs to another .hdr: copy both again",
        )
    others = [axis for axis in range(4, _BART_AXES) if axis != _BART_SLICES and sizes[axis] > 1]
    if others or (sizes[2] > 1 and sizes[0] > 1):
        raise BadInputError(
            "the BART axes are not those of slices",
            file=path.with_suffix(".hdr"),
            field="Dimensions",
            got=_told(sizes),
            expected="readout, phase 1, 1, coils, and slices as axis 13; all others 1",
            hint="Take one volume with `bart slice`; for a 3-D scan, `bart fft -u -i 1` and"
            " `bart transpose 0 13` make slices along the readout",
        )
    matrix = (sizes[0], sizes[1]) if sizes[2] == 1 else (sizes[1], sizes[2])
    shape = (sizes[_BART_SLICES], sizes[3], *matrix)
    kspace = Stack(shape, partial(_read_cfl, data, shape))
    header = Header(phase_axes=1 if sizes[2] == 1 else 2)
    return _scan(data, kspace, None, header)


def _bart_sizes(path: Path) -> tuple[int, ...]:
    with damage_named(path, "Dimensions"):
        lines = path.read_text(encoding="utf-8")[:4096].splitlines()
        following = lines.index("# Dimensions") + 1
        sizes = tuple(int(word) for word in " ".join(lines[following : following + 1]).split())
        if not sizes or len(sizes) > _BART_AXES or min(sizes) < 1:
            raise ValueError(f"sizes {sizes}")
    return sizes + (1,) * (_BART_AXES - len(sizes))


def _told(sizes: tuple[int, ...]) -> str:
    return " ".join(map(str, sizes))


def _read_cfl(path: Path, shape: tuple[int, ...], start: int, stop: int) -> Tensor:
    slices, coils, rows, columns = shape
    with damage_named(path, "kspace"):
        # BART counts the first axis fastest, so in C order the axes are reversed.
        array = np.memmap(path, dtype="<c8", mode="r", shape=(slices, coils, columns, rows))
    return _stacked(path, array.transpose(0, 1, 3, 2), start, stop)
