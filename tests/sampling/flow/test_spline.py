"""The rational-quadratic spline: monotone, bounded, inverted, its slope that of autograd."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from adaptmr.sampling.flow.spline import inverse_spline, spline

quick = settings(max_examples=25, deadline=None)
Parameters = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def parameters(count: int, spread: float, seed: int, dtype: torch.dtype) -> Parameters:
    generator = torch.Generator().manual_seed(seed)
    a, b, c = spread * torch.randn(3, count, generator=generator, dtype=dtype)
    return a, b, c


def by_hand(x: float, a: float, b: float, c: float) -> float:
    """The published formulas, one value at a time."""
    epsilon = 1e-3
    sigmoid = torch.sigmoid(torch.tensor([a, b], dtype=torch.float64)) * (1 - 2 * epsilon) + epsilon
    w, h = sigmoid.tolist()
    log_slope = 5 * torch.tanh(torch.tensor(c / 5, dtype=torch.float64))
    d = float(log_slope.exp()) * (1 - epsilon) + epsilon
    if abs(x) >= 0.5:
        return x
    knots = [(-0.5, -0.5, 1.0), (-0.5 + w, -0.5 + h, d), (0.5, 0.5, 1.0)]
    left, right = knots[:2] if x < knots[1][0] else knots[1:]
    dx, dy = right[0] - left[0], right[1] - left[1]
    s, t = dy / dx, (x - left[0]) / dx
    d0, d1 = left[2], right[2]
    return left[1] + dy * (s * t**2 + d0 * t * (1 - t)) / (s + (d0 + d1 - 2 * s) * t * (1 - t))


@quick
@given(x=st.floats(-0.7, 0.7), a=st.floats(-4, 4), b=st.floats(-4, 4), c=st.floats(-4, 4))
def test_is_the_published_formula(x: float, a: float, b: float, c: float) -> None:
    given_parameters = torch.tensor([[a], [b], [c]], dtype=torch.float64).unbind(0)
    y, _ = spline(torch.tensor([x], dtype=torch.float64), given_parameters)
    assert y.item() == pytest.approx(by_hand(x, a, b, c), abs=1e-12)


@quick
@given(seed=st.integers(0, 10_000), spread=st.sampled_from([0.0, 0.5, 2.0]))
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str
)
def test_inverse_undoes_it(seed: int, spread: float, dtype: torch.dtype, tolerance: float) -> None:
    given_parameters = parameters(200, spread, seed, dtype)
    x = torch.linspace(-0.8, 0.8, 200, dtype=dtype)
    y, log_slope = spline(x, given_parameters)
    # What rounding of y alone makes of x: where the spline is flat, its inverse is steep.
    allowed = tolerance * (-log_slope).exp().clamp_min(1)
    assert bool(((inverse_spline(y, given_parameters) - x).abs() <= allowed).all())


@quick
@given(seed=st.integers(0, 10_000))
def test_slope_is_that_of_autograd(seed: int) -> None:
    given_parameters = parameters(100, 1.5, seed, torch.float64)
    x = torch.linspace(-0.77, 0.77, 100, dtype=torch.float64, requires_grad=True)
    y, log_slope = spline(x, given_parameters)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(log_slope, slope.log(), atol=1e-9, rtol=1e-9)


@quick
@given(seed=st.integers(0, 10_000))
def test_rises_within_the_box_and_is_the_identity_outside(seed: int) -> None:
    one = tuple(part.expand(1001) for part in parameters(1, 2.0, seed, torch.float64))
    x = torch.linspace(-0.5, 0.5, 1001, dtype=torch.float64)
    y, _ = spline(x, one)
    assert bool((y.diff() > 0).all())
    torch.testing.assert_close(y[[0, -1]], x[[0, -1]])
    far = torch.tensor([-1e30, -2.0, -0.5, 0.5, 3.0, 1e30], dtype=torch.float64)
    outside = tuple(part[:6] for part in one)
    assert torch.equal(spline(far, outside)[0], far)
    assert torch.equal(inverse_spline(far, outside), far)


def test_zeros_are_the_identity() -> None:
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    zeros = (torch.zeros_like(x),) * 3
    y, log_slope = spline(x, zeros)
    torch.testing.assert_close(y, x, atol=1e-15, rtol=0)
    torch.testing.assert_close(log_slope, torch.zeros_like(x), atol=1e-14, rtol=0)


def test_extreme_parameters_stay_finite_with_their_gradients() -> None:
    x = torch.linspace(-0.6, 0.6, 61).repeat(8)
    signs = torch.cartesian_prod(*[torch.tensor([-1e6, 1e6])] * 3).repeat_interleave(61, 0)
    given_parameters = signs.T.clone().requires_grad_()
    y, log_slope = spline(x, given_parameters.unbind(0))
    back = inverse_spline(y, given_parameters.unbind(0))
    (gradient,) = torch.autograd.grad(y.sum() + log_slope.sum() + back.sum(), given_parameters)
    for values in (y, log_slope, back, gradient):
        assert bool(torch.isfinite(values).all())
