"""Masks from uncertainties: exact budgets, the laws of the draws, and what they are worth."""

import itertools
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from pydantic import ValidationError
from sampling_reference import known
from scipy import stats
from scipy.spatial import cKDTree

from adaptmr.errors import BadInputError, UsageError
from adaptmr.sampling import draws
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.informed import (
    DrawRule,
    Law,
    draw_positions,
    inclusion,
    informed_mask,
    mirrored,
    own_mask,
)

quick = settings(max_examples=25, deadline=None)
RULES = [
    DrawRule(),
    DrawRule(sort_fraction=1),
    DrawRule(sort_fraction=0.5, one_of_mirrored=True),
    DrawRule(law=Law.CAPPED),
    DrawRule(law=Law.CAPPED, sort_fraction=0.3, one_of_mirrored=True, power=2.5),
    DrawRule(one_of_mirrored=True),
    DrawRule(law=Law.SPACED),
    DrawRule(law=Law.SPACED, sort_fraction=0.3, one_of_mirrored=True, power=0.7),
]


def spectrum(matrix: tuple[int, int], seed: int = 0, fall: float = 2.0) -> np.ndarray:
    """A rough variance that falls off from the centre; point symmetric, as of real images."""
    values = np.random.default_rng(seed).gamma(2.0, size=matrix)
    values = values / (1 + draws.radius(matrix)) ** fall
    return (values + values.ravel()[mirrored(matrix)].reshape(matrix)).astype(np.float32)


def flat(weights: np.ndarray, count: int, rule: DrawRule, seed: int) -> np.ndarray:
    """Draw from (n,) weights without any block."""
    none = np.zeros(weights.shape, np.bool_)
    generator = np.random.default_rng(seed)
    return draw_positions(weights, ~none, none, count, rule, generator)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("axes", [1, 2])
@quick
@given(data=st.data())
def test_budget_is_exact(rule: DrawRule, axes: int, data: st.DataObject) -> None:
    matrix = data.draw(st.tuples(st.integers(20, 45), st.integers(40, 75)))
    acceleration = data.draw(st.integers(2, 20))
    block = (1,) if axes == 1 else data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    left, right = data.draw(st.tuples(st.integers(0, 8), st.integers(0, 8)))
    padding = (left, matrix[1] - right)
    exist = (padding[1] - padding[0]) * (matrix[0] if axes == 2 else 1)
    budget = round(exist / acceleration)
    if budget <= np.prod(block):
        with pytest.raises(UsageError, match="leaves nothing to choose"):
            Frame.of(matrix, block, acceleration, padding)
        return
    frame = Frame.of(matrix, block, acceleration, padding)
    values = spectrum(matrix)
    # Often fewer positions have weight than are to be chosen.
    kept = data.draw(st.integers(0, matrix[1]))
    values[:, kept:] = 0
    mask = informed_mask(values, frame, rule)
    assert mask.budget == budget == frame.budget
    assert mask.positions[mask.block].all()
    assert mask.low_frequency == block
    assert not mask.positions[..., :left].any()
    assert not mask.positions[..., padding[1] :].any()
    assert mask.acceleration == exist / budget
    positive = int(((frame.weights(values) > 0) & frame.candidates).sum())
    assert mask.provenance["filled"] == max(0, frame.count - positive)
    assert informed_mask(torch.from_numpy(values), frame, rule) == mask


@pytest.mark.parametrize(
    ("acceleration", "chosen"), [(4, 24000), (8, 11200), (10, 8640), (16, 4800), (20, 3520)]
)
def test_published_budgets(acceleration: int, chosen: int) -> None:
    frame = Frame.of((320, 320), (40, 40), acceleration)
    assert frame.count == chosen
    assert frame.budget == chosen + 1600


def test_published_variable_density() -> None:
    # ada-sel at 8x: the decay that makes the probabilities sum to the budget, block left out.
    frame = Frame.of((320, 320), (40, 40), 8)
    power = draws.radius((320, 320))[frame.candidates] ** 1.5
    decay = draws.decay(power, frame.count)
    assert decay == pytest.approx(0.0022424, abs=5e-8)
    assert np.exp(-decay * power).sum() == pytest.approx(11200)


