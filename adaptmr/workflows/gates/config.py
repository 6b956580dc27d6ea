"""What a candidate has to fulfil, fixed before it is trained."""

import hashlib
import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Verdict(StrEnum):
    """The outcome of a check, and of all checks together: the worst of them."""

    PASS = "pass"  # noqa: S105 - no password
    REVIEW = "review"
    FAIL = "fail"

    @property
    def severity(self) -> int:
        """0 for PASS, 2 for FAIL."""
        return list(Verdict).index(self)


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MetricGate(_Config):
    """What holds for one metric, in its unit; the checks that are null are not made."""

    margin: float = Field(ge=0)
    """How much worse than the champion the mean over subjects may be."""
    floor: float | None = None
    """What the mean of each stratum has to reach, whatever the champion does."""
    worst_decile: float | None = Field(default=None, ge=0)
    """How much worse the mean over the worst tenth of the subjects may be."""
    forgetting: float | None = Field(default=None, ge=0)
    """How far the mean may lie below that of the best earlier champion: many small steps down,
    each within the margin, add up."""


class CoverageGate(_Config):
    """What holds for intervals."""

    tolerance: float = Field(default=0.05, gt=0, lt=1)
    """How far the coverage of a stratum may lie from what is promised."""
    wider: float = Field(default=0.2, ge=0)
    """How much wider than the champion's the intervals may be, as share."""


class LatencyGate(_Config):
    """What holds for the time that a slice takes."""

    seconds_per_slice: float = Field(gt=0)


class GateConfig(_Config):
    """The gates. Its hash goes into the registry's log before the training begins."""

    metrics: dict[str, MetricGate] = Field(min_length=1)
    """By name of the metric: ``ssim``, ``psnr``, or what a task brings along."""
    level: float = Field(default=0.95, gt=0.5, lt=1)
    """Of the one-sided bounds."""
    minimum_subjects: int = Field(default=10, ge=2)
    """With fewer, a stratum is not judged: see ``too_few``."""
    too_few: Literal[Verdict.REVIEW, Verdict.FAIL] = Verdict.REVIEW
    resamples: int = Field(default=5000, ge=1000)
    seed: int = 0
    improves: tuple[str, ...] = ()
    """Tasks in which the candidate has to be better than the champion, not only as good."""
    coverage: CoverageGate | None = None
    residual_increase: float | None = Field(default=None, ge=0)
    """How much larger than the champion's the data-consistency residual may be, as share."""
    latency: LatencyGate | None = None
    approvals: int = Field(default=0, ge=0, le=2)
    """Persons who have to approve a version before it serves, even where all gates pass."""

    def with_margins(self, margins: Iterable[tuple[str, float]]) -> "GateConfig":
        """These gates, and for metrics that they say nothing of those of tasks.

        Args:
            margins: metric of a task, and the difference of it that matters; of several of one
                metric the smallest holds, against the champion and against all earlier ones.
        """
        smallest: dict[str, float] = {}
        for metric, margin in margins:
            smallest[metric] = min(margin, smallest.get(metric, margin))
        added = {
            metric: MetricGate(margin=margin, forgetting=margin)
            for metric, margin in smallest.items()
        }
        return self.model_copy(update={"metrics": {**added, **self.metrics}})

    @property
    def fingerprint(self) -> str:
        """sha256 of all values."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
