"""Whether there is anything to judge: complete numbers of the right data, of unseen subjects."""

from collections.abc import Iterator

from adaptmr.workflows.gates.comparison import find
from adaptmr.workflows.gates.config import GateConfig, Verdict
from adaptmr.workflows.gates.evidence import Evidence, Measurement
from adaptmr.workflows.gates.result import Check, Gate


def integrity(
    config: GateConfig, candidate: Evidence, champion: Evidence | None
) -> tuple[Check, ...]:
    """One failed check for each thing that is wrong, or one that passes."""
    wrong = [*_of_candidate(config, candidate)]
    if champion is not None:
        wrong += _compared(config, candidate, champion)
    if wrong:
        return tuple(
            Check(gate=Gate.INTEGRITY, verdict=Verdict.FAIL, task=task, reason=reason)
            for task, reason in wrong
        )
    count = sum(len(one.values) for one in candidate.measurements)
    return (
        Check(
            gate=Gate.INTEGRITY,
            verdict=Verdict.PASS,
            reason=f"{count} values, all finite, of subjects that the bank was not made from",
        ),
    )


def _of_candidate(config: GateConfig, candidate: Evidence) -> Iterator[tuple[str | None, str]]:
    for one in (*candidate.measurements, *candidate.residuals):
        bad = sum(value.value is None for value in one.values)
        if bad:
            yield one.task, f"{bad} of {len(one.values)} values of {one.metric} are not finite"
        if not one.values:
            yield one.task, f"there is no value of {one.metric}"
        if len({value.case for value in one.values}) != len(one.values):
            yield one.task, f"a case has two values of {one.metric}"
    for metric in config.metrics:
        if all(one.metric != metric for one in candidate.measurements):
            yield None, f"no task has the metric {metric}, which the gates ask for"
    named = sorted({one.task for one in candidate.measurements})
    for task in config.improves:
        if task not in named:
            yield task, f"there is no such task to improve; tasks: {', '.join(named)}"
    if candidate.trained_on:
        yield None, f"{len(candidate.trained_on)} test subjects are among those it was made from"


def _compared(
    config: GateConfig, candidate: Evidence, champion: Evidence
) -> Iterator[tuple[str | None, str]]:
    for task, data in champion.data.items():
        if task in candidate.data and candidate.data[task] != data:
            yield task, "candidate and champion were measured on different data"
    for old in champion.measurements:
        if old.metric not in config.metrics:
            continue
        new = find(candidate.measurements, old.task, old.metric)
        if new is None:
            yield old.task, f"the candidate was not measured by {old.metric}, the champion was"
        elif new.better is not old.better or new.protocol != old.protocol:
            yield old.task, f"{old.metric} has another definition than for the champion"
        elif _cases(new) != _cases(old):
            yield old.task, f"{old.metric} is of other cases than the champion's"


def _cases(one: Measurement) -> set[tuple[str, str]]:
    return {(value.case, value.subject) for value in one.values}
