"""One pass over the k-space of a scan that collects what is worth knowing about it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptmr.data.scan import Scan
from adaptmr.data.values import NotFiniteError
from adaptmr.errors import BadInputError

_OUTERMOST = 0.02
_FEWEST = 64
# The magnitude of complex Gaussian noise with standard deviation 1 of each part has this median.
_MEDIAN_MAGNITUDE = float(np.sqrt(2 * np.log(2)))


@dataclass(frozen=True)
class Survey:
    """What one pass over k-space found; None where no slice could be read.

    Attributes:
        not_finite: number of values that are not finite, by slice.
        refusals: the error of each slice that cannot be read.
        empty_slices: slices that are all zero.
        empty_coils: coils that are all zero in every slice that could be read.
        noise: per coil, standard deviation of the real part, from the outermost acquired samples.
        centre: position of the largest energy, over slices and coils.
        zero_rings: rows at the first and last edge, columns at the first and last edge that count
            as acquired but are exactly zero.
        zero_columns: further columns that count as acquired but are exactly zero.
        conjugate_symmetry: |sum of k(x) k(-x)| over sum of |k(x)|^2: 1 for real images with one
            constant phase.
    """

    not_finite: dict[int, int]
    refusals: tuple[str, ...]
    empty_slices: tuple[int, ...]
    empty_coils: tuple[int, ...]
    noise: tuple[float, ...] | None
    centre: tuple[int, int] | None
    zero_rings: tuple[int, int, int, int] | None
    zero_columns: int
    conjugate_symmetry: float | None


def survey(scan: Scan) -> Survey:
    """Read every slice once; those that cannot be read are told of in ``refusals``."""
    not_finite: dict[int, int] = {}
    refusals: list[str] = []
    empty_slices: list[int] = []
    coil_energy = torch.zeros(scan.coils, dtype=torch.float64)
    energy = torch.zeros(scan.matrix, dtype=torch.float64)
    symmetric = 0.0
    noise: list[Tensor] = []
    for index in range(scan.slices):
        try:
            kspace = scan.kspace[index]
        except BadInputError as error:
            refusals.append(str(error))
            if isinstance(error, NotFiniteError):
                not_finite[index] = error.count
            continue
        if not kspace.any():
            empty_slices.append(index)
            continue
        for coil, one_coil in enumerate(kspace):
            squared = one_coil.abs().double().square()
            energy += squared
            coil_energy[coil] += squared.sum()
            symmetric += float((one_coil * _mirrored(one_coil)).sum().abs())
        level = _outer_noise(kspace)
        if level is not None:
            noise.append(level)
    total = float(energy.sum())
    seen = total > 0
    rings, columns = _exact_zeros(scan, energy.numpy()) if seen else (None, 0)
    peak = int(energy.argmax())
    return Survey(
        not_finite=not_finite,
        refusals=tuple(refusals),
        empty_slices=tuple(empty_slices),
        empty_coils=tuple(torch.nonzero(coil_energy == 0)[:, 0].tolist()) if seen else (),
        noise=tuple(torch.stack(noise).median(0).values.tolist()) if noise else None,
        centre=(peak // scan.matrix[1], peak % scan.matrix[1]) if seen else None,
        zero_rings=rings,
        zero_columns=columns,
        conjugate_symmetry=symmetric / total if seen else None,
    )


def _mirrored(kspace: Tensor) -> Tensor:
    """``k(-x)``: mirrored about the centre ``n // 2``; for even n the first index is its own."""
    shifts = [1 - size % 2 for size in kspace.shape[-2:]]
    return kspace.flip((-2, -1)).roll(shifts, (-2, -1))


def _outer_noise(kspace: Tensor) -> Tensor | None:
    """Noise level per coil of one slice, from the samples farthest from the centre."""
    sampled = (kspace != 0).any(0)
    rows, columns = (torch.linspace(-1, 1, size) for size in kspace.shape[-2:])
    radius = (rows[:, None].square() + columns.square())[sampled]
    count = max(_FEWEST, int(len(radius) * _OUTERMOST))
    if len(radius) < 10 * count:
        return None
    outer = radius.topk(count).indices
    magnitudes = kspace[:, sampled][:, outer].abs()
    return magnitudes.median(dim=1).values / _MEDIAN_MAGNITUDE


def _exact_zeros(
    scan: Scan, energy: NDArray[np.float64]
) -> tuple[tuple[int, int, int, int] | None, int]:
    """Rows and columns at the edges, and columns inside, that are zero but count as acquired."""
    acquired = np.broadcast_to(scan.acquired.numpy(), energy.shape)
    missing = acquired & (energy == 0)
    rows = missing.sum(1) == np.maximum(acquired.sum(1), 1)
    columns = missing.sum(0) == np.maximum(acquired.sum(0), 1)
    zero: NDArray[np.bool_] = np.asarray(columns)[scan.padding[0] : scan.padding[1]]
    first, last = _leading(zero), _leading(zero[::-1])
    inside = int(zero.sum()) - (first + last if not zero.all() else len(zero))
    return (_leading(rows), _leading(rows[::-1]), first, last), inside


def _leading(flags: NDArray[np.bool_]) -> int:
    """How many entries are true before the first that is not."""
    return len(flags) if flags.all() else int(flags.argmin())
