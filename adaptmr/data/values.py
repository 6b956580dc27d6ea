"""Numbers from files, checked and converted."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaptmr.errors import BadInputError


class NotFiniteError(BadInputError):
    """Values are NaN or infinite.

    Attributes:
        count: how many.
    """

    count = 0


def require_finite(
    values: NDArray[np.generic], path: Path | str, field: str, slice_index: int | None = None
) -> None:
    """Refuse values that are NaN or infinite.

    Raises:
        NotFiniteError: with their number.
    """
    finite = np.isfinite(values)
    if finite.all():
        return
    count = values.size - int(finite.sum())
    error = NotFiniteError(
        "values are not finite",
        file=path,
        slice_index=slice_index,
        field=field,
        got=f"{count} NaN or infinite of {values.size}",
        expected="finite numbers",
        hint="Export the scan again, or leave it out",
    )
    error.count = count
    raise error


def converted(
    values: NDArray[np.generic],
    dtype: type[np.generic],
    path: Path | str,
    field: str,
    slice_index: int | None = None,
) -> NDArray[np.generic]:
    """Values as a native C-ordered array of ``dtype``, known to be finite.

    Raises:
        NotFiniteError: values are NaN, infinite, or too large for ``dtype``.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        array: NDArray[np.generic] = np.ascontiguousarray(values, dtype=dtype)
    require_finite(array, path, field, slice_index)
    return array


def require_complex(path: Path | str, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
    """Refuse k-space that is real or stored as pairs of real numbers.

    Raises:
        BadInputError: with how to convert it.
    """
    if dtype.kind == "c":
        return
    pairs = (
        "kspace['real'] + 1j * kspace['imag']"
        if dtype.names
        else ("kspace[..., 0] + 1j * kspace[..., 1]")
    )
    raise BadInputError(
        "k-space is not complex",
        file=path,
        field="kspace",
        got=f"{dtype} of shape {shape}",
        expected="complex64 (slices, coils, readout, phase)",
        hint=f"Save pairs of real numbers as {pairs}; a magnitude image has no k-space",
    )
