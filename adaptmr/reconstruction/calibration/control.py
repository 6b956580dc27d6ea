"""Conformal risk control: the smallest threshold with which few enough scores of a subject exceed.

The unit that is exchangeable is the subject. Its loss at a threshold is the share of its scores
above it, taken in each slice and averaged over its slices: between 0 and 1, and falling with the
threshold.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import rel_entr
from scipy.stats import binom

Scores = NDArray[np.floating]

# Sums of shares are off by rounding: a mean that is exactly at its limit counts as within.
_ROUNDING: Final = 1e-12
# The range of thresholds is halved until so few scores lie in it that they fit in memory at once,
# or so often that those left are nearly all equal.
_FEW: Final = 2**16
_HALVINGS: Final = 40


class Guarantee(BaseModel):
    """What is promised of a new subject's loss.

    In expectation over calibration and new subject, loss <= alpha (Angelopoulos et al. 2022,
    arXiv:2208.02814); with a ``delta``, the mean loss of new subjects is <= alpha but for a share
    ``delta`` of calibrations (Hoeffding-Bentkus; Bates et al. 2021, arXiv:2101.02703).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    alpha: float = Field(default=0.1, gt=0, lt=1)
    delta: float | None = Field(default=None, gt=0, lt=1)

    @property
    def least(self) -> int:
        """Fewest subjects that any threshold can be found with."""
        if self.delta is None:
            return math.ceil(1 / self.alpha - _ROUNDING) - 1
        return math.ceil(math.log(self.delta) / math.log1p(-self.alpha) - _ROUNDING)

    def allowed(self, subjects: int) -> float | None:
        """Largest mean loss of so many calibration subjects; None where they are too few.

        In expectation, ``(n * loss + 1) / (n + 1) <= alpha`` solved for the loss.
        """
        if subjects < max(1, self.least):
            return None
        if self.delta is None:
            return max(0.0, (self.alpha * (subjects + 1) - 1) / subjects)
        low, high = 0.0, self.alpha
        for _ in range(60):
            middle = (low + high) / 2
            if _chance(middle, subjects, self.alpha) <= self.delta:
                low = middle
            else:
                high = middle
        return low


EXPECTED: Final = Guarantee()
"""The default: 0.1 in expectation."""


@dataclass(frozen=True)
class Refusal:
    """Nothing can be promised, and this is why."""

    reason: str


@dataclass(frozen=True)
class Controlled:
    """A threshold and what it gives on the subjects it was found with.

    Attributes:
        threshold: the smallest with a mean loss that is allowed.
        risk: the mean loss at it.
    """

    threshold: float
    risk: float


def control(units: Sequence[Sequence[Scores]], guarantee: Guarantee) -> Controlled | Refusal:
    """The smallest threshold that keeps the guarantee, exactly: it is one of the scores.

    Args:
        units: for each subject, for each slice, its finite scores in ascending order; none empty,
            all of one dtype, which is the precision of the threshold.
        guarantee: what to keep.

    Returns:
        `Refusal` where there are too few subjects.
    """
    allowed = guarantee.allowed(len(units))
    if allowed is None:
        return Refusal(f"{len(units)} calibration subjects, at least {guarantee.least} needed")

    every = [scores for slices in units for scores in slices]
    # What one score above the threshold adds to the mean loss.
    weights = np.array(
        [1 / (len(units) * len(slices) * len(scores)) for slices in units for scores in slices]
    )
    lengths = np.array([len(scores) for scores in every])

    def upto(threshold: np.floating) -> NDArray[np.int64]:
        return np.array([scores.searchsorted(threshold, side="right") for scores in every])

    def risk(threshold: np.floating) -> float:
        return float(weights @ (lengths - upto(threshold)))

    def enough(threshold: np.floating) -> bool:
        return risk(threshold) <= allowed + _ROUNDING

    kind = np.result_type(*every).type
    # Below all scores the loss is 1, which is never allowed; at the largest it is 0.
    low = np.nextafter(kind(min(scores[0] for scores in every)), kind(-np.inf))
    high = kind(max(scores[-1] for scores in every))
    for _ in range(_HALVINGS):
        if (upto(high) - upto(low)).sum() <= _FEW:
            break
        middle = kind(low + (high - low) / 2)
        if enough(middle):
            high = middle
        else:
            low = middle
    ends = zip(every, upto(low), upto(high), strict=True)
    left = np.unique(np.concatenate([scores[first:last] for scores, first, last in ends]))
    found = left[bisect_left(left, True, key=enough)]
    return Controlled(float(found), risk(found))


def _chance(mean: float, subjects: int, alpha: float) -> float:
    """Hoeffding-Bentkus p-value of a mean loss up to ``mean``, were the true one ``alpha``."""
    divergence = rel_entr(mean, alpha) + rel_entr(1 - mean, 1 - alpha)
    bentkus = math.e * binom.cdf(math.ceil(subjects * mean), subjects, alpha)
    return float(min(math.exp(-subjects * divergence), bentkus))
