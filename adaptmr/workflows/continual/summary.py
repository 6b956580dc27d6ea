"""The measures of sequences of tasks, with intervals over subjects, from what they left behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from adaptmr.continual import matrix
from adaptmr.continual.matrix import Array, Measure, TaskScores
from adaptmr.continual.results import Learned, Scores, StageRecord
from adaptmr.continual.task import Task
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.statistics import Estimate

MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "average": matrix.average,
        "incremental_average": matrix.incremental_average,
        "learning": matrix.learning,
        "backward_transfer": matrix.backward_transfer,
        "forward_transfer": matrix.forward_transfer,
        "forgetting": matrix.forgetting,
        "peak_forgetting": matrix.peak_forgetting,
    }
)
"""What is read from the matrix of one sequence, by name."""


class Trained(BaseModel):
    """What a strategy made of one network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[str, ...]
    """In the order they were learned."""
    margins: dict[str, float]
    """Of each task the difference of its metric that matters."""
    stages: tuple[StageRecord, ...]
    zero_filled: dict[str, Scores]
    """Test scores of each task on zero-filled images."""
    full: dict[str, Scores]
    """The same on fully sampled images."""

    @classmethod
    def of(cls, learned: Learned, tasks: Sequence[Task]) -> "Trained":
        """What the learner gave for the tasks, without its weights."""
        return cls(
            tasks=learned.tasks,
            margins={task.name: task.margin for task in tasks},
            stages=tuple(stage.record for stage in learned.stages),
            zero_filled=dict(learned.zero_filled),
            full=dict(learned.full),
        )

    @property
    def one_by_one(self) -> bool:
        """Whether there is a stage for each task, so that there is a square matrix."""
        return len(self.stages) == len(self.tasks)


def task_scores(pairs: Sequence[Trained]) -> list[TaskScores]:
    """The scores of each task by subject, mean over the pairs of a bank.

    Args:
        pairs: what became of the network of each pair; of one sequence.
    """
    found = []
    for task in pairs[0].tasks:
        subjects = sorted(pairs[0].stages[0].scores[task].subjects)
        values = [
            [[stage.scores[task].subjects[name] for name in subjects] for stage in pair.stages]
            for pair in pairs
        ]
        found.append(TaskScores(np.array(subjects), np.mean(values, axis=0)))
    return found


def references(pairs: Sequence[Trained]) -> tuple[Array, Array]:
    """(tasks,) scores on zero-filled and on fully sampled images, mean over the pairs."""
    tasks = pairs[0].tasks
    low = [[pair.zero_filled[task].value for task in tasks] for pair in pairs]
    high = [[pair.full[task].value for task in tasks] for pair in pairs]
    return np.mean(low, axis=0), np.mean(high, axis=0)


def retained(pairs: Sequence[Trained]) -> list[TaskScores]:
    """The same scores on the scale of `adaptmr.continual.matrix.retention`.

    Tasks of different units can be averaged on it.
    """
    low, high = references(pairs)
    margins = [pairs[0].margins[task] for task in pairs[0].tasks]
    return [
        TaskScores(task.subjects, matrix.retention(task.values, *scale))
        for task, *scale in zip(task_scores(pairs), low, high, margins, strict=True)
    ]


def measured(runs: Sequence[Sequence[TaskScores]], *, seed: int = 0) -> dict[str, Estimate]:
    """All `MEASURES`, mean over trainings, with intervals over subjects.

    Args:
        runs: the tasks of each training.
        seed: of the draws.

    Raises:
        BadInputError: a task has fewer than two test subjects.
    """
    return {
        name: matrix.across_seeds(runs, measure, seed=seed) for name, measure in MEASURES.items()
    }


def stability_gap(pairs: Sequence[Trained]) -> float | None:
    """Mean over stages and old tasks of how far validation scores sank within a stage.

    On the scale on which zero filling has 0 and fully sampled images have 1 on the test subjects.
    None where no stage was watched.
    """
    low, high = references(pairs)
    margins = np.array([pairs[0].margins[task] for task in pairs[0].tasks])
    gaps: list[float] = []
    for pair in pairs:
        for stage in pair.stages[1:]:
            watched = stage.curve[0].scores if stage.curve else {}
            old = [k for k, task in enumerate(pair.tasks[: stage.index]) if task in watched]
            if old:
                rows = [[each.scores[pair.tasks[k]] for k in old] for each in stage.curve]
                scaled = matrix.retention(rows, low[old], high[old], margins[old])
                gaps.extend(matrix.stability_gap(scaled[0], scaled[1:]))
    return float(np.mean(gaps)) if gaps else None


@dataclass(frozen=True)
class Means:
    """Plain means of one sequence.

    Attributes:
        matrix: (stages, tasks) scores.
        retained: the same where zero filling has 0 and fully sampled images have 1.
    """

    matrix: Array
    retained: Array


def means(pairs: Sequence[Trained]) -> Means:
    """The matrix of a sequence, in the units of the tasks and on the common scale.

    Raises:
        BadInputError: there is nothing.
    """
    if not pairs:
        raise BadInputError("there is no sequence", field="pairs")
    return Means(matrix.score_matrix(task_scores(pairs)), matrix.score_matrix(retained(pairs)))
