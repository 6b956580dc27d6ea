import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_tasks import made_tasks

from adaptmr.continual.config import Selection
from adaptmr.continual.results import Checkpoint, Scores
from adaptmr.continual.selection import Chooser
from adaptmr.continual.task import Metric

TASKS = made_tasks()[:2]  # margins 0.01


def scores(image: float, tissue: float) -> dict[str, Scores]:
    return {
        name: Scores(metric=Metric.SSIM, value=value, loss=0, subjects={}, outputs={}, labels={})
        for name, value in (("image", image), ("tissue", tissue))
    }


def point(step: int, image: float, tissue: float, loss: float = 0.0) -> Checkpoint:
    return Checkpoint(
        step=step, scores={"image": image, "tissue": tissue}, loss=loss, training_loss=None
    )


def best(rule: Selection, points: list[Checkpoint]) -> int:
    chooser = Chooser(rule, TASKS, scores(0.5, 0.2), scores(1.0, 0.6))
    return max(points, key=lambda each: chooser.rank(points[0], each)).step


def test_the_papers_rule_forgets_and_ours_does_not() -> None:
    """The current task gains while the old one sinks below its margin."""
    points = [
        point(0, 0.90, 0.30, loss=1.0),
        point(1, 0.895, 0.40, loss=0.8),
        point(2, 0.70, 0.60, loss=0.2),
    ]
    assert best(Selection.CURRENT_TASK, points) == 2
    assert best(Selection.ALL_TASKS, points) == 1
    assert best(Selection.LAST, points) == 2


def test_a_later_point_that_keeps_all_and_gains_is_taken() -> None:
    points = [point(0, 0.9, 0.3), point(1, 0.7, 0.5), point(2, 0.9, 0.55)]
    assert best(Selection.ALL_TASKS, points) == 2
    assert best(Selection.ALL_TASKS, points[:2]) == 0


@given(low=st.floats(0, 1), high=st.floats(0, 1), gain=st.floats(0.001, 0.5))
def test_a_gain_ranks_higher_whatever_the_scale(low: float, high: float, gain: float) -> None:
    """Fully sampled images may do no better than zero-filled ones, or worse."""
    chooser = Chooser(Selection.ALL_TASKS, TASKS, scores(0.5, low), scores(1.0, high))
    start = point(0, 0.9, 0.3)
    assert chooser.rank(start, point(1, 0.9, 0.3 + gain)) > chooser.rank(start, start)


@pytest.mark.parametrize("rule", Selection)
def test_ties_go_to_the_first(rule: Selection) -> None:
    points = [point(0, 0.9, 0.3), point(1, 0.9, 0.3)]
    assert best(rule, points) == (1 if rule is Selection.LAST else 0)
