"""Loops that numba compiles for the processor at hand, where it is installed and pays.

What is compiled is kept in numba's own cache, beside Python's, so that it takes seconds only once.
One thread works: beyond a few threads the calls of torch, which share the work, are faster.
"""

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from adaptmr.kernels.dispatch import reference_forced

_MOST_THREADS: Final = 2
# Numbers of a row that are worked on at once: several arrays of them stay in the first-level cache.
_LEAST_SPAN: Final = 256
_MOST_SPAN: Final = 2048
# Numbers summed in single precision; their sums are summed in double.
_SUMMANDS: Final = 32
# Squared mean over variance above which sums are taken again, of differences from the mean.
_FAR_FROM_ZERO: Final = 16.0
_NORM_ROWS: Final = "(float32[:,:,:,::1], int64, float64, float32, float32[:,:,:,::1])"


@lru_cache(1)
def has_numba() -> bool:
    """Whether numba is installed; nothing is imported."""
    return find_spec("numba") is not None


def runs_compiled(tensor: Tensor) -> bool:
    """Whether compiled loops are for this tensor: float32 on a CPU, with few threads."""
    few = tensor.device.type == "cpu" and torch.get_num_threads() <= _MOST_THREADS
    return few and tensor.dtype == torch.float32 and has_numba() and not reference_forced()


def norm_rows(parts: Tensor, channels: int, epsilon: float, slope: float, out: Tensor) -> None:
    """As `adaptmr.kernels.instance_norm_act.norm_rows`.

    Args:
        parts: (parts, rows, columns * channels) float32, contiguous.
        channels: numbers of a pixel.
        epsilon: added to the variance.
        slope: of the negative side.
        out: (rows, parts, columns * channels), contiguous; may be the memory of one part.
    """
    pieces = _pieces(parts.shape[-1], channels)
    source, into = (one.detach().view(*one.shape[:2], pieces, -1).numpy() for one in (parts, out))
    _compiled()(source, channels, epsilon, slope, into)


def _pieces(width: int, channels: int) -> int:
    """Equal pieces of whole pixels into which a row is cut."""
    columns = width // channels
    fits = range(-(-width // _MOST_SPAN), width // _LEAST_SPAN + 1)
    return next((pieces for pieces in fits if pieces and columns % pieces == 0), 1)


@lru_cache(1)
def _compiled() -> Callable[..., None]:
    import numba

    def made(*, cache: bool) -> Callable[..., None]:
        return numba.njit(
            _NORM_ROWS, cache=cache, nogil=True, error_model="numpy", fastmath={"contract"}
        )(_norm_rows)

    try:
        return made(cache=True)
    except RuntimeError:  # nowhere to keep it
        return made(cache=False)


def _norm_rows(parts: Any, channels: int, epsilon: float, slope: float, out: Any) -> None:
    """Written out number by number, as numba wants it; long loops of one stride are vectorised."""
    several, rows, pieces, span = parts.shape
    pixels = several * rows * pieces * (span // channels)
    rows_at_once = max(1, _SUMMANDS // pieces)
    shift, factor = np.zeros(span, np.float32), np.empty(span, np.float32)
    some, squares = np.empty(span, np.float32), np.empty(span, np.float32)
    mean, variance = np.empty(channels), np.empty(channels)
    for _ in range(2):
        all_sums, all_squares = np.zeros(span), np.zeros(span)
        for part in range(several):
            for start in range(0, rows, rows_at_once):
                some[:] = 0
                squares[:] = 0
                for row in range(start, min(start + rows_at_once, rows)):
                    for piece in range(pieces):
                        for place in range(span):
                            away = parts[part, row, piece, place] - shift[place]
                            some[place] += away
                            squares[place] += away * away
                for place in range(span):
                    all_sums[place] += some[place]
                    all_squares[place] += squares[place]
        mean[:] = 0
        variance[:] = 0
        for first in range(0, span, channels):
            for channel in range(channels):
                mean[channel] += all_sums[first + channel]
                variance[channel] += all_squares[first + channel]
        far = False
        for channel in range(channels):
            mean[channel] /= pixels
            variance[channel] = max(variance[channel] / pixels - mean[channel] ** 2, 0)
            far |= mean[channel] ** 2 > _FAR_FROM_ZERO * variance[channel]
        for first in range(0, span, channels):
            for channel in range(channels):
                shift[first + channel] += mean[channel]
                factor[first + channel] = 1 / np.sqrt(variance[channel] + epsilon)
        if not far:
            break
    # Beside the image first: the compiler cannot tell whether the result overwrites the image.
    done = some
    for part in range(several):
        for row in range(rows):
            for piece in range(pieces):
                for place in range(span):
                    value = (parts[part, row, piece, place] - shift[place]) * factor[place]
                    done[place] = value if value > 0 else value * slope
                for place in range(span):
                    out[row, part, piece, place] = done[place]
