"""Bounded monotonic rational-quadratic splines with two bins (Durkan et al. 2019).

A spline maps the box [-1/2, 1/2] onto itself with slope 1 at both ends, and is the identity
outside, so neither it nor its inverse can grow without bound (Hong, Park and Chun 2023,
arXiv:2212.04319).
"""

import torch
from torch import Tensor

_EPSILON = 1e-3
_LARGEST_LOG_SLOPE = 5.0


def spline(x: Tensor, parameters: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Map values elementwise.

    Args:
        x: values of any shape.
        parameters: place (a), height (b) and slope (c) of the interior knot, unbounded, of the
            shape of ``x``; zeros give the identity.

    Returns:
        The mapped values, and the logarithm of the slope there.
    """
    inside = (x > -0.5) & (x < 0.5)
    # A value that is replaced here has a finite gradient: of the constant, which is zero.
    held = torch.where(inside, x, 0.0)
    place, height, slope = _knot(parameters)
    left = held < place - 0.5
    x0, dx, y0, dy, d0, d1 = _bin(left, place, height, slope)
    t = (held - x0) / dx
    steepness = dy / dx
    curve = t * (1 - t)
    denominator = steepness + (d0 + d1 - 2 * steepness) * curve
    y = y0 + dy * (steepness * t.square() + d0 * curve) / denominator
    gradient = d1 * t.square() + 2 * steepness * curve + d0 * (1 - t).square()
    log_slope = 2 * steepness.log() + gradient.log() - 2 * denominator.log()
    return torch.where(inside, y, x), torch.where(inside, log_slope, 0.0)


def inverse_spline(y: Tensor, parameters: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Undo `spline`: the root of the quadratic equation in the form that does not cancel.

    Args:
        y: mapped values of any shape.
        parameters: as in `spline`.
    """
    inside = (y > -0.5) & (y < 0.5)
    held = torch.where(inside, y, 0.0)
    place, height, slope = _knot(parameters)
    left = held < height - 0.5
    x0, dx, y0, dy, d0, d1 = _bin(left, place, height, slope)
    steepness = dy / dx
    rise = held - y0
    bend = rise * (d0 + d1 - 2 * steepness)
    a = bend + dy * (steepness - d0)
    b = dy * d0 - bend
    c = -steepness * rise
    root = (b.square() - 4 * a * c).clamp_min(0).sqrt()
    # b + root > 0 inside the bin: b is at least 0 where a <= 0, and the root exceeds |b| elsewhere.
    t = (-2 * c / (b + root)).clamp(0, 1)
    return torch.where(inside, x0 + t * dx, y)


def _knot(parameters: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Place and height above the lower left corner of the box, and slope, of the interior knot."""
    a, b, c = parameters
    place = torch.sigmoid(a) * (1 - 2 * _EPSILON) + _EPSILON
    height = torch.sigmoid(b) * (1 - 2 * _EPSILON) + _EPSILON
    # The published slope is exp(c); bounded smoothly, it cannot overflow far from training.
    log_slope = _LARGEST_LOG_SLOPE * torch.tanh(c / _LARGEST_LOG_SLOPE)
    return place, height, torch.exp(log_slope) * (1 - _EPSILON) + _EPSILON


def _bin(
    left: Tensor, place: Tensor, height: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Corner and size of the bin, and the slopes at its two ends."""
    one = torch.ones_like(slope)
    return (
        torch.where(left, -0.5, place - 0.5),
        torch.where(left, place, 1 - place),
        torch.where(left, -0.5, height - 0.5),
        torch.where(left, height, 1 - height),
        torch.where(left, one, slope),
        torch.where(left, slope, one),
    )
