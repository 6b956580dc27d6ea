"""Draws of exact budgets, their law and their gradient."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaptmr.reconstruction.learned.binarise import (
    SLOPE,
    draw,
    measured,
    most_probable,
    to_budget,
)
from adaptmr.sampling.frame import Frame

SIZES = st.integers(20, 65)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=generator(seed), dtype=dtype)


def complex_normal(shape: tuple[int, ...], seed: int = 0, dtype=torch.complex128) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


@st.composite
def frames(draw_: st.DrawFn) -> Frame:
    matrix = draw_(SIZES), draw_(SIZES)
    acceleration = draw_(st.integers(2, 20))
    padding = draw_(st.sampled_from([None, (1, matrix[1] - 2)]))
    # The smallest block leaves something to choose at every acceleration here.
    if draw_(st.booleans()):
        width = matrix[1] if padding is None else matrix[1] - 3
        if round(width / acceleration) < 2:
            acceleration = width // 2
        return Frame.of(matrix, (1,), acceleration, padding)
    return Frame.of(matrix, (3, 2), acceleration, padding)


@given(
    frame=frames(), seed=st.integers(0, 99), dtype=st.sampled_from([torch.float32, torch.float64])
)
@settings(max_examples=50, deadline=None)
def test_budgets_are_exact_with_the_block_and_without_the_padding(
    frame: Frame, seed: int, dtype: torch.dtype
) -> None:
    values = uniform((3, *frame.encoded.shape), seed, dtype) ** 3
    probabilities = to_budget(values, frame)
    candidates = torch.from_numpy(frame.candidates)
    assert bool(((probabilities >= 0) & (probabilities <= 1 + 1e-6)).all())
    assert torch.allclose(
        probabilities.sum(tuple(range(1, probabilities.ndim))),
        torch.tensor(float(frame.budget), dtype=dtype),
        rtol=1e-5,
    )
    drawn = draw(probabilities, frame, generator(seed)).detach()
    masks = most_probable(probabilities, frame, [{}] * 3)
    for positions, mask in zip(drawn, masks, strict=True):
        assert set(positions.unique().tolist()) <= {0.0, 1.0}
        for chosen in (positions.numpy() > 0, mask.positions):
            assert int(chosen.sum()) == frame.budget
            assert chosen[frame.block_only.positions].all()
            assert not chosen[~frame.encoded].any()
    for value, mask in zip(values, masks, strict=True):
        others = candidates & ~torch.from_numpy(mask.positions.copy())
        if others.any():
            kept = candidates & torch.from_numpy(mask.positions.copy())
            assert value[kept].min() >= value[others].max()


@pytest.mark.parametrize("fill", [0.0, 0.5, 1.0])
def test_probabilities_that_say_nothing_take_what_is_nearest_to_the_centre(fill: float) -> None:
    frame = Frame.of((8, 21), (3,), 3)
    values = torch.full((1, 21), fill, dtype=torch.float64, requires_grad=True)
    probabilities = to_budget(values, frame)
    (mask,) = most_probable(probabilities, frame, [{"generator": "test"}])
    assert mask.lines() == list(range(7, 14))
    assert mask.provenance == {"generator": "test"}
    probabilities.square().sum().backward()
    assert values.grad is not None
    assert torch.isfinite(values.grad).all()


def test_everything_can_be_taken() -> None:
    frame = Frame(np.ones(9, bool), (3,), 9)
    values = uniform((2, 9)).requires_grad_()
    drawn = draw(to_budget(values, frame), frame, generator())
    assert bool((drawn == 1).all())
    drawn.sum().backward()
    assert values.grad is not None
    assert torch.isfinite(values.grad).all()


def test_positions_are_drawn_as_often_as_their_probabilities_say() -> None:
    frame = Frame.of((4, 41), (3,), 3)
    # Some certain, some impossible, the rest between.
    values = torch.linspace(0, 1, 41, dtype=torch.float64) ** 2
    probabilities = to_budget(values, frame)
    draws = 20000
    share = draw(probabilities.expand(draws, -1), frame, generator()).mean(0)
    error = (probabilities * (1 - probabilities) / draws).sqrt()
    # Pareto sampling is exact up to about one part in the number of draws from the urn.
    assert bool(((share - probabilities).abs() <= 5 * error + 0.01).all())
    certain = torch.zeros(41, dtype=torch.float64)
    certain[5:15] = 1
    frame = Frame(np.ones(41, bool), (3,), 13)
    drawn = draw(to_budget(certain, frame).expand(200, -1), frame, generator())
    assert bool((drawn[:, 5:15] == 1).all())


def test_the_gradient_is_the_analytic_straight_through_one() -> None:
    frame = Frame.of((6, 15), (3,), 2.5)
    probabilities = to_budget(uniform((1, 15)), frame).requires_grad_()
    kspace = complex_normal((2, 3, 6, 15))
    weights = complex_normal((2, 3, 6, 15), seed=1)
    drawn = draw(probabilities, frame, generator(7))
    left = measured(kspace, drawn)
    (left * weights.conj()).real.sum().backward()
    # By hand: the same uniform numbers, the threshold between the keys, dL/dm = Re(conj(w) k).
    u = torch.rand((1, 15), generator=generator(7), dtype=torch.float64)
    p = probabilities.detach()
    keys = torch.log(p / (1 - p)) - torch.log(u / (1 - u))
    candidates = torch.from_numpy(frame.candidates)
    ranked = keys[0, candidates].sort(descending=True).values
    tau = (ranked[frame.count - 1] + ranked[frame.count]) / 2
    odds = u / (1 - u) * torch.exp(tau)
    threshold = odds / (1 + odds)
    assert torch.equal((drawn.detach() > 0)[0, candidates], (p > threshold)[0, candidates])
    s = 1 / (1 + torch.exp(-SLOPE * (p - threshold)))
    by_mask = (weights.conj() * kspace).real.sum((0, 1, 2))
    expected = by_mask * SLOPE * s * (1 - s)
    assert probabilities.grad is not None
    assert torch.allclose(
        probabilities.grad[:, candidates], expected[:, candidates], rtol=1e-10, atol=1e-12
    )
    unsampled = candidates & (drawn[0] == 0)
    assert bool((probabilities.grad[0, unsampled] != 0).all())


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("per_slice", [False, True])
def test_gradients_of_measured_kspace_are_those_of_the_product(axes: int, per_slice: bool) -> None:
    kspace = complex_normal((2, 3, 5, 7)).requires_grad_()
    shape = (2 if per_slice else 1, *(7,) * (axes == 1), *(5, 7) * (axes == 2))
    mask = (uniform(shape) > 0.5).double().requires_grad_()
    broad = mask[:, None, None] if axes == 1 else mask[:, None]
    weights = complex_normal((2, 3, 5, 7), seed=1)
    ours = torch.autograd.grad((measured(kspace, mask) * weights).real.sum(), (kspace, mask))
    theirs = torch.autograd.grad(((kspace * broad) * weights).real.sum(), (kspace, mask))
    for got, expected in zip(ours, theirs, strict=True):
        assert torch.allclose(got, expected, rtol=1e-12)
    assert torch.equal(measured(kspace, mask), kspace * broad)


def bits(values: Tensor) -> Tensor:
    return torch.view_as_real(values.detach()).contiguous().view(torch.int64)


@given(axes=st.sampled_from([1, 2]), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_nothing_of_what_was_not_measured_shows_not_even_its_sign(axes: int, seed: int) -> None:
    frame = Frame.of((11, 14), (3,) if axes == 1 else (3, 4), 3)
    probabilities = to_budget(uniform((1, *frame.encoded.shape), seed), frame).requires_grad_()
    drawn = draw(probabilities, frame, generator(seed))
    sampled = (drawn.detach() > 0)[:, None] if axes == 2 else (drawn.detach() > 0)[:, None, None]
    kspace = complex_normal((2, 2, 11, 14), seed)
    nothing = torch.full_like(kspace, complex(float("nan"), -float("inf")))
    left = measured(kspace, drawn)
    for other in (-kspace, kspace.conj().resolve_conj(), nothing):
        assert torch.equal(bits(left), bits(measured(torch.where(sampled, kspace, other), drawn)))
    assert not bool(
        torch.signbit(torch.view_as_real(left.detach()))[~sampled.expand_as(left)].any()
    )


def test_draws_follow_their_generator_alone() -> None:
    frame = Frame.of((8, 31), (3,), 4)
    probabilities = to_budget(uniform((2, 31)), frame)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = draw(probabilities, frame, generator(3))
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
    assert np.random.get_state()[1].tolist() == numpy_before  # noqa: NPY002
    torch.rand(5)
    assert torch.equal(first, draw(probabilities, frame, generator(3)))
    assert not torch.equal(first, draw(probabilities, frame, generator(4)))
    assert not torch.equal(first[0], first[1])
    torch.set_rng_state(before)


@pytest.mark.parametrize("acceleration", range(2, 21))
@pytest.mark.parametrize(
    ("matrix", "block", "padding"),
    [((16, 64), (2,), None), ((16, 65), (1,), (3, 63)), ((32, 33), (5, 6), None)],
)
def test_every_acceleration_from_2_to_20_is_met_exactly(
    matrix: tuple[int, int],
    block: tuple[int, ...],
    padding: tuple[int, int] | None,
    acceleration: int,
) -> None:
    frame = Frame.of(matrix, block, acceleration, padding)
    budget = round(matrix[0] ** (len(block) - 1) * (60 if padding else matrix[1]) / acceleration)
    probabilities = to_budget(uniform((1, *frame.encoded.shape), acceleration), frame)
    (mask,) = most_probable(probabilities, frame, [{}])
    assert int(draw(probabilities, frame, generator(acceleration)).sum()) == mask.budget == budget
