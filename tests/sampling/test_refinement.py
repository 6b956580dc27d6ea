"""Refinement: budgets stay, scores never fall, and known optima are found."""

import itertools

import numpy as np
import pytest
import torch
from sampling_reference import known

from adaptmr.errors import BadInputError, UsageError
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.informed import DrawRule, informed_mask
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.refinement import (
    CapturedVariance,
    Scorer,
    best_draw,
    climb,
    coordinate_descent,
    scores_of,
)

MATRIX, BLOCK = (18, 21), (4, 5)


def variances(slices: int = 5, matrix: tuple[int, int] = MATRIX) -> torch.Tensor:
    return torch.rand(slices, *matrix, generator=torch.Generator().manual_seed(1)) ** 3


class Spread:
    """Not additive: how evenly the lines lie."""

    def __call__(self, mask: Mask) -> float:
        return -float(np.var(np.diff(mask.lines())))


def test_captured_variance_is_the_share() -> None:
    values, frame = variances(), Frame.of(MATRIX, BLOCK, 4)
    mask = informed_mask(values[0], frame, DrawRule())
    expected = [(v * mask.positions).sum() / v.sum() for v in values.double().numpy()]
    assert CapturedVariance(values)(mask) == pytest.approx(np.mean(expected))
    with_nothing = torch.cat((values, torch.zeros(2, *MATRIX)))
    assert CapturedVariance(with_nothing)(mask) == pytest.approx(np.mean(expected))
    assert CapturedVariance(100 * values)(mask) == pytest.approx(np.mean(expected))
    whole = Mask(np.ones(MATRIX, np.bool_), BLOCK)
    assert CapturedVariance(values)(whole) == pytest.approx(1)
    lines = informed_mask(values[0], Frame.of(MATRIX, (3,), 3), DrawRule())
    columns = values.double().numpy()[..., lines.positions].sum((1, 2))
    assert CapturedVariance(values)(lines) == pytest.approx(
        np.mean(columns / values.double().numpy().sum((1, 2)))
    )
    with pytest.raises(BadInputError, match="no slice has a variance"):
        CapturedVariance(torch.zeros(2, *MATRIX))(mask)


@pytest.mark.parametrize("block", [BLOCK, (3,)])
def test_best_of_many_draws(block: tuple[int, ...]) -> None:
    values, frame = variances(), Frame.of(MATRIX, block, 3)
    scorer = CapturedVariance(values)
    mean = values.mean(0)
    found = best_draw(mean, frame, DrawRule(), 12, scorer)
    every = scores_of([informed_mask(mean, frame, DrawRule(), n) for n in range(12)], scorer)
    assert scorer(found.mask) == found.scores[-1] == max(every)
    assert found.scores[0] == every[0]
    assert found.evaluations == 12
    assert list(found.scores) == sorted(found.scores)
    assert found.mask.budget == frame.budget
    once = best_draw(mean, frame, DrawRule(), 1, scorer)
    assert once.mask == informed_mask(mean, frame, DrawRule())


@pytest.mark.parametrize("block", [BLOCK, (3,)])
def test_climbing_reaches_the_sorted_mask(block: tuple[int, ...]) -> None:
    # Captured variance is additive, so its best mask is known: the sorted one.
    values, frame = variances(1), Frame.of(MATRIX, block, 3)
    scorer = CapturedVariance(known(values, BLOCK).values)
    weights = frame.weights(known(values, BLOCK).values[0].numpy())
    start = informed_mask(values[0], frame, DrawRule())
    best = scorer(informed_mask(known(values, BLOCK).values[0], frame, DrawRule(sort_fraction=1)))
    found = climb(start, weights, scorer, evaluations=1500, seed=0)
    assert list(found.scores) == sorted(set(found.scores))
    assert found.mask.budget == frame.budget
    assert found.mask.positions[found.mask.block].all()
    assert found.scores[-1] == scorer(found.mask)
    assert found.scores[-1] - found.scores[0] > 0.9 * (best - found.scores[0]) > 0
    assert found.evaluations <= 1500
    again = climb(start, weights, scorer, evaluations=1500, seed=0)
    assert again.mask == found.mask
    assert climb(start, weights, scorer, evaluations=1500, seed=1).scores != found.scores