def test_lines_sum_over_the_readout() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=(9, 40))
    frame = Frame.of((9, 40), (4,), 4)
    assert np.allclose(frame.weights(values)[~frame.candidates], 0)
    outside = frame.candidates
    assert np.allclose(frame.weights(values)[outside], values.sum(0)[outside])
    best = np.argsort(-frame.weights(values))[: frame.count]
    mask = informed_mask(values, frame, DrawRule(sort_fraction=1))
    assert set(mask.lines()) == set(best) | set(range(18, 22))


@quick
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 30))
def test_sorted_and_sharp_draws_take_the_top(seed: int, count: int) -> None:
    weights = np.random.default_rng(seed).permutation(1 + np.arange(30.0))
    top = weights > 30 - count
    assert np.array_equal(flat(weights, count, DrawRule(sort_fraction=1), seed), top)
    assert np.array_equal(flat(weights, count, DrawRule(power=1e6), seed), top)


@quick
@given(seed=st.integers(0, 2**32 - 1), fraction=st.floats(0, 1))
def test_mixed_draws_take_their_share_from_the_top(seed: int, fraction: float) -> None:
    weights = np.random.default_rng(seed).permutation(1 + np.arange(60.0))
    chosen = flat(weights, 20, DrawRule(sort_fraction=fraction), seed)
    assert chosen[weights > 60 - int(20 * fraction)].all()
    assert chosen.sum() == 20


def plackett_luce(weights: np.ndarray, count: int) -> np.ndarray:
    """Inclusion of each item, by all orders in which they may come."""
    found = np.zeros(len(weights))
    for order in itertools.permutations(range(len(weights)), count):
        left, chance = weights.sum(), 1.0
        for item in order:
            chance, left = chance * weights[item] / left, left - weights[item]
        found[list(order)] += chance
    return found


def within(hits: np.ndarray, expected: np.ndarray, runs: int) -> bool:
    """Whether counts of hits fit probabilities, each by an exact binomial test, jointly at 1e-4."""
    return all(
        stats.binomtest(int(hit), runs, min(1.0, float(chance))).pvalue > 1e-4 / len(hits)
        for hit, chance in zip(hits, expected, strict=True)
    )


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_inclusion_is_plackett_luce(count: int, power: float) -> None:
    weights, runs = np.array([0.5, 1, 2, 4, 0.1, 1.0]), 6000
    rule = DrawRule(power=power)
    hits = sum(flat(weights, count, rule, seed).astype(int) for seed in range(runs))
    expected = plackett_luce(weights**power, count)
    assert within(hits, expected, runs)
    assert (np.diff(expected[np.argsort(weights, kind="stable")]) >= -1e-12).all()
    # The test would notice another law.
    assert count == 1 or not within(hits, np.minimum(1, weights / weights.sum() * count), runs)


def test_inclusion_is_that_of_numpy_choice() -> None:
    # The published code's own draw: the same law from another stream.
    weights, runs = np.random.default_rng(0).gamma(1.0, size=12), 4000
    ours = sum(flat(weights, 5, DrawRule(), seed).astype(int) for seed in range(runs))
    theirs = np.zeros(12, int)
    state = np.random.default_rng(1)
    for _ in range(runs):
        theirs[state.choice(12, 5, replace=False, p=weights / weights.sum())] += 1
    for a, b in zip(ours, theirs, strict=True):
        assert stats.fisher_exact([[a, runs - a], [b, runs - b]]).pvalue > 1e-5


def test_equal_weights_are_drawn_equally() -> None:
    runs = 4000
    for law in (Law.WEIGHTED, Law.CAPPED):
        hits = sum(flat(np.full(10, 3.0), 4, DrawRule(law=law), s).astype(int) for s in range(runs))
        assert within(hits, np.full(10, 0.4), runs)


