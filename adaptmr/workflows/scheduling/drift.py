"""Control charts: whether scans are not what they used to be.

An EWMA chart (Roberts, Technometrics 1959) and a two-sided CUSUM (Page, Biometrika 1954) for each
statistic. Mean and spread come from a reference of few scans, so the limits allow for the error of
that mean. A drift is covariate where a kind of scan looks different, and of prevalence where kinds
come in other shares; neither says that the bank became worse.
"""

import math
from collections.abc import Sequence
from enum import StrEnum
from itertools import groupby
from statistics import fmean, stdev
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

_OUTLIER: Final = 4.0
"""Standard deviations beyond which a scan counts no more: one odd scan is no drift."""


class Observation(BaseModel):
    """The statistics of one scan."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    file: str
    """Key of the file: name, size and time."""
    subject: str
    """Key of the subject."""
    stratum: str
    """Contrast and orientation: kinds of scans are not compared with each other."""
    statistics: dict[str, float]


class DriftConfig(BaseModel):
    """When a chart gives alarm; what the defaults do is in docs/benchmarks/drift_charts.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: int = Field(default=30, ge=10)
    """Scans of a kind before anything is said of it."""
    weight: float = Field(default=0.2, gt=0, le=1)
    """Of the newest scan in the moving average."""
    limit: float = Field(default=5.0, gt=0)
    """Of the moving average, in its standard deviations."""
    slack: float = Field(default=0.5, ge=0)
    """Of the cumulative sum: shifts below twice this are let pass, in standard deviations."""
    sum_limit: float = Field(default=12.0, gt=0)
    """Of the cumulative sum, in standard deviations."""
    floor: float = Field(default=0.02, gt=0)
    """Smallest standard deviation, as share of the mean (of 1 where the mean is smaller): what
    never changed in the reference may change this much."""


class Kind(StrEnum):
    """What drifts."""

    COVARIATE = "covariate"
    PREVALENCE = "prevalence"


class Chart(StrEnum):
    """What gave the alarm."""

    EWMA = "moving average"
    CUSUM = "cumulative sum"


class Alarm(BaseModel):
    """A statistic that is not what it used to be."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    statistic: str
    stratum: str
    chart: Chart
    scans: int
    """After how many new scans of that kind."""
    reference: float
    """Mean of the reference."""
    now: float
    """Mean of the new scans up to the alarm."""


class _Reference(NamedTuple):
    mean: float
    spread: float
    scans: int


def drift(
    config: DriftConfig, reference: Sequence[Observation], new: Sequence[Observation]
) -> tuple[Alarm, ...]:
    """All charts that give alarm.

    Args:
        config: when they do.
        reference: scans that the bank was made for, or that nobody minded.
        new: scans since then, in the order in which they came.
    """
    found = [*_prevalence(config, reference, new)]
    for stratum, scans in _by_stratum(new).items():
        before = _by_stratum(reference).get(stratum, [])
        names = dict.fromkeys(name for one in (*before, *scans) for name in one.statistics)
        for name in names:
            old = [one.statistics[name] for one in before if name in one.statistics]
            values = [one.statistics[name] for one in scans if name in one.statistics]
            if len(old) >= config.reference:
                mean = fmean(old)
                floor = config.floor * max(1.0, abs(mean))
                at = _Reference(mean, max(stdev(old), floor), len(old))
                found += _charts(config, at, values, Kind.COVARIATE, name, stratum)
    return tuple(found)


def _prevalence(
    config: DriftConfig, reference: Sequence[Observation], new: Sequence[Observation]
) -> list[Alarm]:
    """Shares of the kinds, each as a statistic that is 1 for a scan of the kind, else 0."""
    count, found = len(reference), list[Alarm]()
    if count < config.reference:
        return found
    for stratum in sorted({one.stratum for one in (*reference, *new)}):
        seen = sum(one.stratum == stratum for one in reference)
        share = (seen + 1) / (count + 2)  # a kind that was never seen is rare, not impossible
        at = _Reference(seen / count, math.sqrt(share * (1 - share)), count)
        values = [float(one.stratum == stratum) for one in new]
        found += _charts(config, at, values, Kind.PREVALENCE, "share of all scans", stratum)
    return found


def _charts(
    config: DriftConfig,
    at: _Reference,
    values: Sequence[float],
    kind: Kind,
    statistic: str,
    stratum: str,
) -> list[Alarm]:
    """The first alarm of the values, if there is one."""
    average, up, down, weight = 0.0, 0.0, 0.0, config.weight
    slack = config.slack + 1 / math.sqrt(at.scans)
    for number, value in enumerate(values, start=1):
        off = min(_OUTLIER, max(-_OUTLIER, (value - at.mean) / at.spread))
        average += weight * (off - average)
        variance = weight / (2 - weight) * (1 - (1 - weight) ** (2 * number)) + 1 / at.scans
        up, down = max(0.0, up + off - slack), max(0.0, down - off - slack)
        moved = abs(average) > config.limit * math.sqrt(variance)
        if moved or max(up, down) > config.sum_limit:
            return [
                Alarm(
                    kind=kind,
                    statistic=statistic,
                    stratum=stratum,
                    chart=Chart.EWMA if moved else Chart.CUSUM,
                    scans=number,
                    reference=at.mean,
                    now=fmean(values[:number]),
                )
            ]
    return []


def _by_stratum(scans: Sequence[Observation]) -> dict[str, list[Observation]]:
    ordered = sorted(scans, key=lambda one: one.stratum)  # stable: the order in time stays
    return {name: list(group) for name, group in groupby(ordered, key=lambda one: one.stratum)}
