"""Intervals of pixels: coverage, strata, refusal, files."""

import json
import math
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from made_subjects import Made, everywhere, made

from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.calibration.control import Guarantee, Refusal
from adaptmr.reconstruction.calibration.intervals import (
    Calibration,
    Interval,
    SliceRatios,
    calibrate,
    load,
    save,
    slice_ratios,
)

quick = settings(max_examples=25, deadline=None)


def ratios(of: Made, stratum: str = "T1", floor: float = 0.01) -> tuple[SliceRatios, ...]:
    return slice_ratios(
        of.image,
        of.width,
        of.target,
        subjects=of.subjects,
        strata=[stratum] * len(of.subjects),
        floor=floor,
        region=everywhere,
    )


def covered(calibration: Calibration, of: Made, stratum: str = "T1") -> torch.Tensor:
    found = calibration.interval(of.image, of.width, stratum)
    assert isinstance(found, Interval)
    return (found.lower <= of.target) & (of.target <= found.upper)


@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_a_new_subject_is_covered(alpha: float) -> None:
    shares = []
    for seed in range(250):
        every = made(21, 2, seed)
        calibration = calibrate(ratios(every[:40]), Guarantee(alpha=alpha))
        shares.append(float(covered(calibration, every[40:]).double().mean()))
    error = np.std(shares) / math.sqrt(len(shares))
    assert 1 - alpha - 3 * error <= np.mean(shares) <= 1 - alpha + 2 / 21 + 3 * error


@quick
@given(st.integers(9, 20), st.integers(1, 3), st.integers(0, 10**6))
def test_what_was_missed_is_what_is_told(subjects: int, slices: int, seed: int) -> None:
    every = made(subjects, slices, seed)
    calibration = calibrate(ratios(every))
    own = calibration.strata["T1"]
    assert own == calibration.pooled
    assert (own.subjects, own.slices) == (subjects, subjects * slices)
    assert own.risk is not None
    missed = 1 - float(covered(calibration, every).double().mean())
    # The pixel that sets the factor lies on the end of its interval, give or take rounding.
    assert missed == pytest.approx(own.risk, abs=1.01 / every.image.numel())


@quick
@given(st.integers(0, 10**6), st.integers(-30, 30))
def test_units_do_not_matter(seed: int, exponent: int) -> None:
    every, by = made(12, 2, seed), 2.0**exponent
    scaled = Made(by * every.image, by * every.width, by * every.target, every.subjects)
    once, again = calibrate(ratios(every)), calibrate(ratios(scaled))
    assert once == again
    one, other = (c.interval(m.image, m.width, "T1") for c, m in ((once, every), (again, scaled)))
    assert isinstance(one, Interval)
    assert isinstance(other, Interval)
    assert torch.equal(by * one.upper, other.upper)
    assert torch.equal(by * one.lower, other.lower)


@quick
@given(st.integers(0, 10**6))
def test_smaller_alpha_is_wider(seed: int) -> None:
    every = made(20, 2, seed)
    factors = [
        calibrate(ratios(every), Guarantee(alpha=alpha)).pooled.factor or -1.0
        for alpha in (0.5, 0.2, 0.1, 0.05)
    ]
    assert factors == sorted(factors)
    assert factors[0] > 0


def test_order_of_slices_does_not_matter() -> None:
    slices = list(ratios(made(15, 3, 0)))
    forward = calibrate(slices)
    assert calibrate(slices[::-1]).pooled.factor == forward.pooled.factor
    assert calibrate(slices) == forward


def test_strata_are_independent() -> None:
    first, second = made(15, 2, 0), made(15, 2, 1, spread=1.5)
    alone = calibrate(ratios(first, "T1"))
    both = calibrate([*ratios(first, "T1"), *ratios(second, "T2")])
    assert both.strata["T1"] == alone.strata["T1"]
    assert both.strata["T2"] == calibrate(ratios(second, "T2")).strata["T2"]
    assert both.strata["T2"].factor != both.strata["T1"].factor
    # The same names in both: each subject counts once, with the slices of both.
    assert both.pooled.subjects == 15
    assert both.pooled.slices == 60


def test_a_stratum_of_few_is_pooled_and_says_so() -> None:
    many, few = made(15, 2, 0), made(8, 2, 1)
    calibration = calibrate([*ratios(many, "T1"), *ratios(few, "T2")])
    assert calibration.strata["T2"].factor is None
    assert calibration.strata["T2"].risk is None
    own = calibration.interval(few.image, few.width, "T1")
    pooled = calibration.interval(few.image, few.width, "T2")
    unknown = calibration.interval(few.image, few.width, "T3")
    assert isinstance(own, Interval)
    assert isinstance(pooled, Interval)
    assert isinstance(unknown, Interval)
    assert own.why_pooled is None
    assert pooled.why_pooled == "stratum 'T2': 8 calibration subjects, at least 9 needed"
    assert unknown.why_pooled == "stratum 'T3': not calibrated"
    assert torch.equal(pooled.upper, unknown.upper)


