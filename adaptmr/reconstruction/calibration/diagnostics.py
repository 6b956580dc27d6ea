"""Whether intervals keep their promise on test subjects, where they miss, and what they tell.

Coverage alone can be had by intervals that say nothing. So beside it: how wide they are, whether
narrow and wide ones cover alike (Angelopoulos et al. 2022, arXiv:2202.05265), where in the image
they miss, and whether they are wide where errors are large.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from adaptmr.errors import BadInputError
from adaptmr.reconstruction.calibration.checks import check_images, check_labels, checked_region
from adaptmr.reconstruction.calibration.intervals import Interval
from adaptmr.reconstruction.calibration.region import RegionRule, object_region
from adaptmr.reconstruction.statistics import Estimate, paired_bootstrap

GRID: Final = 16
"""Rows and columns of the map of misses, whatever the matrix."""
RINGS: Final = 8
"""Rings around the centre, of equal thickness, the last up to the corners."""
BINS: Final = 4
"""Bins of interval width; equal widths fall into one, so there may be fewer."""


@dataclass(frozen=True, eq=False)
class JudgedSlice:
    """The pixels of one test slice's region.

    Attributes:
        subject: whose slice it is.
        stratum: what it was calibrated with.
        width: (pixels,) of the interval, as share of the mean signal in the region.
        error: (pixels,) |target - image|, as share of the same.
        missed: (pixels,) bool, the target is not in the interval.
        cell: (pixels,) ``row * GRID + column`` of the map that the pixel is in.
        ring: (pixels,) 0 at the centre.
    """

    subject: str
    stratum: str
    width: NDArray[np.float32]
    error: NDArray[np.float32]
    missed: NDArray[np.bool_]
    cell: NDArray[np.uint8]
    ring: NDArray[np.uint8]

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's, of width and error; None where one of them is constant."""
        if np.ptp(self.width) == 0 or np.ptp(self.error) == 0:
            return None
        return float(spearmanr(self.width, self.error).statistic)