def test_capped_inclusion_is_proportional() -> None:
    weights, runs = np.array([8.0, 4, 2, 1, 1, 0.5, 0.25, 0.25]), 6000
    expected = inclusion(weights, 3)
    assert expected.sum() == pytest.approx(3)
    assert expected[0] == 1
    assert np.allclose(expected[1:] / weights[1:], expected[1] / weights[1])
    hits = sum(flat(weights, 3, DrawRule(law=Law.CAPPED), s).astype(int) for s in range(runs))
    assert within(hits, expected, runs)


def nearest_neighbours(mask: np.ndarray) -> np.ndarray:
    """Distance of each position of a mask from the nearest other one."""
    places = np.argwhere(mask)
    return cKDTree(places).query(places, k=2)[0][:, 1]


@pytest.mark.parametrize("matrix", [(48, 48), (45, 60)])
def test_spaced_positions_keep_their_distance_and_follow_the_weights(
    matrix: tuple[int, int],
) -> None:
    values = 1 / (1 + draws.radius(matrix)) ** 1.5
    frame = Frame.of(matrix, (2, 2), 6)
    spread = [informed_mask(values, frame, DrawRule(law=Law.SPACED, seed=s)) for s in range(40)]
    drawn = [informed_mask(values, frame, DrawRule(law=Law.CAPPED, seed=s)) for s in range(40)]
    apart, close = (
        np.mean([nearest_neighbours(mask.positions).mean() for mask in masks])
        for masks in (spread, drawn)
    )
    assert apart > 1.25 * close
    # As often as the capped law, in rings a few positions wide.
    ring = (draws.radius(matrix) // 6).astype(int)
    often = [np.mean([mask.positions for mask in masks], axis=0) for masks in (spread, drawn)]
    for index in range(4):
        ours, theirs = (float(share[ring == index].mean()) for share in often)
        assert ours == pytest.approx(theirs, abs=0.08)


def test_spaced_lines_keep_their_distance() -> None:
    frame = Frame.of((8, 120), (8,), 4)
    for seed in range(10):
        mask = informed_mask(np.ones((8, 120)), frame, DrawRule(law=Law.SPACED, seed=seed))
        # 22 of 112 lines: never beside each other, where draws often are.
        gaps = np.diff([line for line in mask.lines() if not 56 <= line < 64])
        assert gaps.min() >= 2


@quick
@given(
    weights=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40).map(np.array), data=st.data()
)
def test_capped_probabilities_sum_to_the_count(weights: np.ndarray, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(weights)))
    found = inclusion(weights, count)
    assert found.sum() == pytest.approx(count)
    assert (found <= 1).all()
    assert (np.diff(found[np.argsort(weights)]) >= -1e-9).all()


@pytest.mark.parametrize("shape", [(5,), (6,), (5, 6), (6, 4), (7, 7), (1, 8)])
def test_mirrors(shape: tuple[int, ...]) -> None:
    mirror = mirrored(shape)
    assert np.array_equal(mirror[mirror], np.arange(np.prod(shape)))
    signal = np.random.default_rng(0).normal(size=shape)
    centred = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(signal))).ravel()
    assert np.allclose(centred[mirror], centred.conj())


@pytest.mark.parametrize("law", list(Law))
@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(
    ("matrix", "block"), [((24, 24), (6, 6)), ((25, 22), (5, 4)), ((24, 31), (5,))]
)
def test_hermitian_masks_hold_one_of_each_pair(
    law: Law, fraction: float, matrix: tuple[int, int], block: tuple[int, ...]
) -> None:
    frame = Frame.of(matrix, block, 4 if len(block) == 2 else 2.6)
    rule = DrawRule(law=law, sort_fraction=fraction, one_of_mirrored=True)
    mask = informed_mask(spectrum(matrix), frame, rule)
    mirror = mirrored(mask.positions.shape)
    chosen = (mask.positions & ~frame.block_only.positions).ravel()
    twins = mask.positions.ravel()[mirror] & chosen & (mirror != np.arange(len(mirror)))
    assert not twins.any()
    assert mask.budget == frame.budget
    if len(block) == 1:
        return
    # Without the rule there would be some.
    plain = informed_mask(
        spectrum(matrix), frame, rule.model_copy(update={"one_of_mirrored": False})
    )
    chosen = (plain.positions & ~frame.block_only.positions).ravel()
    assert (plain.positions.ravel()[mirror] & chosen & (mirror != np.arange(len(mirror)))).any()