def test_too_few_of_all_are_refused_with_the_reason() -> None:
    few = made(8, 2, 0)
    found = calibrate(ratios(few)).interval(few.image, few.width, "T1")
    assert isinstance(found, Refusal)
    assert found.reason == (
        "stratum 'T1': 8 calibration subjects, at least 9 needed; "
        "all strata: 8 calibration subjects, at least 9 needed"
    )
    surer = calibrate(ratios(made(21, 1, 0)), Guarantee(delta=0.1))
    assert surer.pooled.reason == "21 calibration subjects, at least 22 needed"


def test_intervals_are_not_below_zero_and_never_empty() -> None:
    every = made(12, 2, 3)
    nothing = torch.zeros_like(every.width)
    calibration = calibrate(ratios(Made(every.image, nothing, every.target, every.subjects)))
    found = calibration.interval(every.image, nothing, "T1")
    assert isinstance(found, Interval)
    assert bool((found.width > 0).all())
    wide = calibration.interval(every.image, 100 * every.image, "T1")
    assert isinstance(wide, Interval)
    assert float(wide.lower.min()) == 0.0
    assert wide.upper.dtype is every.image.dtype


def test_single_precision_covers_as_double_does() -> None:
    every = made(12, 2, 3)
    single = Made(every.image.float(), every.width.float(), every.target.float(), every.subjects)
    once, again = calibrate(ratios(every)).pooled, calibrate(ratios(single)).pooled
    assert again.factor == pytest.approx(once.factor, rel=1e-4)


def test_slices_of_which_nothing_counts_are_left_out() -> None:
    every = made(10, 2, 0)
    dark = [tensor.clone() for tensor in (every.image, every.width, every.target)]
    for tensor in dark:
        tensor[3] = 0
    found = slice_ratios(*dark, subjects=every.subjects, strata=["a"] * 20)
    assert [one.subject for one in found] == every.subjects[:3] + every.subjects[4:]
    with pytest.raises(BadInputError, match=r"slice 3.*without signal"):
        slice_ratios(*dark, subjects=every.subjects, strata=["a"] * 20, region=everywhere)


def test_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    calibration = calibrate(
        [*ratios(made(15, 2, 0), "T1"), *ratios(made(4, 2, 1), "T2")],
        Guarantee(alpha=0.15, delta=0.2),
        provenance={"network": "abc"},
    )
    save(calibration, file)
    assert load(file) == calibration
    with pytest.raises(BadInputError, match="exists"):
        save(calibration, file)
    contents = json.loads(file.read_text())
    assert contents["schema_version"] == 1
    file.write_text(json.dumps(contents | {"schema_version": 2}))
    with pytest.raises(BadInputError, match="newer"):
        load(file)
    file.write_text(json.dumps(contents | {"floor": math.nan}))
    with pytest.raises(BadInputError, match="floor"):
        load(file)


@pytest.mark.parametrize("field", ["image", "width", "target"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_named(field: str, value: float) -> None:
    every = made(10, 2, 0)
    images = {"image": every.image, "width": every.width, "target": every.target}
    images[field] = images[field].clone()
    images[field][7, 2, 3] = value
    with pytest.raises(BadInputError, match=f"slice 7, field '{field}'.*not finite"):
        slice_ratios(**images, subjects=every.subjects, strata=["a"] * 20)
    if field != "target":
        calibration = calibrate(ratios(every))
        with pytest.raises(BadInputError, match=f"slice 7, field '{field}'"):
            calibration.interval(images["image"], images["width"], "T1")


def test_bad_input_is_refused() -> None:
    every = made(10, 2, 0)
    labels = {"subjects": every.subjects, "strata": ["a"] * 20}
    with pytest.raises(BadInputError, match=r"slice 0, field 'width'.*negative"):
        slice_ratios(every.image, -every.width, every.target, **labels)
    with pytest.raises(BadInputError, match=r"'target'.*does not fit"):
        slice_ratios(every.image, every.width, every.target[:, :3], **labels)
    with pytest.raises(BadInputError, match="floating point"):
        slice_ratios(every.image[0], every.width, every.target, **labels)
    with pytest.raises(BadInputError, match=r"'subjects'.*one label per slice"):
        slice_ratios(every.image, every.width, every.target, subjects=["a"], strata=["a"] * 20)
    with pytest.raises(BadInputError, match=r"'strata'.*one label per slice"):
        slice_ratios(
            every.image, every.width, every.target, subjects=every.subjects, strata="a" * 20
        )
    with pytest.raises(BadInputError, match="region"):
        slice_ratios(every.image, every.width, every.target, **labels, region=lambda image: image)
    with pytest.raises(UsageError, match="floor"):
        slice_ratios(every.image, every.width, every.target, **labels, floor=0)
    with pytest.raises(BadInputError, match="one floor"):
        calibrate([])
    with pytest.raises(BadInputError, match="one floor"):
        calibrate([*ratios(every), *ratios(every, floor=0.02)])
