"""How far a mean over subjects can be trusted: bootstrap intervals that resample subjects.

Slices of a subject are alike, so resampling slices gives intervals that are too narrow: a subject
is drawn with all its slices (Davison and Hinkley, Bootstrap Methods and their Application, 1997,
section 3.8).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from adaptmr.errors import BadInputError, UsageError


class Estimate(NamedTuple):
    """A mean with its interval, in the unit of the values."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    differences: ArrayLike,
    subjects: ArrayLike,
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Mean of paired differences, with a percentile interval over subjects.

    Subjects are drawn with replacement, each with all its slices; every slice weighs the same. With
    one slice per subject this is ``scipy.stats.bootstrap`` with the method "percentile". Percentile
    intervals of few subjects are too narrow: at 10 subjects, 95 % is about 90 %.

    Args:
        differences: (n,) one per slice, of two methods on the same slice, or plain values.
        subjects: (n,) label of the subject that each slice belongs to.
        seed: of the draws; the order of the slices does not matter.
        resamples: number of draws.
        level: of the interval, between 0 and 1.

    Raises:
        BadInputError: not one finite difference per label, or fewer than two subjects.
        UsageError: no resamples, or a level that is none.
    """
    if resamples < 1 or not 0 < level < 1:
        raise UsageError(
            "this is no bootstrap interval",
            field="level" if resamples >= 1 else "resamples",
            got=level if resamples >= 1 else resamples,
            expected="between 0 and 1" if resamples >= 1 else ">= 1",
        )
    values, labels = np.asarray(differences, dtype=np.float64), np.asarray(subjects)
    if values.ndim != 1 or values.shape != labels.shape:
        raise BadInputError(
            "there is not one difference per subject's label",
            field="differences",
            got=f"shapes {values.shape} and {labels.shape}",
            expected="(n,) and (n,)",
        )
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise BadInputError(
            "differences are not finite", field="differences", slice_index=bad, got=values[bad]
        )
    names, index = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise BadInputError(
            "an interval over subjects needs at least two", field="subjects", got=len(names)
        )
    sums, counts = np.bincount(index, values), np.bincount(index)
    drawn = np.random.default_rng(seed).integers(0, len(names), (resamples, len(names)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(values.mean()), float(low), float(high))
