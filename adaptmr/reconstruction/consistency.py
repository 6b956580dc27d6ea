"""How far an image contradicts the k-space that it was made from."""

import torch
from torch import Tensor

from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.reconstruction.coils import sense_combine
from adaptmr.reconstruction.encoding import Encoding
from adaptmr.reconstruction.sensitivity import LowResolutionMaps
from adaptmr.sampling.mask import Mask


def data_consistency_residual(image: Tensor, kspace: Tensor, mask: Mask) -> Tensor:
    """``||M F S x - y|| / ||y||`` of each slice, for images that come without a phase.

    The sensitivities ``S`` are those of the low-frequency block, and the image gets the phase of
    the zero-filled one, so that even a perfect image has a residual. It tells two banks apart on
    equal data; by itself it says little.

    Args:
        image: (batch, readout, phase) magnitude, not cropped.
        kspace: (batch, coil, readout, phase); positions outside the mask are not looked at.
        mask: with a low-frequency block.

    Returns:
        (batch,); not a number for a slice without signal.

    Raises:
        BadInputError: the mask does not fit, or has no low-frequency block.
    """
    measured = mask.apply(kspace)
    maps = LowResolutionMaps()(measured, mask)
    zero_filled = sense_combine(inverse_fourier(measured), maps)
    phased = torch.polar(image.to(zero_filled.real.dtype), zero_filled.angle())
    off = Encoding(maps, mask).forward(phased) - measured
    norms = [torch.linalg.vector_norm(each, dim=(-3, -2, -1)) for each in (off, measured)]
    residual: Tensor = norms[0] / norms[1]
    return residual
