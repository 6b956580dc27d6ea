"""Iterative solvers over batches of images; every image has its own steps and its own stop."""

from collections.abc import Callable

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]


def _inner(first: Tensor, second: Tensor) -> Tensor:
    """Real part of each image's inner product, (batch, 1, 1)."""
    product = torch.view_as_real(first) * torch.view_as_real(second)
    return product.sum((-3, -2, -1)).view(-1, 1, 1)


def conjugate_gradient(
    operator: Operator, right: Tensor, iterations: int, tolerance: float
) -> Tensor:
    """Solve ``operator(x) = right`` for a Hermitian positive operator, from zero.

    Source: Hestenes and Stiefel, 1952.

    Args:
        operator: acts on (batch, rows, columns) complex images one by one.
        right: (batch, rows, columns) complex.
        iterations: most steps taken.
        tolerance: an image is done when its residual is below this share of ``right``.

    Returns:
        (batch, rows, columns) complex.
    """
    image = torch.zeros_like(right)
    residual = direction = right
    energy = _inner(right, right)
    enough = tolerance**2 * energy
    for _ in range(iterations):
        active = energy > enough
        if not bool(active.any()):
            break
        image_of_direction = operator(direction)
        curvature = _inner(direction, image_of_direction)
        # Images that are done stay as they are, whatever else is in the batch.
        step = torch.where(active & (curvature > 0), energy / curvature, 0)
        image = image + step * direction
        residual = residual - step * image_of_direction
        before, energy = energy, torch.where(active, _inner(residual, residual), energy)
        direction = torch.where(active, residual + energy / before * direction, direction)
    return image


def accelerated_proximal_gradient(
    gradient: Operator, proximal: Operator, start: Tensor, iterations: int, tolerance: float
) -> Tensor:
    """Minimise ``f + g`` with steps of length 1: FISTA with adaptive restart of its momentum.

    Source: Beck and Teboulle, SIAM J. Imaging Sci. 2:183 (2009); O'Donoghue and Candes, Found.
    Comput. Math. 15:715 (2015), gradient scheme.

    Args:
        gradient: of f, whose Lipschitz constant is at most 1, for (batch, rows, columns) images.
        proximal: proximal map of g.
        start: (batch, rows, columns) complex.
        iterations: most steps taken.
        tolerance: an image is done when a step changes it by less than this share of its norm.

    Returns:
        (batch, rows, columns) complex.
    """
    image = point = start
    momentum = torch.ones(len(start), 1, 1, dtype=start.real.dtype, device=start.device)
    active = torch.ones_like(momentum, dtype=torch.bool)
    for _ in range(iterations):
        following = proximal(point - gradient(point))
        change = following - image
        uphill = _inner(point - following, change) > 0
        momentum = torch.where(uphill, torch.ones_like(momentum), momentum)
        grown = (1 + torch.sqrt(1 + 4 * momentum.square())) / 2
        point = torch.where(active, following + (momentum - 1) / grown * change, point)
        image = torch.where(active, following, image)
        momentum = grown
        active = active & (_inner(change, change) > tolerance**2 * _inner(image, image))
        if not bool(active.any()):
            break
    return image


def primal_dual(
    gradient: Operator,
    transform: Operator,
    transform_adjoint: Operator,
    transform_bound: float,
    weight: Tensor,
    start: Tensor,
    iterations: int,
    tolerance: float,
) -> Tensor:
    """Minimise ``f(x) + weight |T x|_1`` for a ``T`` that has no simple proximal map.

    Source: Condat, J. Optim. Theory Appl. 158:460 (2013), algorithm 3.1 without relaxation; Vu
    (2013). The ratio of the two step lengths is for images whose peak is about 1.

    Args:
        gradient: of f, whose Lipschitz constant is at most 1, for (batch, rows, columns) images.
        transform: T, to (parts, batch, rows, columns).
        transform_adjoint: adjoint of T.
        transform_bound: bound on the norm of the adjoint after T.
        weight: of the penalty, (batch, 1, 1).
        start: (batch, rows, columns) complex.
        iterations: most steps taken.
        tolerance: an image is done when a step changes it by less than this share of its norm.

    Returns:
        (batch, rows, columns) complex.
    """
    dual_step = 0.5 / transform_bound
    step = 1 / (0.5 + dual_step * transform_bound)
    image = start
    dual = torch.zeros_like(transform(start))
    active = torch.ones_like(weight, dtype=torch.bool)
    for _ in range(iterations):
        change = -step * (gradient(image) + transform_adjoint(dual))
        dual = dual + dual_step * transform(image + 2 * change)
        dual = dual / (dual.abs() / weight).clamp(min=1)
        image = torch.where(active, image + change, image)
        active = active & (_inner(change, change) > tolerance**2 * _inner(image, image))
        if not bool(active.any()):
            break
    return image
