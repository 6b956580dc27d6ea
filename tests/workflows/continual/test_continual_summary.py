"""Measures of sequences from what they left behind."""

import numpy as np
import pytest

from adaptmr.continual.results import Checkpoint, Scores, StageRecord
from adaptmr.continual.task import Metric
from adaptmr.workflows.continual.summary import (
    MEASURES,
    Trained,
    means,
    measured,
    references,
    retained,
    stability_gap,
)

TASKS = ("reconstruction", "tissue")
SUBJECTS = ("a", "b", "c")


def scores(value: float, spread: float = 0.0) -> Scores:
    """Scores of three subjects about a value."""
    subjects = {name: value + spread * (k - 1) for k, name in enumerate(SUBJECTS)}
    return Scores(
        metric=Metric.DICE, value=value, loss=0.0, subjects=subjects, outputs={}, labels={}
    )


def stage(index: int, values: tuple[float, float], curve: tuple[Checkpoint, ...]) -> StageRecord:
    """A finished stage with these test scores."""
    return StageRecord(
        index=index,
        task=TASKS[index],
        scores=dict(zip(TASKS, (scores(v, 0.1) for v in values), strict=True)),
        curve=curve,
        step=0,
        subjects=SUBJECTS,
        seconds=1.0,
        processor_seconds=1.0,
        buffer_bytes=10,
        provenance={},
    )


def checkpoint(step: int, old: float, new: float) -> Checkpoint:
    """Validation scores within a stage."""
    return Checkpoint(
        step=step, scores={TASKS[0]: old, TASKS[1]: new}, loss=0.0, training_loss=None
    )


def trained(after: tuple[float, float] = (0.6, 0.7)) -> Trained:
    """A sequence of two tasks; both have 0.2 when zero-filled and 1.0 when fully sampled."""
    curve = (checkpoint(0, 0.8, 0.4), checkpoint(5, 0.4, 0.6), checkpoint(10, 0.7, 0.7))
    return Trained(
        tasks=TASKS,
        margins=dict.fromkeys(TASKS, 0.01),
        stages=(stage(0, (0.8, 0.4), ()), stage(1, after, curve)),
        zero_filled={task: scores(0.2) for task in TASKS},
        full={task: scores(1.0) for task in TASKS},
    )


def test_matrix_and_its_scale() -> None:
    found = means([trained()])
    assert found.matrix == pytest.approx(np.array([[0.8, 0.4], [0.6, 0.7]]))
    assert found.retained == pytest.approx((found.matrix - 0.2) / 0.8)


def test_pairs_are_averaged() -> None:
    found = means([trained((0.6, 0.7)), trained((0.4, 0.9))])
    assert found.matrix[-1] == pytest.approx([0.5, 0.8])
    low, high = references([trained(), trained()])
    assert (low.tolist(), high.tolist()) == ([0.2, 0.2], [1.0, 1.0])


def test_measures_with_intervals() -> None:
    found = measured([retained([trained()])])
    assert set(found) == set(MEASURES)
    assert found["forgetting"].mean == pytest.approx(0.25)
    # All subjects lost the same: paired, there is nothing to be unsure of.
    assert found["forgetting"].low == pytest.approx(0.25)
    assert found["average"].low < found["average"].mean < found["average"].high


def test_seeds_are_averaged() -> None:
    found = measured([retained([trained((0.6, 0.7))]), retained([trained((0.8, 0.7))])])
    assert found["forgetting"].mean == pytest.approx(0.125)


def test_stability_gap_is_the_worst_within_the_stage() -> None:
    assert stability_gap([trained()]) == pytest.approx((0.8 - 0.4) / 0.8)
    unwatched = trained().model_copy(update={"stages": (stage(0, (0.8, 0.4), ()),)})
    assert stability_gap([unwatched]) is None


def test_together_there_is_no_square_matrix() -> None:
    assert trained().one_by_one
    assert not trained().model_copy(update={"stages": trained().stages[1:]}).one_by_one
