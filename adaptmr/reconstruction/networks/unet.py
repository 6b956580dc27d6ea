"""U-Net in fastMRI's parameterisation, its normalised form, and the image-domain reconstructor."""

from itertools import pairwise
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.sampling.mask import Mask

_SLOPE = 0.2
_EPSILON = 1e-5
_PAD_TO = 16  # fastMRI pads to multiples of 16 whatever the number of pools


class UNetConfig(BaseModel):
    """Size of a `UNetReconstructor`; the defaults are fastMRI's baseline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["unet"] = "unet"
    channels: PositiveInt = 32
    """Channels of the first level, doubled at each pool. Convolutions like multiples of 16."""
    pools: PositiveInt = 4


def _normalise_and_activate(image: Tensor) -> Tensor:
    """Instance norm without parameters, then leaky ReLU; in place on the normalised copy.

    One group per channel is the same statistic as ``InstanceNorm2d`` and much faster on CPUs; a
    single pixel, which ``InstanceNorm2d`` refuses, becomes zero.
    """
    normalised = torch.group_norm(image.contiguous(), image.shape[1], eps=_EPSILON)
    return functional.leaky_relu_(normalised, _SLOPE)


class _ConvBlock(nn.Module):
    """Two 3 x 3 convolutions, each followed by instance norm and leaky ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, in_channels, rows, columns) to (batch, out_channels, rows, columns)."""
        return _normalise_and_activate(self.second(_normalise_and_activate(self.first(image))))


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015, arXiv:1505.04597) as parameterised by fastMRI's ``Unet``.

    Average pooling, transposed convolutions upwards, instance norm without parameters, leaky ReLU
    of slope 0.2; odd sizes are reflected at the right and bottom edge on the way up.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        channels: channels of the first level, doubled at each pool.
        pools: number of times the image is halved.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: int, pools: int) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(pools + 1)]
        self.down = nn.ModuleList(
            _ConvBlock(before, after)
            for before, after in zip([in_channels, *widths], widths[:-1], strict=False)
        )
        self.bottom = _ConvBlock(widths[-2], widths[-1])
        upwards = widths[::-1]
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 2, stride=2, bias=False)
            for before, after in pairwise(upwards)
        )
        self.up = nn.ModuleList(_ConvBlock(2 * after, after) for after in upwards[1:])
        self.last = nn.Conv2d(channels, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, in_channels, rows, columns) to (batch, out_channels, rows, columns)."""
        levels = []
        for block in self.down:
            image = block(image)
            levels.append(image)
            image = functional.avg_pool2d(image, 2)
        image = self.bottom(image)
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            level = levels.pop()
            image = _normalise_and_activate(enlarge(image))
            missing = (level.shape[-1] - image.shape[-1], level.shape[-2] - image.shape[-2])
            if missing != (0, 0):
                image = functional.pad(image, (0, missing[0], 0, missing[1]), "reflect")
            image = block(torch.cat([image, level], dim=1))
        output: Tensor = self.last(image)
        return output


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
        rows, columns = image.shape[-2:]
        top, left = -rows % _PAD_TO // 2, -columns % _PAD_TO // 2
        bottom, right = -rows % _PAD_TO - top, -columns % _PAD_TO - left
        padded = functional.pad((image - mean) / divisor, (left, right, top, bottom))
        output = self.unet(padded.to(self.unet.last.weight.dtype)).to(image.dtype)
        cropped: Tensor = output[..., top : top + rows, left : left + columns]
        return cropped * deviation + mean


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
        coils = inverse_fourier(mask.apply(kspace))
        zero_filled = torch.linalg.vector_norm(coils, dim=-3)
        image: Tensor = self.network(zero_filled)
        return image.clamp(min=0)
