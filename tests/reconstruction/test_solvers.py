import numpy as np
import torch
from made_kspace import complex_normal
from torch import Tensor

from adaptmr.reconstruction.solvers import (
    accelerated_proximal_gradient,
    conjugate_gradient,
    primal_dual,
)

PIXELS = (3, 4)


def positive(seed: int) -> Tensor:
    """A positive definite 12 x 12 matrix of norm 1."""
    factor = complex_normal((12, 12), seed)
    matrix = factor @ factor.mH + 0.5 * torch.eye(12)
    return matrix / torch.linalg.matrix_norm(matrix, 2)


def times(matrices: Tensor, image: Tensor) -> Tensor:
    product: Tensor = (matrices @ image.flatten(1)[..., None]).view_as(image)
    return product


def test_conjugate_gradient_solves_each_system() -> None:
    matrices = torch.stack([positive(1), torch.eye(12, dtype=torch.complex128), positive(2)])
    right = complex_normal((3, *PIXELS)) * torch.tensor([1.0, 1e-6, 1e4]).view(3, 1, 1)
    found = conjugate_gradient(lambda x: times(matrices, x), right, 60, 1e-12)
    expected = torch.linalg.solve(matrices, right.flatten(1)).view_as(right)
    for one, other in zip(found, expected, strict=True):
        assert float(torch.linalg.norm(one - other) / torch.linalg.norm(other)) < 1e-9


def test_conjugate_gradient_stops_by_tolerance_and_keeps_zero() -> None:
    matrix, calls = positive(1), []

    def operator(image: Tensor) -> Tensor:
        calls.append(1)
        return times(matrix.expand(2, 12, 12), image)

    right = complex_normal((2, *PIXELS))
    right[1] = 0
    found = conjugate_gradient(operator, right, 50, 0.1)
    assert 0 < len(calls) < 12
    residual = right - operator(found)
    assert float(torch.linalg.norm(residual[0]) / torch.linalg.norm(right[0])) <= 0.1 * (1 + 1e-9)
    assert bool((found[1] == 0).all())


def shrink(image: Tensor, weight: float) -> Tensor:
    magnitude = image.abs().clamp(min=1e-300)
    return image * (1 - weight / magnitude).clamp(min=0)


def test_proximal_gradient_reaches_the_optimality_condition() -> None:
    matrix, right, weight = positive(3), complex_normal((1, *PIXELS)), 0.6

    def gradient(image: Tensor) -> Tensor:
        return times(matrix[None], image) - right

    found = accelerated_proximal_gradient(
        gradient, lambda x: shrink(x, weight), torch.zeros_like(right), 3000, 0
    )
    torch.testing.assert_close(shrink(found - gradient(found), weight), found, atol=1e-9, rtol=0)
    assert bool((found == 0).any())
    assert bool((found != 0).any())


def test_primal_dual_agrees_with_proximal_gradient_where_both_apply() -> None:
    matrix, right, weight = positive(3), complex_normal((1, *PIXELS)), 0.6

    def gradient(image: Tensor) -> Tensor:
        return times(matrix[None], image) - right

    expected = accelerated_proximal_gradient(
        gradient, lambda x: shrink(x, weight), torch.zeros_like(right), 3000, 0
    )
    found = primal_dual(
        gradient,
        lambda x: x[None],
        lambda y: y[0],
        1.0,
        torch.full((1, 1, 1), weight, dtype=torch.float64),
        right,
        5000,
        0,
    )
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=0)


def test_samples_stop_on_their_own() -> None:
    matrices = torch.stack([torch.eye(12, dtype=torch.complex128), positive(4)])
    right = complex_normal((2, *PIXELS))

    def solve(index: slice) -> Tensor:
        return accelerated_proximal_gradient(
            lambda x: times(matrices[index], x) - right[index],
            lambda x: shrink(x, 0.2),
            right[index],
            500,
            1e-6,
        )

    together = solve(slice(0, 2))
    for index in range(2):
        alone = solve(slice(index, index + 1))
        np.testing.assert_allclose(together[index : index + 1], alone, atol=1e-12)