def judge(
    interval: Interval,
    image: Tensor,
    target: Tensor,
    *,
    subjects: Sequence[str],
    stratum: str,
    region: RegionRule = object_region,
) -> tuple[JudgedSlice, ...]:
    """Hold intervals against the targets of test slices.

    Args:
        interval: of these slices.
        image: (batch, rows, columns) magnitude, as reconstructed.
        target: (batch, rows, columns) magnitude.
        subjects: (batch,) the subject of each slice.
        stratum: of all these slices.
        region: pixels that count, as for the calibration.

    Returns:
        One for each slice of which anything with signal counts.

    Raises:
        BadInputError: values that are not finite or negative, shapes that do not fit.
    """
    check_images(image, lower=interval.lower, upper=interval.upper, target=target)
    check_labels(subjects, len(image), "subjects")
    counted = checked_region(region, image)
    rows, columns = image.shape[1:]
    cells, rings = _places(rows, columns)
    missed = (target < interval.lower) | (target > interval.upper)
    found = []
    for index, inside in enumerate(counted):
        signal = image[index][inside].double().mean() if bool(inside.any()) else torch.zeros(())
        if not float(signal) > 0:
            continue
        where = inside.cpu()
        found.append(
            JudgedSlice(
                subjects[index],
                stratum,
                (interval.width[index][inside] / signal).float().cpu().numpy(),
                ((target - image)[index][inside].abs() / signal).float().cpu().numpy(),
                missed[index][inside].cpu().numpy(),
                cells[where].numpy(),
                rings[where].numpy(),
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class SizeBin:
    """Pixels whose intervals are about equally wide.

    Attributes:
        low: narrowest, as share of the mean signal.
        high: widest.
        coverage: share of the pixels covered.
        pixels: how many.
    """

    low: float
    high: float
    coverage: float
    pixels: int


@dataclass(frozen=True)
class Diagnostics:
    """What intervals did on test slices; means over subjects with 95 % bootstrap intervals.

    Attributes:
        subjects: how many.
        slices: how many.
        coverage: share of pixels covered, mean over each subject's slices.
        width: of the interval, as share of the mean signal in the region.
        rank_correlation: Spearman's of width and error in the region, mean over slices; None where
            no slice, or a single subject, has one.
        sizes: coverage of narrow to wide intervals, by quantiles of the width over all pixels.
        rings: share of pixels missed in each ring, from the centre; None without pixels.
        map: share of pixels missed, GRID rows of GRID columns; None without pixels.
    """

    subjects: int
    slices: int
    coverage: Estimate
    width: Estimate
    rank_correlation: Estimate | None
    sizes: tuple[SizeBin, ...]
    rings: tuple[float | None, ...]
    map: tuple[tuple[float | None, ...], ...]

    @property
    def worst_size(self) -> float:
        """Least coverage over the bins of width: the size-stratified coverage."""
        return min(each.coverage for each in self.sizes)


def diagnose(slices: Iterable[JudgedSlice], *, seed: int) -> Diagnostics:
    """Sum up test slices; of one stratum, or of several together.

    Args:
        slices: of the test subjects; filter them by ``stratum`` for one.
        seed: of the bootstrap.

    Raises:
        BadInputError: fewer than two subjects.
    """
    every = list(slices)
    subjects = [one.subject for one in every]
    if len(set(subjects)) < 2:
        raise BadInputError(
            "diagnostics over subjects need at least two",
            field="slices",
            got=f"{len(every)} slices of {len(set(subjects))} subjects",
        )
    correlations = [(one.subject, one.rank_correlation) for one in every]
    known = [(subject, value) for subject, value in correlations if value is not None]
    missed = np.concatenate([one.missed for one in every])
    rings = _shares(np.concatenate([one.ring for one in every]), missed, RINGS)
    cells = _shares(np.concatenate([one.cell for one in every]), missed, GRID * GRID)
    return Diagnostics(
        subjects=len(set(subjects)),
        slices=len(every),
        coverage=_estimate([1 - float(one.missed.mean()) for one in every], subjects, seed),
        width=_estimate([float(one.width.mean()) for one in every], subjects, seed),
        rank_correlation=_estimate([value for _, value in known], [name for name, _ in known], seed)
        if len({name for name, _ in known}) > 1
        else None,
        sizes=_by_size(np.concatenate([one.width for one in every]), missed),
        rings=rings,
        map=tuple(cells[first : first + GRID] for first in range(0, GRID * GRID, GRID)),
    )


def _estimate(values: Sequence[float], subjects: Sequence[str], seed: int) -> Estimate:
    """Mean over subjects of the means over their slices."""
    names, index = np.unique(subjects, return_inverse=True)
    means = np.bincount(index, values) / np.bincount(index)
    return paired_bootstrap(means, names, seed=seed)


def _places(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Cell of the map and ring of each pixel: (rows, columns) uint8."""
    down, across = torch.arange(rows), torch.arange(columns)
    cells = (down * GRID // rows)[:, None] * GRID + across * GRID // columns
    height, breadth = ((each - len(each) // 2) / (len(each) / 2) for each in (down, across))
    radius = torch.hypot(height[:, None], breadth[None])
    rings = (radius * RINGS / math.sqrt(2)).clamp(max=RINGS - 1)
    return cells.to(torch.uint8), rings.to(torch.uint8)


def _shares(
    place: NDArray[np.uint8], missed: NDArray[np.bool_], places: int
) -> tuple[float | None, ...]:
    pixels = np.bincount(place, minlength=places)
    bad = np.bincount(place, missed, minlength=places)
    return tuple(
        float(wrong / count) if count else None for wrong, count in zip(bad, pixels, strict=True)
    )


def _by_size(width: NDArray[np.float32], missed: NDArray[np.bool_]) -> tuple[SizeBin, ...]:
    edges = np.unique(np.quantile(width, np.arange(1, BINS) / BINS, method="lower"))
    which = np.searchsorted(edges, width, side="left")
    return tuple(
        SizeBin(
            float(width[inside].min()),
            float(width[inside].max()),
            1 - float(missed[inside].mean()),
            int(inside.sum()),
        )
        for inside in (which == each for each in range(len(edges) + 1))
        if inside.any()
    )
