"""Receive coils: combination, noise, compression."""

import torch
from torch import Tensor

from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import inverse_fourier


def root_sum_of_squares(coil_images: Tensor) -> Tensor:
    """(..., coil, rows, columns) complex to (..., rows, columns) magnitude."""
    # Much faster than a norm of complex numbers, which is careful about overflow.
    return torch.view_as_real(coil_images.resolve_conj()).square().sum((-4, -1)).sqrt()
