"""Stacks of magnitude images into HDF5, slice by slice, with a checksum on each slice."""

import math
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adaptmr.data.files import complete_file, require_room
from adaptmr.data.scan import Stack
from adaptmr.data.values import require_finite
from adaptmr.errors import BadInputError


def create_dataset(file: h5py.File, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """An empty float32 dataset (slices, rows, columns)."""
    return file.create_dataset(name, shape, np.float32, chunks=(1, *shape[1:]), fletcher32=True)


def write_slice(data: h5py.Dataset, index: int, image: Tensor) -> NDArray[np.float32]:
    """Write one slice of a dataset.

    Args:
        data: what `create_dataset` made.
        index: the slice.
        image: (rows, columns).

    Returns:
        The values as written.

    Raises:
        BadInputError: they are not finite.
    """
    values: NDArray[np.float32] = image.float().cpu().numpy()
    name = str(data.name).lstrip("/")
    require_finite(values, Path(data.file.filename).name, name, index)
    data[index] = values
    return values


def write_images(
    path: Path,
    stacks: Mapping[str, Stack],
    *,
    overwrite: bool = False,
    attributes: Mapping[str, str | float | int] | None = None,
) -> None:
    """Write stacks of one shape by name, each slice of all of them before the next slice.

    Args:
        path: the file.
        stacks: (slices, rows, columns) each, written as float32.
        overwrite: whether an existing file may be replaced.
        attributes: attributes of the file.

    Raises:
        BadInputError: wrong rank, shapes that differ, values that are not finite, or an output that
            exists or cannot be written.
    """
    shapes = {stack.shape for stack in stacks.values()}
    if len(shapes) != 1 or any(len(shape) != 3 for shape in shapes):
        raise BadInputError(
            "a file of images holds one magnitude image per slice",
            file=path,
            field=next(iter(stacks), None),
            got=" and ".join(map(str, sorted(shapes))) or "nothing",
            expected="(slices, rows, columns)",
        )
    shape = shapes.pop()
    require_room(path.parent, 4 * len(stacks) * math.prod(shape))
    with (
        complete_file(path, overwrite=overwrite) as partial_path,
        h5py.File(partial_path, "w") as file,
    ):
        datasets = {name: create_dataset(file, name, shape) for name in stacks}
        for index in range(shape[0]):
            for name, stack in stacks.items():
                write_slice(datasets[name], index, stack[index])
        for name, value in (attributes or {}).items():
            file.attrs[name] = value
