"""Two banks on the same cases: paired differences, their bounds, and Holm's correction."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adaptmr.reconstruction.statistics import paired_bootstrap
from adaptmr.workflows.gates.config import GateConfig
from adaptmr.workflows.gates.evidence import Better, CaseValue, Measurement
from adaptmr.workflows.gates.result import ALL

_DECILE: Final = 0.1


@dataclass(frozen=True, eq=False)
class Paired:
    """Values of two banks on the same cases, turned so that larger is better.

    Attributes:
        task: the task.
        metric: the metric.
        subjects: (n,) whose each case is.
        candidate: (n,) of the candidate.
        champion: (n,) of the champion.
    """

    task: str
    metric: str
    subjects: tuple[str, ...]
    candidate: NDArray[np.float64]
    champion: NDArray[np.float64]

    @property
    def count(self) -> int:
        """Number of subjects."""
        return len(set(self.subjects))

    @property
    def gain(self) -> float:
        """Mean of the differences, positive where the candidate is better."""
        return float((self.candidate - self.champion).mean())

    def bound(self, level: float, config: GateConfig) -> float:
        """One-sided lower bound of the gain at ``level``, by a bootstrap over subjects.

        The lower end of a two-sided interval of level ``2 * level - 1`` is it.
        """
        return paired_bootstrap(
            self.candidate - self.champion,
            self.subjects,
            seed=config.seed,
            resamples=config.resamples,
            level=2 * level - 1,
        ).low


def strata(values: Sequence[CaseValue]) -> tuple[str, ...]:
    """All cases together, then each stratum."""
    return (ALL, *sorted({label for one in values for label in one.strata}))


def within(values: Sequence[CaseValue], stratum: str) -> Iterator[CaseValue]:
    """The cases of a stratum."""
    return (one for one in values if stratum == ALL or stratum in one.strata)


def numbers(values: Sequence[CaseValue], stratum: str) -> tuple[list[str], list[float]]:
    """Subjects and values of the cases of a stratum that have one."""
    known = [(one.subject, one.value) for one in within(values, stratum) if one.value is not None]
    return [subject for subject, _ in known], [value for _, value in known]


def paired(candidate: Measurement, champion: Measurement, stratum: str) -> Paired:
    """The cases of a stratum that both have a value for."""
    sign = candidate.better.sign
    other = {one.case: one.value for one in champion.values}
    both = [
        (one.subject, sign * one.value, sign * reference)
        for one in within(candidate.values, stratum)
        if one.value is not None and (reference := other.get(one.case)) is not None
    ]
    return Paired(
        candidate.task,
        candidate.metric,
        tuple(subject for subject, _, _ in both),
        np.array([value for _, value, _ in both], dtype=np.float64),
        np.array([value for _, _, value in both], dtype=np.float64),
    )


def by_subject(subjects: Sequence[str], values: Sequence[float]) -> NDArray[np.float64]:
    """The mean of each subject."""
    _, index = np.unique(np.asarray(subjects), return_inverse=True)
    return np.bincount(index, np.asarray(values)) / np.bincount(index)


def worst_decile(values: NDArray[np.float64]) -> float:
    """Mean of the lowest tenth, at least of one."""
    count = max(1, math.ceil(_DECILE * len(values)))
    return float(np.sort(values)[:count].mean())


def find(measurements: Sequence[Measurement], task: str, metric: str) -> Measurement | None:
    """The measurement of a metric of a task."""
    return next((m for m in measurements if (m.task, m.metric) == (task, metric)), None)


@dataclass(frozen=True)
class Bounded:
    """One hypothesis after Holm's correction.

    Attributes:
        shown: whether it holds, all others of the family taken into account.
        bound: the lower bound at the level that it was tested at last.
        level: that level.
    """

    shown: bool
    bound: float
    level: float


def holm(
    bounds: Sequence[Callable[[float], float]], limits: Sequence[float], level: float
) -> tuple[Bounded, ...]:
    """Which of several lower bounds lie above their limits, with one error rate for all.

    The step-down procedure of Holm (Scand. J. Statist. 1979) without p-values: with m hypotheses
    left each is tested at ``1 - (1 - level) / m``; those that are shown leave the family, and the
    rest is tested again, until none is shown any more.

    Args:
        bounds: of each hypothesis, the one-sided lower bound at a level.
        limits: what each bound has to exceed.
        level: of the family.
    """
    found: dict[int, Bounded] = {}
    left = list(range(len(bounds)))
    while left:
        each = 1 - (1 - level) / len(left)
        tested = {i: Bounded((low := bounds[i](each)) > limits[i], low, each) for i in left}
        found |= tested
        shown = [i for i in left if tested[i].shown]
        if not shown:
            break
        left = [i for i in left if i not in shown]
    return tuple(found[i] for i in range(len(bounds)))


def oriented(value: float, better: Better) -> float:
    """A value turned so that larger is better; turns back as well."""
    return better.sign * value
