"""The conditioner: features of the low-frequency image for each level of the flow.

An RRDB network (Wang et al. 2018, ESRGAN, arXiv:1809.00219) at the resolution of the block.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from adaptmr.sampling.flow.config import FlowConfig
from adaptmr.sampling.flow.layers import UnsetConv2d

_SLOPE = 0.2
_RESIDUAL = 0.2


class Resampling(nn.Module):
    """A low-frequency image on a coarser grid, exact for what the block can hold.

    The square of a root sum of squares is a trigonometric polynomial of less than twice the
    block's frequencies. So it is known between the pixels, and no filter is needed: it is
    evaluated at the centres of equal cells.

    Args:
        matrix: (rows, columns) of the images.
        grid: number of cells along each axis.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, matrix: tuple[int, int], grid: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("rows", _evaluation(matrix[0], grid[0]), persistent=False)
        self.register_buffer("columns", _evaluation(matrix[1], grid[1]), persistent=False)

    def forward(self, low: Tensor) -> Tensor:
        """(batch, rows, columns) to (batch, grid rows, grid columns)."""
        squares = self.rows.to(low) @ low.square() @ self.columns.to(low).mT
        return squares.clamp_min(0).sqrt()


def _evaluation(length: int, count: int) -> Tensor:
    """(count, length): trigonometric interpolation of ``length`` samples at ``count`` centres."""
    centres = (torch.arange(count, dtype=torch.float64) + 0.5) * (length / count) - 0.5
    distance = centres[:, None] - torch.arange(length, dtype=torch.float64)
    highest = (length - 1) // 2
    frequencies = torch.arange(1, highest + 1, dtype=torch.float64)
    waves = torch.cos(2 * torch.pi / length * distance[..., None] * frequencies).sum(-1)
    return (1 + 2 * waves) / length


class _DenseBlock(nn.Module):
    """Five convolutions, each of which sees all before it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            UnsetConv2d(channels + index * growth, growth if index < 4 else channels, 3, padding=1)
            for index in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for convolution in self.convolutions[:-1]:
            seen = torch.cat([seen, functional.leaky_relu(convolution(seen), _SLOPE)], 1)
        added: Tensor = self.convolutions[-1](seen)
        return x + _RESIDUAL * added


class _ResidualBlock(nn.Module):
    """Three dense blocks and a way around them (RRDB)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(_DenseBlock(channels, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.dense(x)
        return x + _RESIDUAL * added


class Conditioner(nn.Module):
    """Low-frequency image to features.

    Features of levels coarser than the block are the trunk's, interpolated; finer ones are climbed
    to, each from the next coarser one by interpolation, a convolution and an activation. The
    outputs of ``stacked_blocks`` are interpolated to every level.

    Args:
        config: sizes.
        matrix: (rows, columns) of the images.
        block: (rows, columns) acquired.
        levels: (rows, columns) of the image at each level, finest first.
    """

    def __init__(
        self,
        config: FlowConfig,
        matrix: tuple[int, int],
        block: tuple[int, int],
        levels: Sequence[tuple[int, int]],
    ) -> None:
        super().__init__()
        channels = config.features
        self.config = config
        self.block = block
        self.levels = tuple(levels)
        self.channels = channels * (1 + len(config.stacked_blocks))
        self.grid = (block[0] * config.oversampling, block[1] * config.oversampling)
        self.resample = Resampling(matrix, self.grid)
        self.first = UnsetConv2d(config.oversampling**2, channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            _ResidualBlock(channels, config.growth) for _ in range(config.blocks)
        )
        self.trunk = UnsetConv2d(channels, channels, 3, padding=1)
        self.climb = nn.ModuleDict(
            {
                str(index): UnsetConv2d(channels, channels, 3, padding=1)
                for index, size in enumerate(levels)
                if not self._coarse(size)
            }
        )

    def _coarse(self, size: tuple[int, int]) -> bool:
        return size[0] <= self.block[0] and size[1] <= self.block[1]

    def forward(self, low: Tensor, disturbance: Tensor) -> tuple[list[Tensor], Tensor]:
        """Extract the features.

        Args:
            low: (batch, rows, columns) low-frequency image.
            disturbance: (batch, rows, columns) noise of the full image; what lies in the block is
                added.

        Returns:
            For each level (batch, channels, rows, columns), finest first; and (batch, 2 *
            features) of the whole image: mean and deviation of the trunk's features.
        """
        below = functional.interpolate(
            disturbance[:, None], self.grid, mode="bicubic", antialias=True, align_corners=False
        )
        image = self.resample(low)[:, None] + below
        image = functional.pixel_unshuffle(image, self.config.oversampling)
        reduced = self.config.conditioner_precision == "bfloat16"
        with torch.autocast(low.device.type, torch.bfloat16, enabled=reduced):
            levels, trunk = self._features(image)
        whole = torch.cat([trunk.mean((2, 3)), trunk.std((2, 3), correction=0)], 1)
        return [features.to(low.dtype) for features in levels], whole.to(low.dtype)

    def _features(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        entered = self.first(image)
        outputs = [entered]
        for block in self.blocks:
            outputs.append(block(outputs[-1]))
        trunk = entered + self.trunk(outputs[-1])
        stacked = [outputs[index + 1] for index in self.config.stacked_blocks]
        levels: list[Tensor] = []
        current = trunk
        for index in reversed(range(len(self.levels))):
            size = self.levels[index]
            if str(index) in self.climb:
                current = self.climb[str(index)](_interpolate(current, size))
                current = functional.leaky_relu(current, _SLOPE)
                features = current
            else:
                features = _interpolate(trunk, size)
            levels.append(torch.cat([features, *(_interpolate(s, size) for s in stacked)], 1))
        return levels[::-1], trunk


def _interpolate(features: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(features.shape[-2:]) == size:
        return features
    return functional.interpolate(features, size, mode="bilinear")
