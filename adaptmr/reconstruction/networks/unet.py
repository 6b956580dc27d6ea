"""The normalised form of the U-Net, and the image-domain reconstructor."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.unet import UNet

_PAD_TO = 16  # fastMRI pads to multiples of 16 whatever the number of pools


class UNetConfig(BaseModel):
    """Size of a `UNetReconstructor`; the defaults are fastMRI's baseline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["unet"] = "unet"
    channels: PositiveInt = 32
    """Channels of the first level, doubled at each pool. Convolutions like multiples of 16."""
    pools: PositiveInt = 4


def padded_unet(unet: UNet, image: Tensor) -> Tensor:
    """Apply a U-Net to an image that is zero-padded to multiples of 16, and cut the padding off.

    Args:
        unet: runs in the precision of its weights.
        image: (batch, in_channels, rows, columns) real.

    Returns:
        (batch, out_channels, rows, columns) in the precision of the image.
    """
    rows, columns = image.shape[-2:]
    top, left = -rows % _PAD_TO // 2, -columns % _PAD_TO // 2
    bottom, right = -rows % _PAD_TO - top, -columns % _PAD_TO - left
    padded = functional.pad(image, (left, right, top, bottom))
    output = unet(padded.to(unet.last.weight.dtype)).to(image.dtype)
    cropped: Tensor = output[..., top : top + rows, left : left + columns]
    return cropped


class NormalisedUNet(nn.Module):
    """`UNet` inside "subtract the mean, divide by the standard deviation" and its inverse.

    Scale-equivariant: ``f(a x) = a f(x)`` for ``a > 0``. Images are zero-padded to multiples of 16
    after normalisation. Statistics are taken in the precision of the input, the U-Net runs in the
    precision of its weights (fastMRI's ``NormUnet``; an image without variation, where that gives
    NaN, stays finite, and a zero image stays zero).

    Args:
        parts: 1 for real images, 2 for complex ones, whose parts are normalised one by one.
        channels: channels of the first level.
        pools: number of times the image is halved.
    """

    def __init__(self, parts: Literal[1, 2], channels: int, pools: int) -> None:
        super().__init__()
        self.unet = UNet(parts, parts, channels, pools)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, rows, columns), real or complex as the network is made; same shape out."""
        if not image.is_complex():
            return self._parts(image[:, None])[:, 0]
        parts = self._parts(torch.view_as_real(image.resolve_conj()).movedim(-1, 1))
        return torch.complex(parts[:, 0], parts[:, 1])

    def _parts(self, image: Tensor) -> Tensor:
        """(batch, parts, rows, columns) real, same shape out."""
        mean = image.mean((-2, -1), keepdim=True)
        deviation = image.std((-2, -1), keepdim=True)
        divisor = torch.where(deviation > 0, deviation, 1)
        return padded_unet(self.unet, (image - mean) / divisor) * deviation + mean


class UNetReconstructor(nn.Module):
    """Image-domain U-Net: the zero-filled root-sum-of-squares image, artefacts removed.

    Args:
        config: size of the network.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.network = NormalisedUNet(1, config.channels, config.pools)

    def forward(self, kspace: Tensor, mask: Mask) -> Tensor:
        """Reconstruct, see `adaptmr.reconstruction.reconstructor.Reconstructor`.

        Args:
            kspace: (batch, coil, readout, phase) complex.
            mask: positions acquired.

        Returns:
            (batch, readout, phase) magnitude images, not negative.

        Raises:
            BadInputError: the mask is of another size.
        """
        return self.from_measured(mask.apply(kspace), mask)

    def from_measured(self, measured: Tensor, _mask: Mask) -> Tensor:
        """Reconstruct k-space that is masked already, (batch, coil, readout, phase) complex.

        What is measured is taken as it is, so that gradients with respect to positions outside the
        mask are not cut off: learned masks need them.

        Returns:
            (batch, readout, phase) magnitude images, not negative.
        """
        coils = inverse_fourier(measured)
        zero_filled = torch.linalg.vector_norm(coils, dim=-3)
        image: Tensor = self.network(zero_filled)
        return image.clamp(min=0)