def test_hermitian_draws_choose_pairs_by_their_joint_weight() -> None:
    weights, runs = np.array([1.0, 3, 2, 0.5, 0, 0.5, 4, 1, 2]), 6000
    block = np.arange(9) == 4
    rule = DrawRule(one_of_mirrored=True)
    hits = np.zeros(9)
    for seed in range(runs):
        hits += draw_positions(weights, ~block, block, 2, rule, np.random.default_rng(seed))
    pairs = weights[:4] + weights[:4:-1]
    assert within(hits[:4] + hits[:4:-1], plackett_luce(pairs, 2), runs)


def test_hermitian_masks_take_twins_when_nothing_else_is_left() -> None:
    frame = Frame.of((12, 12), (2, 2), 1.2)
    mask = informed_mask(spectrum((12, 12)), frame, DrawRule(one_of_mirrored=True))
    assert mask.budget == 120
    whole = Frame.of((12, 12), (2, 2), 1)
    assert informed_mask(spectrum((12, 12)), whole, DrawRule()).positions.all()


def test_filled_from_the_centre_when_weights_run_out() -> None:
    frame = Frame.of((1, 41), (3,), 4.1)
    values = np.zeros((1, 41))
    values[0, [2, 38]] = 1
    for rule in RULES:
        lines = informed_mask(values, frame, rule).lines()
        expected = [17, 18, 19, 20, 21, 22, 23]
        if rule.one_of_mirrored:
            assert len({min(line, 40 - line) for line in lines if not 19 <= line <= 21}) == 7
        else:
            assert lines == [2, *expected, 24, 38] or lines == [2, 16, *expected, 38]
    nothing = informed_mask(np.zeros((1, 41)), frame, DrawRule())
    assert nothing.lines() == sorted(nothing.lines())
    assert nothing == informed_mask(np.zeros((1, 41)), frame, DrawRule(seed=7))


def test_prop_1_sorted_before_weighted_before_uniform() -> None:
    # Gaussian k-space with known independent variances: what is not acquired is guessed by its
    # mean, zero, and its energy is the error.
    matrix, block = (24, 25), (5, 5)
    frame = Frame.of(matrix, block, 6)
    variance = spectrum(matrix).astype(np.float64)
    generator = np.random.default_rng(0)
    parts = generator.normal(size=(400, 2, *matrix)) * np.sqrt(variance / 2)
    energy = (parts**2).sum(1)

    def errors(weights: np.ndarray, rule: DrawRule) -> np.ndarray:
        masks = [informed_mask(weights, frame, rule, draw).positions for draw in range(400)]
        return np.array([(e * ~mask).sum() for e, mask in zip(energy, masks, strict=True)])

    sorted_, weighted, uniform = (
        errors(variance, DrawRule(sort_fraction=1)),
        errors(variance, DrawRule()),
        errors(np.ones(matrix), DrawRule()),
    )
    capped = errors(variance, DrawRule(law=Law.CAPPED))
    for better, worse in [
        (sorted_, weighted),
        (weighted, uniform),
        (sorted_, capped),
        (capped, weighted),
    ]:
        gain = worse - better
        assert gain.mean() > 4 * stats.sem(gain)
    outside = variance * frame.candidates
    chosen = informed_mask(variance, frame, DrawRule(sort_fraction=1)).positions
    assert sorted_.mean() == pytest.approx((outside * ~chosen).sum(), rel=0.05)


def test_prop_1_flat_variance_makes_no_difference() -> None:
    frame = Frame.of((16, 17), (3, 3), 5)
    ones = np.ones((16, 17))
    left = [(ones * ~informed_mask(ones, frame, rule).positions).sum() for rule in RULES]
    assert len(set(left)) == 1


