"""Any images in place of scans: single-coil k-space by their Fourier transform.

For Fourier compressed sensing of pictures, not for MR: an image that is real and without noise has
k-space with Hermitian symmetry, which flatters every reconstruction of magnitude images.
"""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from adaptmr.data.hdf5 import require_file
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import fourier

SUFFIXES: Final = (".jpeg", ".jpg", ".npy", ".png", ".tif", ".tiff")
"""Files that are taken for pictures."""


def open_pictures(folder: Path, matrix: tuple[int, int]) -> tuple[Scan, ...]:
    """Open all pictures of a folder as scans of one slice, in the order of their names.

    Args:
        folder: where they lie; other files are passed over.
        matrix: (rows, columns) of the scans.

    Raises:
        BadInputError: there is none, or one cannot be read.
    """
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise BadInputError(
            "there are no pictures",
            file=folder,
            got="other files" if folder.is_dir() else "no such folder",
            expected=f"files that end in {', '.join(SUFFIXES)}",
        )
    return tuple(read_picture(file, matrix) for file in files)


def read_picture(path: Path, matrix: tuple[int, int]) -> Scan:
    """Open a picture as a fully sampled single-coil scan: grey, its centre resized.

    Every picture is a subject of its own.

    Args:
        path: PNG, JPEG, TIFF or whatever else Pillow reads; or ``.npy``, (rows, columns) or
            (rows, columns, colours), real.
        matrix: (rows, columns) of the scan.

    Raises:
        BadInputError: the file is missing, is no picture, or has no signal.
    """
    require_file(path)
    image = _fitted(_grey(path), matrix)
    pixels = torch.from_numpy(image)
    if not (np.isfinite(image).all() and image.max() > 0):
        raise BadInputError(
            "the picture has no signal, or values that are not finite",
            file=path,
            got=f"{image.min():g} to {image.max():g}",
        )
    return Scan(
        name=path.name,
        kspace=Stack.of(fourier(pixels.to(torch.complex64))[None, None]),
        acquired=torch.ones(matrix[1], dtype=torch.bool),
        padding=(0, matrix[1]),
        header=Header(subject=path.name, phase_axes=2),
        target=Stack.of(pixels[None]),
        maximum=float(pixels.max()),
    )


def _grey(path: Path) -> NDArray[np.float32]:
    """(rows, columns), not negative."""
    try:
        if path.suffix.lower() == ".npy":
            array = np.load(path, allow_pickle=False)
        else:
            with Image.open(path) as picture:
                array = np.asarray(picture.convert("RGB") if picture.mode == "P" else picture)
    except (OSError, ValueError, UnidentifiedImageError) as error:
        raise BadInputError("the picture cannot be read", file=path, got=str(error)) from error
    if array.ndim == 3:
        array = array[..., :3].mean(-1)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "buif":
        raise BadInputError(
            "this is no picture",
            file=path,
            got=f"{array.dtype} of shape {array.shape}",
            expected="real numbers, (rows, columns) or (rows, columns, colours)",
        )
    grey: NDArray[np.float32] = np.abs(array.astype(np.float32))
    return grey


def _fitted(image: NDArray[np.float32], matrix: tuple[int, int]) -> NDArray[np.float32]:
    """The largest centred part of the matrix's proportions, resized."""
    rows, columns = image.shape
    scale = min(rows / matrix[0], columns / matrix[1])
    height, width = scale * matrix[0], scale * matrix[1]
    top, left = (rows - height) / 2, (columns - width) / 2
    resized = Image.fromarray(image).resize(
        (matrix[1], matrix[0]),
        Image.Resampling.BICUBIC,
        box=(left, top, left + width, top + height),
    )
    fitted: NDArray[np.float32] = np.array(resized, np.float32)
    fitted[fitted < 0] = 0  # where cubic interpolation undershoots
    return fitted
