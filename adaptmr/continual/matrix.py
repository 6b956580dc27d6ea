"""The matrix a[i][j], the score of task j after stage i, and what is read from it.

Scores are oriented: higher is better. Stage 0 is the first training of the reconstruction, task 0
the reconstruction itself. Matrices have any leading axes (seeds, bootstrap draws), and the two last
are stages and tasks. A score that was not measured is NaN; whatever needs it is NaN, never zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptmr.errors import BadInputError
from adaptmr.reconstruction.statistics import Estimate

Array = NDArray[np.float64]
Measure = Callable[[Array], Array]
"""A matrix (..., stages, tasks) to a number (...)."""


def average(matrix: ArrayLike) -> Array:
    """Mean score of all tasks after the last stage."""
    result: Array = _square(matrix)[..., -1, :].mean(-1)
    return result


def incremental_average(matrix: ArrayLike) -> Array:
    """Mean over the stages of the mean score of the tasks learned so far (AIA)."""
    values = _square(matrix)
    stages = [values[..., stage, : stage + 1].mean(-1) for stage in range(values.shape[-1])]
    result: Array = np.mean(stages, axis=0)
    return result


def backward_transfer(matrix: ArrayLike) -> Array:
    """Mean over the tasks but the last of a[T][j] - a[j][j].

    Source: Lopez-Paz and Ranzato, Gradient episodic memory, NeurIPS 2017, section 2.
    """
    values = _square(matrix)
    learned = np.diagonal(values, axis1=-2, axis2=-1)
    result: Array = (values[..., -1, :-1] - learned[..., :-1]).mean(-1)
    return result


def forward_transfer(matrix: ArrayLike) -> Array:
    """Mean over the tasks but the first of a[j-1][j] - a[0][j].

    What the stages before task j did for it, beyond the first training: a network of random weights
    reconstructs nothing and would be no reference.
    """
    values = _square(matrix)
    before = np.diagonal(values, offset=1, axis1=-2, axis2=-1)
    result: Array = (before - values[..., 0, 1:]).mean(-1)
    return result


def forgetting_by_task(matrix: ArrayLike) -> Array:
    """(..., tasks - 1) best score since task j was learned, before the last stage, minus its last.

    Source: Chaudhry et al., Riemannian walk, ECCV 2018, section 3.
    """
    values = _square(matrix)
    last = values.shape[-1] - 1
    best = np.stack([values[..., task:last, task].max(-1) for task in range(last)], -1)
    result: Array = best - values[..., -1, :-1]
    return result


def forgetting(matrix: ArrayLike) -> Array:
    """Mean of `forgetting_by_task`; negative when old tasks gained."""
    result: Array = forgetting_by_task(matrix).mean(-1)
    return result


def peak_forgetting(matrix: ArrayLike) -> Array:
    """The same with the best of all stages: those before j was learned, and the last, included.

    It is what the released code of MOST reports; never negative.
    """
    values = _square(matrix)
    result: Array = (values.max(-2) - values[..., -1, :])[..., :-1].mean(-1)
    return result


def learning(matrix: ArrayLike) -> Array:
    """Mean score of each task right after its stage (learning accuracy)."""
    result: Array = np.diagonal(_square(matrix), axis1=-2, axis2=-1).mean(-1)
    return result


def intransigence(matrix: ArrayLike, reference: ArrayLike) -> Array:
    """Mean over the tasks learned after the first stage of reference[j] - a[j][j].

    Source: Chaudhry et al., Riemannian walk, ECCV 2018, section 3.

    Args:
        matrix: (..., stages, tasks).
        reference: (..., tasks) scores of networks trained for each task alone, or jointly.
    """
    learned = np.diagonal(_square(matrix), axis1=-2, axis2=-1)
    result: Array = (np.asarray(reference, dtype=np.float64) - learned)[..., 1:].mean(-1)
    return result


def retention(
    scores: ArrayLike, zero_filled: ArrayLike, full: ArrayLike, margin: ArrayLike
) -> Array:
    """(..., tasks) scores on a scale where zero filling has 0 and fully sampled images have 1.

    Where the two are nearly alike their distance is no scale: at least the margin is.

    Args:
        scores: (..., tasks).
        zero_filled: (tasks,) scores on zero-filled images.
        full: (tasks,) scores on fully sampled images.
        margin: (tasks,) difference that matters, positive.
    """
    low, high = (np.asarray(values, dtype=np.float64) for values in (zero_filled, full))
    span = np.maximum(high - low, np.asarray(margin, dtype=np.float64))
    result: Array = (np.asarray(scores, dtype=np.float64) - low) / span
    return result


def stability_gap(before: ArrayLike, within: ArrayLike) -> Array:
    """(tasks,) how far the score of each old task sank at worst within one stage; never negative.

    Source: De Lange et al., Continual evaluation for lifelong learning, ICLR 2023.

    Args:
        before: (tasks,) scores when the stage began.
        within: (evaluations, tasks) scores of the same tasks during the stage.
    """
    start = np.asarray(before, dtype=np.float64)
    during = np.asarray(within, dtype=np.float64).reshape(-1, len(start))
    result: Array = start - np.vstack([start, during]).min(0)
    return result


def _square(matrix: ArrayLike) -> Array:
    values = np.asarray(matrix, dtype=np.float64)
    if values.ndim < 2 or values.shape[-1] != values.shape[-2] or values.shape[-1] < 2:
        raise BadInputError(
            "this is no matrix of scores",
            field="matrix",
            got=f"shape {values.shape}",
            expected="(..., stages, tasks), as many stages as tasks, at least two",
        )
    return values


@dataclass(frozen=True, eq=False)
class TaskScores:
    """What one task was after every stage, item by item, so that subjects can be drawn again.

    Attributes:
        subjects: (n,) of each item: a subject, a scan or a slice.
        values: (stages, n) score of each item after each stage; NaN where it has none.
    """

    subjects: NDArray[np.str_]
    values: Array

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.subjects):
            raise BadInputError(
                "there is not one score per item and stage",
                field="values",
                got=self.values.shape,
                expected=f"(stages, {len(self.subjects)})",
            )

    def scores(self, weights: Array | None = None) -> Array:
        """(draws, stages) mean scores when item n counts weights[draw, n] times.

        Args:
            weights: (draws, n); every item once when not given.
        """
        counts = np.ones((1, len(self.subjects))) if weights is None else weights
        known = ~np.isnan(self.values)
        total = counts @ known.T.astype(np.float64)
        none = np.full_like(total, np.nan)
        result: Array = np.divide(
            counts @ np.where(known, self.values, 0).T, total, out=none, where=total > 0
        )
        return result


def score_matrix(tasks: Sequence[TaskScores]) -> Array:
    """(stages, tasks) the matrix a[i][j]."""
    return np.stack([task.scores()[0] for task in tasks], -1)


def across_seeds(
    runs: Sequence[Sequence[TaskScores]], measure: Measure, *, seed: int, resamples: int = 1000
) -> Estimate:
    """The mean of a measure over trainings, with a percentile interval over subjects (95 %).

    Subjects are drawn with replacement, each with all its items. A draw holds after every stage,
    so that scores are paired, and for all trainings: the interval says what other subjects would
    change; how the trainings differ among themselves is another number.

    Args:
        runs: the tasks of each training, all with the same items.
        measure: for example `average`.
        seed: of the draws.
        resamples: number of draws.

    Raises:
        BadInputError: a task has fewer than two subjects, or the trainings have other items.
    """
    generator = np.random.default_rng(seed)
    weights = []
    for same in zip(*runs, strict=True):
        if any(not np.array_equal(task.subjects, same[0].subjects) for task in same):
            raise BadInputError("the trainings were not judged on the same items", field="subjects")
        weights.append(_draws(same[0].subjects, resamples, generator))
    found = np.mean([measure(score_matrix(tasks)) for tasks in runs])
    drawn = [
        measure(np.stack([task.scores(w) for task, w in zip(tasks, weights, strict=True)], -1))
        for tasks in runs
    ]
    low, high = np.nanquantile(np.mean(drawn, axis=0), [0.025, 0.975])
    return Estimate(float(found), float(low), float(high))


def _draws(subjects: NDArray[np.str_], resamples: int, generator: np.random.Generator) -> Array:
    """(resamples, n) how often each item counts when its subjects are drawn with replacement."""
    names, index = np.unique(subjects, return_inverse=True)
    if len(names) < 2:
        raise BadInputError(
            "an interval over subjects needs at least two", field="subjects", got=len(names)
        )
    picks = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return picks[:, index].astype(np.float64)