def test_masks_follow_the_seed_alone() -> None:
    values, frame = spectrum((30, 31)), Frame.of((30, 31), (4, 4), 6)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_before = torch.random.get_rng_state()
    mask = informed_mask(values, frame, DrawRule())
    np.random.seed(5)  # noqa: NPY002
    assert informed_mask(values, frame, DrawRule()) == mask
    np.random.set_state(("MT19937", before, *np.random.get_state()[2:]))  # noqa: NPY002
    assert informed_mask(values, frame, DrawRule(seed=43)) != mask
    assert informed_mask(values, frame, DrawRule(), draw=1) != mask
    assert torch.equal(torch.random.get_rng_state(), torch_before)
    # Units do not matter, and the draw is the same for masks that differ by weights alone.
    assert informed_mask(values * np.float32(1e-20), frame, DrawRule()) == mask
    near = informed_mask(values * (1 + 1e-6), frame, DrawRule())
    assert (near.positions != mask.positions).sum() <= 2


@pytest.mark.parametrize("seed", range(3))
def test_global_random_state_is_untouched(seed: int) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    for rule in RULES:
        informed_mask(spectrum((20, 21)), Frame.of((20, 21), (3, 3), 4), rule, seed)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_own_mask_is_of_the_slice_itself() -> None:
    values = np.stack([spectrum((20, 21)), np.zeros((20, 21), np.float32)])
    found, frame = known(torch.from_numpy(values), (3, 3)), Frame.of((20, 21), (3, 3), 4)
    assert own_mask(found, 0, frame, DrawRule()) == informed_mask(
        found.values[0], frame, DrawRule()
    )
    with pytest.raises(BadInputError, match=r"slice 1.*not known"):
        own_mask(found, 1, frame, DrawRule())


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_impossible_uncertainties_are_refused(value: float) -> None:
    values = spectrum((20, 21))
    values[3, 4] = value
    with pytest.raises(BadInputError, match="1 of 420"):
        informed_mask(values, Frame.of((20, 21), (3, 3), 4), DrawRule())


@pytest.mark.parametrize("shape", [(21, 20), (20,), (1, 20, 21), (20, 22)])
def test_uncertainties_of_another_matrix_are_refused(shape: tuple[int, ...]) -> None:
    for block in ((3,), (3, 3)):
        if shape == (21, 20) and len(block) == 1:
            continue
        with pytest.raises(BadInputError, match="another matrix"):
            informed_mask(np.ones(shape), Frame.of((20, 21), block, 4), DrawRule())


def test_frames_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="leaves nothing"):
        Frame.of((20, 20), (10, 10), 4)
    with pytest.raises(UsageError, match="exceeds the positions"):
        Frame(np.ones(10, np.bool_), (2,), 11)
    with pytest.raises(BadInputError, match="padding"):
        Frame.of((20, 20), (10,), 1.5, padding=(12, 20))
    with pytest.raises(BadInputError, match="one size per axis"):
        Frame.of((20, 20), (21,), 2)
    with pytest.raises(BadInputError, match="do not meet the budget"):
        Frame.of((20, 20), (4,), 2).mask(np.zeros(20, np.bool_), {})
    with pytest.raises(BadInputError, match="fewer positions than the budget"):
        flat(np.ones(4), 5, DrawRule(), 0)


def test_frame_of_a_mask_gives_the_mask_again() -> None:
    frame = Frame.of((20, 30), (4,), 3, padding=(3, 28))
    mask = informed_mask(spectrum((20, 30)), frame, DrawRule())
    again = Frame.of_mask(mask)
    assert informed_mask(spectrum((20, 30)), again, DrawRule()) == mask


@pytest.mark.parametrize(
    "field", [{"power": 0}, {"sort_fraction": 1.1}, {"seed": -1}, {"law": "x"}, {"other": 1}]
)
def test_rules_that_make_no_sense_are_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DrawRule(**field)
