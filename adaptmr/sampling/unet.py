"""`UNet`, in fastMRI's parameterisation: shared by samplers, policies and reconstructors."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

_SLOPE = 0.2
_EPSILON = 1e-5


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
