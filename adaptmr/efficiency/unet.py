"""An inference-only U-Net: the values of `adaptmr.sampling.unet.UNet`, channels last, fused.

Norm and activation are one kernel that works in place and gives the pooled copy too, and nothing
is concatenated: on a CPU the convolution after a skip is two that add up, on a GPU the kernel
writes into its channels of one wide image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from adaptmr.efficiency.convolutions import CHANNELS_LAST, Convolution
from adaptmr.kernels.dispatch import reference_forced
from adaptmr.kernels.instance_norm_act import instance_norm_act_into, norm_rows
from adaptmr.reconstruction.networks.unet import NormalisedUNet
from adaptmr.sampling.unet import UNet

_EPSILON = 1e-5
_SLOPE = 0.2
_PAD_TO = 16


class _Block(Protocol):
    """Two convolutions of a `UNet`."""

    first: nn.Conv2d
    second: nn.Conv2d


@dataclass(frozen=True, eq=False)
class Enlarge:
    """Transposed convolution of 2 x 2, stride 2, then norm and activation.

    Attributes:
        weight: (before, after, 2, 2).
        rows: (2, before, 2 * after), a matrix for each of the two rows that a row becomes.
    """

    weight: Tensor
    rows: Tensor

    @classmethod
    def of(cls, module: nn.ConvTranspose2d, dtype: torch.dtype) -> "Enlarge":
        """From a layer."""
        weight = module.weight.detach().to(dtype)
        rows = weight.permute(2, 0, 3, 1).flatten(2).contiguous()
        return cls(weight.contiguous(memory_format=CHANNELS_LAST), rows)

    def __call__(self, image: Tensor, out: Tensor) -> None:
        """(batch, before, rows, columns) channels-last into (batch, after, 2 rows, 2 columns)."""
        if image.device.type != "cpu" or reference_forced():
            enlarged = functional.conv_transpose2d(image, self.weight, stride=2)
            instance_norm_act_into(enlarged, out, _EPSILON, _SLOPE)
            return
        after = self.weight.shape[1]
        for one, into in zip(image.permute(0, 2, 3, 1), out.permute(0, 2, 3, 1), strict=True):
            rows, columns, before = one.shape
            both = image.new_empty(2, rows, columns * 2 * after)
            for matrix, half in zip(self.rows, both, strict=True):
                torch.mm(one.reshape(-1, before), matrix, out=half.view(-1, 2 * after))
            norm_rows(both, _EPSILON, _SLOPE, into.unflatten(0, (rows, 2)))


@dataclass(frozen=True, eq=False)
class Level:
    """The four convolutions of one resolution, down and up, and what enlarges to it."""

    first: Convolution
    second: Convolution
    enlarge: Enlarge
    join: tuple[Convolution, ...]
    """Of what was enlarged and of the skip; or of both together."""
    up_second: Convolution

    @property
    def adds(self) -> bool:
        """Whether two convolutions add up."""
        return len(self.join) == 2


class FastUNet:
    """A copy of a U-Net for inference.

    Args:
        unet: the network; later changes of its weights are not seen.
        dtype: of weights and images; statistics are taken in single precision at least.
    """

    def __init__(self, unet: UNet, dtype: torch.dtype) -> None:
        self._levels = []
        downs, ups = (cast(Sequence[_Block], list(one)) for one in (unet.down, unet.up))
        enlarges = cast(Sequence[nn.ConvTranspose2d], list(unet.enlarge))
        for down, enlarge, up in zip(downs, enlarges[::-1], ups[::-1], strict=True):
            half = up.first.weight.shape[1] // 2
            adds = up.first.weight.device.type == "cpu"
            parts = (slice(None, half), slice(half, None)) if adds else (slice(None),)
            self._levels.append(
                Level(
                    Convolution.of(down.first, dtype),
                    Convolution.of(down.second, dtype),
                    Enlarge.of(enlarge, dtype),
                    tuple(Convolution.of(up.first, dtype, part) for part in parts),
                    Convolution.of(up.second, dtype),
                )
            )
        bottom = (unet.bottom.first, unet.bottom.second)
        self._bottom = [Convolution.of(one, dtype) for one in bottom]
        self._last = Convolution.of(unet.last, dtype)
        self.dtype = dtype

    def __call__(self, image: Tensor) -> Tensor:
        """(batch, channels, rows, columns), channels-last, to the same size."""
        skips = []
        for level in self._levels:
            skip, image = self._down(level, image)
            skips.append(skip)
        for convolution in self._bottom:
            image = convolution(image)
            instance_norm_act_into(image, image, _EPSILON, _SLOPE)
        for level, skip in zip(reversed(self._levels), reversed(skips), strict=True):
            image = self._up(level, image, skip)
        return self._last(image)

    def _down(self, level: Level, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the way up joins, and the pooled image."""
        image = level.first(image)
        instance_norm_act_into(image, image, _EPSILON, _SLOPE)
        image = level.second(image)
        skip = out = image
        if not level.adds:
            channels = image.shape[1]
            skip = _empty(image, 2 * channels, image.shape[-2:])
            out = skip[:, channels:]
        pooled = instance_norm_act_into(image, out, _EPSILON, _SLOPE, pool=True)
        assert pooled is not None  # noqa: S101 - asked for
        return skip, pooled

    def _up(self, level: Level, image: Tensor, skip: Tensor) -> Tensor:
        channels = level.up_second.weight.shape[1]
        rows, columns = image.shape[-2:]
        exact = skip.shape[-2:] == (2 * rows, 2 * columns)
        into = _empty(image, channels, (2 * rows, 2 * columns))
        if exact and not level.adds:
            into = skip[:, :channels]
        level.enlarge(image, into)
        if not exact:
            missing = (skip.shape[-1] - 2 * columns, skip.shape[-2] - 2 * rows)
            into = functional.pad(into, (0, missing[0], 0, missing[1]), "reflect")
            into = into.contiguous(memory_format=CHANNELS_LAST)
            if not level.adds:
                skip[:, :channels] = into
        if level.adds:
            of_enlarged, of_skip = level.join
            image = of_skip.add_to(of_enlarged(into), skip)
        else:
            image = level.join[0](skip)
        instance_norm_act_into(image, image, _EPSILON, _SLOPE)
        image = level.up_second(image)
        instance_norm_act_into(image, image, _EPSILON, _SLOPE)
        return image


