"""Sums of squared magnitudes of complex numbers."""

import torch
from torch import Tensor


def energy(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Sum of squared magnitudes over some axes.

    Args:
        values: complex tensor of any shape.
        dims: axes to sum over, counted from the first.

    Returns:
        Real tensor without those axes.
    """
    squares = torch.view_as_real(values.resolve_conj()).square()
    # Real and imaginary parts last: summed together with the others they keep the sums from being
    # vectorised, which takes ten times as long, and a norm of complex numbers even more.
    return squares.sum(dims).sum(-1)
