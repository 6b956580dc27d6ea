"""The invertible part: a canvas of pixels to latents of the same size, level by level."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from adaptmr.sampling.flow.config import FlowConfig
from adaptmr.sampling.flow.coupling import SplineCoupling
from adaptmr.sampling.flow.layers import (
    ActNorm,
    GaussianSplit,
    InvertibleConv,
    squeeze,
    unsqueeze,
)


class FlowStep(nn.Module):
    """ActNorm, 1 x 1 convolution and, but for transitions, the couplings."""

    def __init__(self, channels: int, coupling: SplineCoupling | None) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.mix = InvertibleConv(channels)
        self.coupling = coupling

    def forward(self, x: Tensor, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The transformed channels and the log-determinant, (batch,) or one for all."""
        x, scaled = self.norm(x)
        x, mixed = self.mix(x)
        if self.coupling is None:
            return x, scaled + mixed
        x, coupled = self.coupling(x, features, noise)
        return x, scaled + mixed + coupled

    def inverse(self, y: Tensor, features: Tensor, noise: Tensor) -> Tensor:
        """Undo `forward`."""
        if self.coupling is not None:
            y = self.coupling.inverse(y, features, noise)
        return self.norm.inverse(self.mix.inverse(y))


class FlowLevel(nn.Module):
    """Squeeze, steps at one resolution, and the split at their end where there is one."""

    def __init__(self, config: FlowConfig, index: int, channels: int, features: int) -> None:
        super().__init__()
        first_noisy = config.steps - config.noise_steps[index]
        couplings = [
            SplineCoupling(
                channels,
                features,
                config.width,
                config.box,
                noise_conditional=step >= first_noisy,
            )
            for step in range(config.steps)
        ]
        self.steps = nn.ModuleList(
            FlowStep(channels, coupling) for coupling in [None] * config.transitions + couplings
        )
        self.split = GaussianSplit(channels) if index < config.splits else None
        self.channels_on = channels if self.split is None else channels // 2

    def forward(self, x: Tensor, features: Tensor, noise: Tensor) -> tuple[list[Tensor], Tensor]:
        """The channels that go on, those that leave if any, and the log-determinant (batch,)."""
        x = squeeze(x)
        total = x.new_zeros(len(x))
        for step in self.steps:
            x, volume = step(x, features, noise)
            total = total + volume
        if self.split is None:
            return [x], total
        kept, latent, volume = self.split(x)
        return [kept, latent], total + volume

    def inverse(self, parts: list[Tensor], features: Tensor, noise: Tensor) -> Tensor:
        """Undo `forward`."""
        x = parts[0] if self.split is None else self.split.inverse(parts[0], parts[1])
        for step in reversed(self._steps()):
            x = step.inverse(x, features, noise)
        return unsqueeze(x)

    def rotate(self, generator: torch.Generator) -> None:
        """Let the 1 x 1 convolutions be random rotations that all together are the identity."""
        mixes = [step.mix for step in self._steps()]
        product = torch.eye(len(mixes[0].weight), dtype=torch.float64)
        with torch.no_grad():
            for mix in mixes[:-1]:
                normal = torch.randn(product.shape, generator=generator, dtype=torch.float64)
                rotation = torch.linalg.qr(normal).Q
                mix.weight.copy_(rotation)
                product = rotation @ product
            mixes[-1].weight.copy_(product.T)

    def _steps(self) -> Sequence[FlowStep]:
        return cast("Sequence[FlowStep]", self.steps)


class MultiscaleFlow(nn.Module):
    """All levels; with its first weights the identity.

    Args:
        config: architecture.
        features: channels of the features of each level.
        seed: seed of the first rotations.
    """

    def __init__(self, config: FlowConfig, features: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.levels = nn.ModuleList()
        channels = 1
        for index in range(config.levels):
            level = FlowLevel(config, index, 4 * channels, features)
            level.rotate(generator)
            self.levels.append(level)
            channels = level.channels_on

    def forward(
        self, canvas: Tensor, features: Sequence[Tensor], noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map pixels to latents.

        Args:
            canvas: (batch, rows, columns), both multiples of ``2**levels``.
            features: of each level, (batch, features, rows, columns), finest first.
            noise: (batch,) standard deviation of the noise in the data.

        Returns:
            Latents (batch, rows, columns), each at its place on the canvas, and the
            log-determinant (batch,).
        """
        x, total = canvas[:, None], canvas.new_zeros(len(canvas))
        left: list[list[Tensor]] = []
        for level, condition in zip(self.levels, features, strict=True):
            (x, *leaving), volume = level(x, condition, _as_map(noise, condition))
            left.append(leaving)
            total = total + volume
        for leaving in reversed(left):
            x = unsqueeze(torch.cat([x, *leaving], 1))
        return x[:, 0], total

    def inverse(self, latents: Tensor, features: Sequence[Tensor], noise: Tensor) -> Tensor:
        """Undo `forward`: latents (samples, rows, columns) to canvases; some for each image."""
        levels = cast("Sequence[FlowLevel]", self.levels)
        x = latents[:, None]
        left: list[list[Tensor]] = []
        for level in levels:
            x, *leaving = squeeze(x).chunk(1 if level.split is None else 2, dim=1)
            left.append(leaving)
        for level, condition, leaving in reversed(list(zip(levels, features, left, strict=True))):
            x = level.inverse([x, *leaving], condition, _as_map(noise, condition))
        return x[:, 0]


def _as_map(noise: Tensor, like: Tensor) -> Tensor:
    return noise[:, None, None, None].expand(-1, 1, *like.shape[-2:])
