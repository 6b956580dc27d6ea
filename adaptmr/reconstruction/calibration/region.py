"""Where in an image coverage is promised and judged: the object, found without the target."""

import math
from collections.abc import Callable

import torch
from scipy.ndimage import binary_fill_holes
from torch import Tensor

RegionRule = Callable[[Tensor], Tensor]
"""Image (batch, rows, columns), as reconstructed -> bool of the same shape: pixels that count."""

_BRIGHT = 0.99


def object_region(image: Tensor, share: float = 0.1) -> Tensor:
    """The object: pixels above a share of the slice's brightness, and what they enclose.

    Air has small errors that any interval covers, and may be two thirds of an image: counted in, it
    would let intervals miss three times as much of the object as is promised. So it does not count.
    Dark structures within (fluid, bone, vessels) do, for errors hide there. Brightness is the 99th
    percentile, which single bright pixels do not move. The rule is about the reconstruction, which
    is known where a scan has no target: calibration and use then have the same region.

    Args:
        image: (batch, rows, columns) magnitude, as reconstructed.
        share: of the brightness, between 0 and 1.

    Returns:
        bool, same shape; nothing in slices without signal.
    """
    flat = image.flatten(1)
    bright = flat.kthvalue(math.ceil(_BRIGHT * flat.shape[1]), dim=1).values
    above = image > share * bright.clamp(min=0)[:, None, None]
    filled = [torch.from_numpy(binary_fill_holes(one)) for one in above.cpu().numpy()]
    return torch.stack(filled).to(image.device)
