"""Diagnostics: what is planted is found."""

import numpy as np
import pytest
import torch
from made_subjects import Made, everywhere, made
from scipy.stats import spearmanr

from adaptmr.errors import BadInputError
from adaptmr.reconstruction.calibration.control import Guarantee
from adaptmr.reconstruction.calibration.diagnostics import (
    GRID,
    RINGS,
    Diagnostics,
    JudgedSlice,
    diagnose,
    judge,
)
from adaptmr.reconstruction.calibration.intervals import Interval


def judged(of: Made, half: torch.Tensor, stratum: str = "T1") -> tuple[JudgedSlice, ...]:
    interval = Interval(
        (of.image - half).clamp(min=0), of.image + half, Guarantee(), len(of.subjects), None
    )
    return judge(
        interval, of.image, of.target, subjects=of.subjects, stratum=stratum, region=everywhere
    )


def found(of: Made, half: torch.Tensor) -> Diagnostics:
    return diagnose(judged(of, half), seed=0)


EVERY = made(20, 3, 0, size=(33, 40))


def test_numbers_are_those_of_the_definitions() -> None:
    half = 0.3 * EVERY.width
    said = found(EVERY, half)
    lower, upper = (EVERY.image - half).clamp(min=0), EVERY.image + half
    hit = (lower <= EVERY.target) & (EVERY.target <= upper)
    by_subject = hit.double().reshape(20, -1).mean(1).numpy()
    assert (said.subjects, said.slices) == (20, 60)
    assert said.coverage.mean == pytest.approx(by_subject.mean())
    assert said.coverage.low < said.coverage.mean < said.coverage.high
    signal = EVERY.image.mean((-2, -1))
    width = ((upper - lower).mean((-2, -1)) / signal).mean()
    assert said.width.mean == pytest.approx(float(width))
    error = (EVERY.target - EVERY.image).abs()
    ranks = [
        spearmanr(wide.flatten(), wrong.flatten()).statistic
        for wide, wrong in zip(upper - lower, error, strict=True)
    ]
    assert said.rank_correlation is not None
    assert said.rank_correlation.mean == pytest.approx(np.mean(ranks), abs=1e-4)
    # Maps are over all pixels alike.
    assert sum(each.pixels for each in said.sizes) == hit.numel()
    covered = sum(each.pixels * each.coverage for each in said.sizes) / hit.numel()
    assert covered == pytest.approx(float(hit.double().mean()))
    assert said.worst_size == min(each.coverage for each in said.sizes)


def test_subjects_weigh_alike_however_many_slices_they_have() -> None:
    one, many = made(1, 1, 0), made(1, 9, 1)
    never, always = torch.zeros_like(one.image), 100 * many.image
    many = Made(many.image, many.width, many.target, ["other"] * 9)
    said = diagnose([*judged(one, never), *judged(many, always)], seed=0)
    assert said.coverage == pytest.approx((0.5, 0.0, 1.0), abs=0.01)


def test_narrow_intervals_that_miss_are_found() -> None:
    """Coverage fine on the whole, all misses among the narrow intervals."""
    half = (EVERY.target - EVERY.image).abs() * 1.01
    narrow = EVERY.width < 0.2 * EVERY.width.amax((-2, -1), keepdim=True)
    half = torch.where(narrow, 0, half + EVERY.image)
    said = found(EVERY, half)
    assert said.sizes[0].coverage < 0.05
    assert said.sizes[-1].coverage == 1
    widths = [(each.low, each.high) for each in said.sizes]
    assert widths == sorted(widths)


def test_equal_widths_are_one_bin_and_have_no_rank() -> None:
    flat = made(3, 2, 0)
    flat = Made(torch.ones_like(flat.image), flat.width, flat.target, flat.subjects)
    said = found(flat, torch.full_like(flat.image, 0.5))
    assert len(said.sizes) == 1
    assert said.rank_correlation is None


@pytest.mark.parametrize("size", [(64, 64), (33, 40), (20, 7)])
def test_misses_are_found_where_they_are(size: tuple[int, int]) -> None:
    """All pixels miss in the upper left eighth, none elsewhere."""
    every = made(2, 2, 0, size=size)
    half = 100 * every.image
    rows, columns = -(-size[0] // 8), -(-size[1] // 8)
    half[:, :rows, :columns] = 0
    said = found(every, half)
    cells = np.array(said.map, dtype=float)
    assert cells.shape == (GRID, GRID)
    assert cells[0, 0] == pytest.approx(1)
    assert np.nanmax(cells[3:]) == 0
    assert np.nanmax(cells[:, 4:]) == 0
    assert len(said.rings) == RINGS
    assert said.rings[0] == 0
    assert max(share for share in said.rings[-2:] if share is not None) > 0


def test_cells_without_pixels_are_unknown() -> None:
    every = made(2, 1, 0, size=(4, 4))
    said = found(every, every.width)
    assert sum(share is not None for row in said.map for share in row) == 16


def test_wide_where_wrong_ranks_high_and_the_reverse_low() -> None:
    error = (EVERY.target - EVERY.image).abs()
    # Far from zero, where no interval is clipped.
    up = 10 * error.amax()
    bright = Made(EVERY.image + up, EVERY.width, EVERY.target + up, EVERY.subjects)
    for half, sign in ((error, 1), (error.amax((-2, -1), keepdim=True) - error, -1)):
        said = found(bright, half)
        assert said.rank_correlation is not None
        assert sign * said.rank_correlation.mean > 0.99


def test_deterministic_and_by_stratum() -> None:
    slices = [*judged(EVERY, EVERY.width, "a"), *judged(EVERY, 0.1 * EVERY.width, "b")]
    assert diagnose(slices, seed=1) == diagnose(slices, seed=1)
    only = diagnose([one for one in slices if one.stratum == "a"], seed=1)
    assert only == diagnose(judged(EVERY, EVERY.width, "a"), seed=1)
    assert only.coverage.mean > diagnose(slices, seed=1).coverage.mean


def test_the_object_is_the_region_by_default() -> None:
    image = torch.zeros(2, 16, 16)
    image[0, 4:12, 4:12] = 1
    interval = Interval(image, image + 0.1, Guarantee(), 9, None)
    slices = judge(interval, image, image, subjects=["a", "b"], stratum="T1")
    assert [one.subject for one in slices] == ["a"]
    assert len(slices[0].missed) == 64
    with pytest.raises(BadInputError, match=r"at least two.*1 slices of 1 subjects"):
        diagnose(slices, seed=0)


def test_bad_input_is_named() -> None:
    target = EVERY.target.clone()
    target[5, 0, 0] = torch.nan
    wrong = Made(EVERY.image, EVERY.width, target, EVERY.subjects)
    with pytest.raises(BadInputError, match=r"slice 5, field 'target'"):
        judged(wrong, EVERY.width)
    with pytest.raises(BadInputError, match="at least two"):
        diagnose([], seed=0)
