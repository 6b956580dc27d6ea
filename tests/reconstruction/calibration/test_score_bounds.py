"""Lower bounds on the score of a slice."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from made_subjects import everywhere, made

from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.calibration.bounds import ScoreBound, bound_score, slice_features
from adaptmr.reconstruction.calibration.control import Guarantee, Refusal

quick = settings(max_examples=25, deadline=None)


def table(subjects: int, slices: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that a feature partly explains, and that a subject's slices share."""
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((subjects * slices, 2))
    own = np.repeat(generator.standard_normal(subjects), slices)
    scores = 30 + 3 * features[:, 0] + own + 0.3 * generator.standard_normal(len(own))
    return scores, features, np.repeat(np.arange(subjects), slices)


def bound(
    values: np.ndarray, features: np.ndarray, subjects: np.ndarray, alpha: float = 0.1
) -> ScoreBound:
    found = bound_score(
        values, features, subjects, score="psnr", seed=0, guarantee=Guarantee(alpha=alpha)
    )
    assert isinstance(found, ScoreBound)
    return found


def test_few_slices_of_a_new_subject_are_below_their_bound() -> None:
    below = []
    for seed in range(300):
        scores, features, subjects = table(46, 3, seed)
        old = subjects < 45
        found = bound(scores[old], features[old], subjects[old])
        assert (found.fitted, found.subjects) == (15, 30)
        below.append((scores[~old] < found(features[~old])).mean())
    error = np.std(below) / math.sqrt(len(below))
    assert 0.1 - 2 / 31 - 3 * error <= np.mean(below) <= 0.1 + 3 * error


def test_a_feature_that_tells_something_brings_bounds_closer() -> None:
    scores, features, subjects = table(60, 4, 0)
    knowing = bound(scores, features, subjects)
    ignorant = bound(scores, features[:, 1:], subjects)
    assert knowing.margin < ignorant.margin
    assert knowing.coefficients == pytest.approx((3, 0), abs=0.5)


@quick
@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-50, 50))
def test_bounds_move_with_the_scores(seed: int, by: float, up: float) -> None:
    scores, features, subjects = table(18, 2, seed)
    once, moved = (
        bound(values, features, subjects)(features) for values in (scores, by * scores + up)
    )
    assert moved == pytest.approx(by * once + up, abs=1e-6)


@quick
@given(st.integers(0, 10**6))
def test_larger_alpha_bounds_higher(seed: int) -> None:
    every = table(30, 2, seed)
    margins = [bound(*every, alpha=alpha).margin for alpha in (0.1, 0.3, 0.6)]
    assert margins == sorted(margins, reverse=True)


def test_what_it_says_of_its_calibration_is_so() -> None:
    scores, features, subjects = table(45, 2, 0)
    found = bound(scores, features, subjects)
    assert found == bound(scores, features, subjects)
    assert 0 <= found.risk <= (0.1 * 31 - 1) / 30
    assert ScoreBound.model_validate_json(found.model_dump_json()) == found
    constant = bound(scores, np.zeros((90, 1)), subjects)
    assert constant.coefficients == (0.0,)


def test_too_few_are_refused_with_the_reason() -> None:
    scores, features, subjects = table(12, 2, 0)
    found = bound_score(scores, features, subjects, score="psnr", seed=0)
    assert found == Refusal("8 calibration subjects, at least 9 needed")
    found = bound_score(scores[:4], features[:4], subjects[:4], score="psnr", seed=0)
    assert found == Refusal("2 subjects, none to spare for the fit")


def test_bad_tables_are_refused() -> None:
    scores, features, subjects = table(18, 2, 0)
    wrong = scores.copy()
    wrong[5] = np.inf
    with pytest.raises(BadInputError, match=r"slice 5.*'values'.*not finite"):
        bound_score(wrong, features, subjects, score="psnr", seed=0)
    unknown = features.copy()
    unknown[7, 1] = np.nan
    with pytest.raises(BadInputError, match=r"slice 7.*'features'.*not finite"):
        bound_score(scores, unknown, subjects, score="psnr", seed=0)
    with pytest.raises(BadInputError, match="one score and row"):
        bound_score(scores[1:], features, subjects, score="psnr", seed=0)
    with pytest.raises(BadInputError, match="table of slices"):
        bound(scores, features, subjects)(features[:, :1])


def test_features_are_those_of_the_definition() -> None:
    image, width = torch.full((1, 4, 4), 2.0), torch.full((1, 4, 4), 0.18)
    # Width and floor are 0.2 together: a tenth of the maximum, a tenth of the signal.
    assert slice_features(image, width, region=everywhere) == pytest.approx(np.full((1, 2), 20))


@quick
@given(st.integers(0, 10**6), st.floats(-8, 8))
def test_features_have_no_unit(seed: int, exponent: float) -> None:
    every, by = made(2, 2, seed), 10**exponent
    once = slice_features(every.image, every.width)
    assert slice_features(by * every.image, by * every.width) == pytest.approx(once)
    wider = slice_features(every.image, 2 * every.width + 0.1 * every.image)
    assert (wider < once).all()


def test_slices_with_nothing_to_judge_are_named() -> None:
    image = torch.ones(3, 4, 4)
    image[1] = 0
    with pytest.raises(BadInputError, match=r"slice 1.*nothing"):
        slice_features(image, torch.ones(3, 4, 4))
    with pytest.raises(UsageError, match="floor"):
        slice_features(torch.ones(1, 4, 4), torch.ones(1, 4, 4), floor=0)