def test_coordinate_descent_ends_where_no_move_helps() -> None:
    frame = Frame.of((6, 24), (2,), 3)
    values = variances(3, (6, 24))
    for scorer in (CapturedVariance(values), Spread()):
        start = informed_mask(values[0], frame, DrawRule())
        found = coordinate_descent(start, scorer, evaluations=10_000)
        assert found.evaluations < 10_000
        assert list(found.scores) == sorted(found.scores)
        chosen = np.flatnonzero(found.mask.positions & ~frame.block_only.positions)
        free = np.flatnonzero(frame.candidates & ~found.mask.positions)
        for old, new in itertools.product(chosen, free):
            moved = found.mask.positions.copy()
            moved[old], moved[new] = False, True
            assert scorer(frame.mask(moved, {})) <= found.scores[-1]
    # For an additive score that is the optimum.
    best = CapturedVariance(values[:1])
    found = coordinate_descent(start, best, evaluations=10_000)
    assert found.mask == informed_mask(values[0], frame, DrawRule(sort_fraction=1))


def test_evaluations_are_counted_and_bounded() -> None:
    frame, values = Frame.of((6, 24), (2,), 3), variances(1, (6, 24))
    start = informed_mask(values[0], frame, DrawRule())
    calls = []

    def counted(mask: Mask) -> float:
        calls.append(mask)
        return CapturedVariance(values)(mask)

    for limit in (1, 2, 17):
        calls.clear()
        assert coordinate_descent(start, counted, evaluations=limit).evaluations == len(calls)
        assert len(calls) == limit
        calls.clear()
        weights = frame.weights(values[0].numpy())
        assert climb(start, weights, counted, evaluations=limit, seed=0).evaluations == len(calls)
        assert len(calls) == limit
    assert climb(start, weights, counted, evaluations=1, seed=0).mask is start


def test_a_network_loss_is_a_scorer_too() -> None:
    # Stands for any reconstruction: the error of zero filling, which knows the images.
    generator = torch.Generator().manual_seed(0)
    kspace = torch.randn(4, *MATRIX, dtype=torch.complex64, generator=generator) * variances(4)

    def minus_error(mask: Mask) -> float:
        return -float((kspace - mask.apply(kspace)).abs().square().sum())

    scorer: Scorer = minus_error
    frame = Frame.of(MATRIX, BLOCK, 4)
    weights = frame.weights(kspace.abs().square().mean(0).numpy())
    drawn = best_draw(kspace.abs().square().mean(0), frame, DrawRule(), 8, scorer)
    found = climb(drawn.mask, weights, scorer, evaluations=400, seed=2, largest=16)
    assert found.scores[-1] > drawn.scores[-1] > drawn.scores[0]
    assert found.mask.provenance["refined"] == "climb"


def test_full_masks_have_nothing_to_swap() -> None:
    frame = Frame.of(MATRIX, BLOCK, 1)
    mask = informed_mask(variances()[0], frame, DrawRule())
    scorer = CapturedVariance(variances())
    weights = frame.weights(variances()[0].numpy())
    assert climb(mask, weights, scorer, evaluations=50, seed=0).evaluations == 1
    assert coordinate_descent(mask, scorer, evaluations=50).mask is mask


def test_scores_that_are_no_numbers_are_refused() -> None:
    frame = Frame.of(MATRIX, BLOCK, 4)
    with pytest.raises(BadInputError, match="score of a mask is not finite"):
        best_draw(variances()[0], frame, DrawRule(), 2, lambda _: float("nan"))
    with pytest.raises(UsageError, match="at least one draw"):
        best_draw(variances()[0], frame, DrawRule(), 0, lambda _: 0.0)