class FastNormalisedUNet:
    """A copy of a `NormalisedUNet` for inference.

    Args:
        network: the network.
        dtype: of the U-Net inside; statistics stay in the precision of the images.
    """

    def __init__(self, network: NormalisedUNet, dtype: torch.dtype) -> None:
        self._unet = FastUNet(network.unet, dtype)

    def __call__(self, image: Tensor) -> Tensor:
        """(batch, rows, columns), real or complex as the network is made; same shape out."""
        if image.device.type == "cpu" and len(image) > 1:
            return torch.cat([self(one[None]) for one in image])
        if image.is_complex():
            parts = torch.view_as_real(image.resolve_conj()).contiguous()
            return torch.view_as_complex(self._parts(parts))
        return self._parts(image[..., None].contiguous())[..., 0]

    def _parts(self, image: Tensor) -> Tensor:
        """(batch, rows, columns, parts) real, same shape out."""
        rows, columns, parts = image.shape[1:]
        # The pixels of a row beside each other: sums of long rows are fast.
        lines = image.flatten(2)
        pixels = rows * columns
        mean = _of_parts(lines.sum(1), parts) / pixels
        lines = lines - mean.repeat(1, columns)[:, None]
        squares = _of_parts(lines.square().sum(1), parts)
        deviation = (squares / (pixels - 1)).sqrt()
        divisor = torch.where(deviation > 0, deviation, 1)
        top, left = -rows % _PAD_TO // 2, -columns % _PAD_TO // 2
        padded = image.new_zeros(
            (len(image), rows + -rows % _PAD_TO, columns + -columns % _PAD_TO, parts),
            dtype=self._unet.dtype,
        )
        inside = padded[:, top : top + rows, left : left + columns]
        inside.copy_((lines / divisor.repeat(1, columns)[:, None]).view_as(image))
        output = self._unet(padded.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        cropped = output[:, top : top + rows, left : left + columns].to(image.dtype).flatten(2)
        scaled = torch.addcmul(
            mean.repeat(1, columns)[:, None], cropped, deviation.repeat(1, columns)[:, None]
        )
        return scaled.view_as(image)


def _of_parts(lines: Tensor, parts: int) -> Tensor:
    """(batch, columns * parts) summed over the columns."""
    return lines.view(len(lines), -1, parts).sum(1)


def _empty(like: Tensor, channels: int, size: tuple[int, ...] | torch.Size) -> Tensor:
    return like.new_empty((len(like), channels, *size)).to(memory_format=CHANNELS_LAST)
