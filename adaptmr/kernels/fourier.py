"""Centred orthonormal Fourier transforms of any size.

The centre of k-space and of the image is index ``n // 2``, also for odd ``n``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def fourier(image: Tensor, dims: Sequence[int] = (-2, -1)) -> Tensor:
    """Centred unitary Fourier transform, image to k-space.

    Args:
        image: real or complex tensor of any shape.
        dims: axes to transform.

    Returns:
        Complex tensor of the same shape.
    """
    dims = tuple(dims)
    shifted = torch.fft.ifftshift(image, dim=dims)
    transformed: Tensor = torch.fft.fftn(shifted, dim=dims, norm="ortho")
    centred: Tensor = torch.fft.fftshift(transformed, dim=dims)
    return centred


def inverse_fourier(kspace: Tensor, dims: Sequence[int] = (-2, -1)) -> Tensor:
    """Centred unitary inverse Fourier transform, k-space to image: the adjoint of `fourier`.

    Args:
        kspace: real or complex tensor of any shape.
        dims: axes to transform.

    Returns:
        Complex tensor of the same shape.
    """
    dims = tuple(dims)
    shifted = torch.fft.ifftshift(kspace, dim=dims)
    transformed: Tensor = torch.fft.ifftn(shifted, dim=dims, norm="ortho")
    centred: Tensor = torch.fft.fftshift(transformed, dim=dims)
    return centred
