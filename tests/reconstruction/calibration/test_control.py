"""Risk control: exact, monotone, and what it says of a new subject."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import binom

from adaptmr.reconstruction.calibration import control as module
from adaptmr.reconstruction.calibration.control import Controlled, Guarantee, Refusal, control

quick = settings(max_examples=40, deadline=None)
# Few different values, so that ties and zeros are common.
scores = st.lists(st.integers(-3, 12).map(lambda value: value / 4), min_size=1, max_size=9)
units = st.lists(st.lists(scores, min_size=1, max_size=3), min_size=1, max_size=25)


def arrays(values: list[list[list[float]]], dtype: type = np.float64) -> list[list[np.ndarray]]:
    return [[np.sort(np.array(one, dtype)) for one in slices] for slices in values]


def loss(values: list[list[np.ndarray]], threshold: float) -> float:
    return float(np.mean([np.mean([(one > threshold).mean() for one in own]) for own in values]))


@quick
@given(units, st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.9]), st.sampled_from([np.float32, float]))
def test_threshold_is_that_of_brute_force(
    values: list[list[list[float]]], alpha: float, dtype: type
) -> None:
    made, count = arrays(values, dtype), len(values)
    found = control(made, Guarantee(alpha=alpha))
    if 1 / (count + 1) > alpha + 1e-9:
        assert isinstance(found, Refusal)
        assert f"{count} calibration subjects, at least {math.ceil(1 / alpha) - 1}" in found.reason
        return
    assert isinstance(found, Controlled)
    every = np.unique(np.concatenate([one for own in made for one in own]))
    good = [each for each in every if (count * loss(made, each) + 1) / (count + 1) <= alpha + 1e-9]
    assert found.threshold == min(good)
    assert found.risk == pytest.approx(loss(made, found.threshold))


@pytest.mark.parametrize("dtype", [np.float32, float])
def test_many_scores_are_narrowed_down_to_the_same(
    dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    # Over twelve decades, and one slice of equal scores.
    made = [[np.sort(generator.lognormal(0, 5, 300).astype(dtype))] for _ in range(20)]
    made[0] = [np.full(300, made[1][0][150])]
    once = control(made, Guarantee())
    monkeypatch.setattr(module, "_FEW", 5)
    assert control(made, Guarantee()) == once


@quick
@given(st.integers(10, 40), st.integers(0, 10**6))
def test_smaller_alpha_asks_for_more(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    made = [[np.sort(generator.exponential(size=5))] for _ in range(count)]
    found = [control(made, Guarantee(alpha=alpha)) for alpha in (0.5, 0.3, 0.2, 0.1)]
    thresholds = [one.threshold for one in found if isinstance(one, Controlled)]
    assert len(thresholds) == 4
    assert thresholds == sorted(thresholds)
    surer = control(made, Guarantee(alpha=0.5, delta=0.1))
    assert isinstance(surer, Controlled)
    assert surer.threshold >= thresholds[0]


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.2, 0.25, 1 / 3, 0.7])
def test_least_subjects(alpha: float) -> None:
    expected = Guarantee(alpha=alpha)
    assert expected.least == math.ceil(round(1 / alpha, 9)) - 1
    surer = Guarantee(alpha=alpha, delta=0.1)
    for each in (expected, surer):
        assert each.allowed(each.least - 1) is None
        assert each.allowed(max(1, each.least)) is not None
    # No loss at all among so few must be improbable enough.
    assert (1 - alpha) ** surer.least <= 0.1 < (1 - alpha) ** (surer.least - 1)


def test_expected_loss_of_a_new_subject() -> None:
    """Shares of a subject's scores that exceed: at most alpha, and not far below it."""
    generator, losses, count = np.random.default_rng(0), [], 30
    for _ in range(600):
        own = generator.lognormal(0, 0.7, (count + 1, 1)) * generator.exponential(
            size=(count + 1, 20)
        )
        own.sort(axis=1)
        found = control([[one] for one in own[:-1]], Guarantee(alpha=0.2))
        assert isinstance(found, Controlled)
        losses.append((own[-1] > found.threshold).mean())
    error = np.std(losses) / math.sqrt(len(losses))
    assert 0.2 - 2 / (count + 1) - 3 * error <= np.mean(losses) <= 0.2 + 3 * error


def test_high_probability_holds_for_all_but_few_calibrations() -> None:
    """Losses of 0 or 1, for which the true risk at a threshold is known."""
    generator, alpha, delta = np.random.default_rng(1), 0.2, 0.1
    risks = []
    for _ in range(400):
        made = [[one] for one in generator.random((60, 1))]
        found = control(made, Guarantee(alpha=alpha, delta=delta))
        assert isinstance(found, Controlled)
        risks.append(1 - found.threshold)
    broken = np.mean(np.array(risks) > alpha)
    assert broken <= delta + 3 * math.sqrt(delta * (1 - delta) / len(risks))
    assert np.mean(risks) > alpha / 3


def test_allowed_loss_is_below_what_chance_gives() -> None:
    """Hoeffding-Bentkus cannot be surer than the binomial distribution of losses of 0 or 1."""
    for count in (30, 100, 400):
        allowed = Guarantee(alpha=0.1, delta=0.1).allowed(count)
        assert allowed is not None
        assert binom.cdf(math.floor(allowed * count), count, 0.1) <= 0.1
        assert allowed < Guarantee(alpha=0.1).allowed(count)
