"""Bootstrap intervals over subjects, held against scipy's and against simulation."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import bootstrap

from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.statistics import paired_bootstrap

quick = settings(max_examples=25, deadline=None)


def slices(subjects: int, each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences with a part that all slices of a subject share, and the labels."""
    generator = np.random.default_rng(seed)
    shared = generator.standard_normal((subjects, 1))
    values = shared + 0.1 * generator.standard_normal((subjects, each))
    return values.ravel(), np.repeat([f"sub-{number}" for number in range(subjects)], each)


@pytest.mark.parametrize("level", [0.5, 0.95])
@pytest.mark.parametrize("count", [10, 61])
def test_one_slice_per_subject_is_scipys(count: int, level: float) -> None:
    values = np.random.default_rng(count).exponential(size=count)
    ours = paired_bootstrap(values, np.arange(count), seed=1, resamples=20000, level=level)
    theirs = bootstrap(
        (values,),
        np.mean,
        n_resamples=20000,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(2),
    )
    width = ours.high - ours.low
    assert ours.mean == pytest.approx(values.mean())
    assert ours[1:] == pytest.approx(theirs.confidence_interval, abs=0.05 * width)


def test_intervals_cover() -> None:
    found = []
    for seed in range(300):
        values, labels = slices(30, 4, seed)
        found.append(paired_bootstrap(values, labels, seed=seed, resamples=400))
    covered = np.mean([low <= 0 <= high for _, low, high in found])
    assert 0.88 <= covered <= 0.98
    # As if all slices were subjects: far too narrow.
    slicewise = [
        paired_bootstrap(slices(30, 4, seed)[0], np.arange(120), seed=seed, resamples=400)
        for seed in range(100)
    ]
    assert np.mean([low <= 0 <= high for _, low, high in slicewise]) < 0.8


@quick
@given(st.integers(2, 12), st.integers(1, 5), st.integers(0, 10**6), st.floats(-5, 5))
def test_order_and_units_do_not_matter(subjects: int, each: int, seed: int, by: float) -> None:
    values, labels = slices(subjects, each, seed)
    order = np.random.default_rng(seed).permutation(len(values))
    once = paired_bootstrap(values, labels, seed=seed)
    assert once.low <= once.mean <= once.high
    assert once == paired_bootstrap(values, labels, seed=seed)
    assert paired_bootstrap(values[order], labels[order], seed=seed) == pytest.approx(once)
    shifted = paired_bootstrap(3 * values + by, labels, seed=seed)
    assert shifted == pytest.approx(tuple(3 * end + by for end in once), abs=1e-9)


def test_a_subject_is_drawn_with_all_its_slices() -> None:
    values, labels = [1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"]
    found = paired_bootstrap(values, labels, seed=0)
    assert found == (2.0, 1.0, 5.0)


def test_higher_levels_are_wider() -> None:
    values, labels = slices(20, 3, 0)
    narrow, wide = (paired_bootstrap(values, labels, seed=0, level=each) for each in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_bad_values_are_named() -> None:
    with pytest.raises(BadInputError, match=r"slice 2.*not finite"):
        paired_bootstrap([0.0, 1.0, np.nan], [0, 1, 2], seed=0)
    with pytest.raises(BadInputError, match="at least two"):
        paired_bootstrap([0.0, 1.0], ["a", "a"], seed=0)
    with pytest.raises(BadInputError, match="one difference per"):
        paired_bootstrap([0.0, 1.0], ["a"], seed=0)
    with pytest.raises(BadInputError, match="one difference per"):
        paired_bootstrap([[0.0, 1.0]], [["a", "b"]], seed=0)
    with pytest.raises(UsageError, match="resamples"):
        paired_bootstrap([0.0, 1.0], [0, 1], seed=0, resamples=0)
    with pytest.raises(UsageError, match="level"):
        paired_bootstrap([0.0, 1.0], [0, 1], seed=0, level=1.0)
