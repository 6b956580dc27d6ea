"""Sequences of the same tasks beside each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from adaptmr.continual import matrix
from adaptmr.continual.matrix import Array
from adaptmr.errors import BadInputError
from adaptmr.workflows.continual.run import SequenceRecord, read_record
from adaptmr.workflows.continual.summary import means, measured, retained, stability_gap

PER_TASK: Final = "per-task"
"""The strategy that has a network for each task: its matrix is only read on its diagonal."""

Group = list[tuple[Path, SequenceRecord]]
"""Sequences of one strategy and its settings; they differ in their seeds."""


class Measures(BaseModel):
    """The measures of one strategy, mean over its seeds, on the scale of retention."""

    model_config = ConfigDict(frozen=True)

    strategy: str
    seeds: int
    values: dict[str, tuple[float, float, float]]
    """Name -> mean, and the interval over test subjects; none where there is no stage for each
    task after another."""
    average: float
    """Of the scores that each task is left with."""
    intransigence: float | None
    """Where a network for each task alone is among those compared."""
    stability_gap: float | None
    seconds: float
    buffer_bytes: int


def grouped(runs: Sequence[Path]) -> dict[str, Group]:
    """Sequences by strategy; strategies of one name and other settings are numbered.

    Args:
        runs: folders of `adaptmr.workflows.continual.run.run_sequence`.

    Raises:
        BadInputError: a folder holds no sequence, or one of other tasks or test subjects.
    """
    groups: dict[str, Group] = {}
    names: dict[str, str] = {}
    subjects = None
    for run in runs:
        record = read_record(run)
        tested = {name: sorted(scores.subjects) for name, scores in record.pairs[0].full.items()}
        subjects = subjects or tested
        if tested != subjects:
            raise BadInputError(
                "the sequences are of other tasks or were tested on other subjects",
                file=run,
                got=", ".join(tested),
                expected=", ".join(subjects),
                hint="Report them one by one",
            )
        settings = {name: value for name, value in record.learner.items() if name != "seed"}
        key = repr((record.strategy, settings))
        if key not in names:
            same = sum(name.partition(" ")[0] == record.kind for name in names.values())
            names[key] = record.kind if not same else f"{record.kind} ({same + 1})"
        groups.setdefault(names[key], []).append((run, record))
    return groups


def measures_of(name: str, group: Group, alone: Group | None) -> Measures:
    """The measures of a strategy.

    Args:
        name: of the strategy.
        group: its sequences.
        alone: those of networks for each task alone, where there are any.

    Raises:
        BadInputError: a task has fewer than two test subjects.
    """
    records = [record for _, record in group]
    one_by_one = name != PER_TASK and all(
        pair.one_by_one for record in records for pair in record.pairs
    )
    found = measured([retained(record.pairs) for record in records]) if one_by_one else {}
    intransigence = None
    if alone and one_by_one:
        reference = np.mean([_left(PER_TASK, record) for _, record in alone], axis=0)
        own = [matrix.intransigence(means(record.pairs).retained, reference) for record in records]
        intransigence = float(np.mean(own))
    gaps = [stability_gap(record.pairs) for record in records] if one_by_one else []
    watched = [gap for gap in gaps if gap is not None]
    stages = [stage for record in records for pair in record.pairs for stage in pair.stages]
    return Measures(
        strategy=name,
        seeds=len(records),
        values={measure: tuple(estimate) for measure, estimate in found.items()},
        average=float(np.mean([_left(name, record) for record in records])),
        intransigence=intransigence,
        stability_gap=float(np.mean(watched)) if watched else None,
        seconds=sum(stage.seconds for stage in stages) / len(records),
        buffer_bytes=max(stage.buffer_bytes for stage in stages),
    )


def _left(name: str, record: SequenceRecord) -> Array:
    """(tasks,) what each task is left with, on the scale of retention."""
    found = means(record.pairs).retained
    left: Array = found.diagonal() if name == PER_TASK else found[-1]
    return left
