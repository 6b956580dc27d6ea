"""Measures of the score matrix, against cases worked by hand and independent implementations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adaptmr.continual import matrix as m
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.statistics import paired_bootstrap

# Rows are stages, columns tasks; worked by hand below.
WORKED = np.array(
    [
        [0.90, 0.50, 0.40],
        [0.80, 0.70, 0.30],
        [0.60, 0.75, 0.90],
    ]
)
MATRICES = st.integers(2, 5).flatmap(
    lambda n: arrays(np.float64, (n, n), elements=st.floats(-5, 5, width=32))
)


def test_worked_by_hand() -> None:
    assert m.average(WORKED) == pytest.approx((0.60 + 0.75 + 0.90) / 3)
    assert m.incremental_average(WORKED) == pytest.approx((0.90 + 0.75 + 0.75) / 3)
    assert m.backward_transfer(WORKED) == pytest.approx(((0.60 - 0.90) + (0.75 - 0.70)) / 2)
    assert m.forward_transfer(WORKED) == pytest.approx(((0.50 - 0.50) + (0.30 - 0.40)) / 2)
    assert m.forgetting_by_task(WORKED) == pytest.approx([0.90 - 0.60, 0.70 - 0.75])
    assert m.forgetting(WORKED) == pytest.approx((0.30 - 0.05) / 2)
    # The released code's maximum knows the last stage, so a task that gained forgot nothing.
    assert m.peak_forgetting(WORKED) == pytest.approx((0.30 + 0.0) / 2)
    assert m.learning(WORKED) == pytest.approx((0.90 + 0.70 + 0.90) / 3)
    assert m.intransigence(WORKED, [0.9, 0.8, 0.85]) == pytest.approx((0.10 - 0.05) / 2)


def test_forgetting_of_scores_that_are_negative() -> None:
    """A maximum over missing scores padded with zeros would call this forgetting of 1."""
    errors = np.array([[-1.0, -3.0], [-1.5, -2.0]])
    assert m.forgetting(errors) == pytest.approx(0.5)


def test_forgetting_looks_at_no_stage_before_the_task_was_learned() -> None:
    lucky = np.array([[0.9, 0.9, 0.1], [0.9, 0.5, 0.1], [0.9, 0.4, 0.8]])
    assert m.forgetting_by_task(lucky) == pytest.approx([0.0, 0.1])
    assert m.peak_forgetting(lucky) == pytest.approx((0.0 + 0.5) / 2)


@given(MATRICES)
def test_measures_agree_with_plain_loops(values: np.ndarray) -> None:
    last = len(values) - 1
    best = [max(values[i][j] for i in range(j, last)) for j in range(last)]
    assert m.forgetting(values) == pytest.approx(
        sum(best[j] - values[last][j] for j in range(last)) / last
    )
    assert m.backward_transfer(values) == pytest.approx(
        sum(values[last][j] - values[j][j] for j in range(last)) / last
    )
    # Forgetting is at least what backward transfer says was lost, and the official one more.
    assert m.forgetting(values) >= -m.backward_transfer(values) - 1e-9
    assert m.peak_forgetting(values) >= m.forgetting(values) - 1e-9


@given(MATRICES)
def test_leading_axes_are_further_matrices(values: np.ndarray) -> None:
    both = np.stack([values, values[::-1]])
    for measure in (m.average, m.incremental_average, m.forgetting, m.forward_transfer, m.learning):
        assert measure(both) == pytest.approx([measure(values), measure(values[::-1])])


def test_a_missing_score_is_not_zero() -> None:
    holes = WORKED.copy()
    holes[2, 0] = np.nan
    assert np.isnan(m.average(holes))
    assert np.isnan(m.forgetting(holes))


def test_what_is_no_matrix() -> None:
    with pytest.raises(BadInputError, match="no matrix of scores"):
        m.forgetting(np.zeros((2, 3)))


def test_retention() -> None:
    found = m.retention(
        [0.6, 0.8, 0.49], zero_filled=[0.2, 0.8, 0.5], full=[0.7, 0.9, 0.501], margin=[0.02] * 3
    )
    assert found == pytest.approx([0.8, 0.0, -0.5])  # of the last one a margin is the scale


def test_stability_gap() -> None:
    found = m.stability_gap([0.8, 0.5], [[0.3, 0.6], [0.7, 0.7]])
    assert found == pytest.approx([0.5, 0.0])
    assert m.stability_gap([0.8, 0.5], np.empty((0, 2))) == pytest.approx([0, 0])


def _mean_task(seed: int, stages: int = 3) -> m.TaskScores:
    generator = np.random.default_rng(seed)
    subjects = np.repeat([f"s{k}" for k in range(8)], 3)
    return m.TaskScores(subjects, generator.random((stages, len(subjects))))


def test_matrix_of_items() -> None:
    first, second = _mean_task(0), _mean_task(1)
    found = m.score_matrix([first, second, first])
    assert found.shape == (3, 3)
    assert found[:, 1] == pytest.approx(second.values.mean(1))


def test_interval_agrees_with_the_paired_bootstrap() -> None:
    """Backward transfer of two tasks is a mean of paired differences of the first one."""
    tasks = [_mean_task(2, stages=2), _mean_task(3, stages=2)]
    found = m.across_seeds([tasks], m.backward_transfer, seed=0, resamples=4000)
    change = tasks[0].values[1] - tasks[0].values[0]
    expected = paired_bootstrap(change, tasks[0].subjects, seed=1, resamples=4000)
    assert found.mean == pytest.approx(expected.mean)
    assert found.low == pytest.approx(expected.low, abs=0.02)
    assert found.high == pytest.approx(expected.high, abs=0.02)


def test_the_same_training_twice_has_the_interval_of_one() -> None:
    tasks = [_mean_task(4), _mean_task(5), _mean_task(6)]
    once = m.across_seeds([tasks], m.forgetting, seed=0)
    assert m.across_seeds([tasks, tasks], m.forgetting, seed=0) == pytest.approx(once)


def test_an_item_without_a_score_is_left_out() -> None:
    values = np.array([[0.5, np.nan, 0.7]])
    task = m.TaskScores(np.array(["a", "b", "b"]), values)
    assert task.scores()[0] == pytest.approx([0.6])


def test_bad_items() -> None:
    with pytest.raises(BadInputError, match="one score per item"):
        m.TaskScores(np.array(["a"]), np.zeros((2, 2)))
    alone = m.TaskScores(np.array(["a", "a"]), np.zeros((2, 2)))
    with pytest.raises(BadInputError, match="at least two"):
        m.across_seeds([[alone, alone]], m.forgetting, seed=0)
    others = [_mean_task(0), m.TaskScores(np.repeat(["x", "y"], 12), np.zeros((3, 24)))]
    with pytest.raises(BadInputError, match="same items"):
        m.across_seeds([others, others[::-1]], m.forgetting, seed=0)
