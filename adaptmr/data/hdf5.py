"""HDF5 files opened and read so that damage becomes a `BadInputError` that names it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from adaptmr.data.values import converted
from adaptmr.errors import BadInputError

# What h5py raises on damaged files, found by fuzzing headers and data.
DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError, AttributeError)


@contextmanager
def damage_named(
    path: Path, field: str | None = None, slice_index: int | None = None
) -> Iterator[None]:
    """Turn whatever h5py raises within the block into a `BadInputError`.

    Keep the block to the calls of h5py: a mistake of ours in it would be blamed on the file.

    Raises:
        BadInputError: the file is damaged there.
    """
    try:
        yield
    except DAMAGE as error:
        raise BadInputError(
            "the file is damaged",
            file=path,
            field=field,
            slice_index=slice_index,
            got=str(error) or type(error).__name__,
            hint="Copy the file again from where it came",
        ) from error


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading.

    Raises:
        BadInputError: the file is missing, empty, not HDF5, truncated or damaged.
    """
    require_file(path)
    try:
        file = h5py.File(path, "r")
    except DAMAGE as error:
        raise _cannot_open(path, error) from error
    with file:
        yield file


def require_file(path: Path) -> None:
    """Refuse what is not a file with something in it.

    Raises:
        BadInputError: nothing is there, it is a folder, or it is empty.
    """
    if not path.exists():
        raise BadInputError("the file does not exist", file=path, hint="Check the path")
    if not path.is_file():
        raise BadInputError("this is not a file", file=path, hint="Name the files themselves")
    if path.stat().st_size == 0:
        raise BadInputError(
            "the file is empty",
            file=path,
            got="0 bytes",
            hint="Copy the file again from where it came",
        )


def _cannot_open(path: Path, error: BaseException) -> BadInputError:
    if isinstance(error, PermissionError):
        return BadInputError(
            "the file may not be read", file=path, hint="Ask for permission to read it"
        )
    if h5py.is_hdf5(path):
        return BadInputError(
            "the HDF5 file is truncated or damaged",
            file=path,
            got=f"{path.stat().st_size:,} bytes; {error}",
            hint="Copy the file again from where it came",
        )
    with path.open("rb") as stream:
        first = stream.read(8)
    return BadInputError(
        "this is not an HDF5 file",
        file=path,
        got=f"first bytes {first!r}",
        expected="an HDF5 file",
        hint="`adaptmr inspect` tells what the file is",
    )


def names(file: h5py.File, path: Path) -> set[str]:
    """Names of what lies at the top of the file.

    Raises:
        BadInputError: the file is damaged there.
    """
    with damage_named(path):
        return set(file.keys())


def dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    """The dataset of that name.

    Raises:
        BadInputError: there is none, or it holds no data.
    """
    with damage_named(path, name):
        found = file.get(name)
        present = sorted(file.keys())
    if not isinstance(found, h5py.Dataset):
        raise BadInputError(
            "a dataset is missing",
            file=path,
            field=name,
            got=", ".join(present) or "an empty file",
            expected=f"a dataset '{name}'",
        )
    with damage_named(path, name):
        complete = _is_complete(found)
    if not complete:
        raise BadInputError(
            "a dataset holds less data than its shape says",
            file=path,
            field=name,
            got=f"shape {found.shape}, {found.id.get_storage_size():,} bytes stored",
            hint="The file was never completely written, or is damaged: make it again",
        )
    return found


def _is_complete(data: h5py.Dataset) -> bool:
    """Whether all of the data was written; what was not would be read as zeros, without end."""
    str(data.dtype)  # a damaged type shows itself here
    if not data.size:
        return False
    if data.chunks is None:
        return bool(data.id.get_storage_size() >= data.size * data.id.get_type().get_size())
    chunks = math.prod(
        -(-size // chunk) for size, chunk in zip(data.shape, data.chunks, strict=True)
    )
    return bool(data.id.get_num_chunks() == chunks)


def read_slice(
    path: Path, data: h5py.Dataset, index: int, dtype: type[np.generic]
) -> NDArray[np.generic]:
    """One slice of a dataset as a native C-ordered array of ``dtype``, known to be finite.

    Raises:
        BadInputError: the slice is damaged, or has values that are NaN, infinite or too large
            for ``dtype``.
    """
    with damage_named(path, data.name.lstrip("/"), index):
        stored = data[index]
    return converted(stored, dtype, path, data.name.lstrip("/"), index)
