"""`SuperResolutionFlow`: a conditional normalizing flow from low-frequency data to full images.

Frequency separation and noise conditioning follow Song et al. 2022 (FS-NCSR, arXiv:2204.09679) and
SoftFlow (Kim et al. 2020, arXiv:2006.04604), the flow SRFlow's published description (Lugmayr et
al. 2020, arXiv:2006.14200), the couplings Hong, Park and Chun 2023 (arXiv:2212.04319).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from adaptmr.data.weights import initialise
from adaptmr.errors import BadInputError
from adaptmr.sampling.flow.conditioner import Conditioner
from adaptmr.sampling.flow.config import FlowConfig
from adaptmr.sampling.flow.coupling import SplineCoupling
from adaptmr.sampling.flow.layers import (
    ActNorm,
    GaussianSplit,
    InvertibleConv,
    fitting,
    squeeze,
    unsqueeze,
)
from adaptmr.sampling.flow.whitening import Whitening, filtered
from adaptmr.sampling.low_frequency import LowFrequency
from adaptmr.sampling.pairs import Pairs

_LOG_2_PI = math.log(2 * math.pi)
_IMAGES_AT_ONCE = 32
_IMAGES_TO_FIT = 64


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
    """Steps at one resolution, and the split at their end where there is one."""

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


class SuperResolutionFlow(nn.Module):
    """Posterior sampler that models full image minus low-frequency image.

    The residual is whitened by the spectrum that the low-frequency image lets expect, and becomes
    the top left of a canvas whose sides are multiples of ``2**levels``. What the canvas has more
    is filled with standard normal noise e, and the flow f maps the whole canvas to latents z of
    its size. Since e is independent of the image x, ``log p(x) >= E_e[log p(x, e) - log p(e)]``
    (Huang et al. 2020, augmented flows, arXiv:2002.07101): what padding adds to the likelihood is
    subtracted, the bits per dimension count the pixels of the image alone and are an upper bound,
    exact where nothing is padded. A sample is the top left of ``f^-1(z)``.

    With its first weights f is the identity.

    Args:
        config: architecture.
        matrix: (rows, columns) of the images.
        block: (rows, columns) acquired about the centre.
        seed: seed of the first weights; the global random state is neither read nor written.
    """

    def __init__(
        self,
        config: FlowConfig,
        matrix: tuple[int, int],
        block: tuple[int, int],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.matrix = matrix
        self.block = block
        step = 2**config.levels
        self.canvas = (-(-matrix[0] // step) * step, -(-matrix[1] // step) * step)
        factors = [2 ** (index + 1) for index in range(config.levels)]
        sizes = [(-(-matrix[0] // factor), -(-matrix[1] // factor)) for factor in factors]
        self.conditioner = Conditioner(config, block, sizes)
        self.whitening = (
            Whitening(matrix, 2 * config.features, config.spectral_harmonics)
            if config.spectral_harmonics is not None
            else None
        )
        self.levels = nn.ModuleList()
        channels = 1
        for index in range(config.levels):
            level = FlowLevel(config, index, 4 * channels, self.conditioner.channels)
            self.levels.append(level)
            channels = 2 * channels if level.split is not None else 4 * channels
        initialise(self, seed)
        for level in self.levels:
            _rotate([step.mix for step in level.steps], seed)

    def encode(
        self, residual: Tensor, margin: Tensor, low: Tensor, noise: Tensor, disturbance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map residuals to latents.

        Args:
            residual: (batch, rows, columns) full image minus low-frequency image.
            margin: (batch, canvas rows, canvas columns); what lies outside ``residual`` is used.
            low: (batch, rows, columns) low-frequency images.
            noise: (batch,) standard deviation of the noise in ``residual``.
            disturbance: (batch, rows, columns) that noise, from which the conditioner gets what
                lies in the block.

        Returns:
            Latents (batch, canvas rows, canvas columns), and the log-determinant (batch,).
        """
        levels, whole = self.conditioner(low, disturbance)
        deviation = self._deviation(whole, noise)
        white = filtered(residual, 1 / deviation)
        below, right = self.canvas[0] - self.matrix[0], self.canvas[1] - self.matrix[1]
        inside = functional.pad(torch.ones_like(white), (0, right, 0, below)) > 0
        canvas = torch.where(inside, functional.pad(white, (0, right, 0, below)), margin)
        latents, volume = self._encode(canvas[:, None], self._padded(levels), noise, 0)
        return latents[:, 0], volume - deviation.log().sum((1, 2))

    def decode(self, latents: Tensor, low: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `encode` without disturbance.

        Args:
            latents: (batch or a multiple, canvas rows, canvas columns); a multiple repeats the
                images: latents i, i + batch, ... are of image i.
            low: (batch, rows, columns) low-frequency images.
            noise: (batch,) standard deviation of the noise in the residuals.

        Returns:
            Residuals (latents, rows, columns) and the canvas (latents, canvas rows, canvas
            columns) they were cut from.
        """
        levels, whole = self.conditioner(low, torch.zeros_like(low))
        times = len(latents) // len(low)
        repeated = [features.repeat(times, 1, 1, 1) for features in self._padded(levels)]
        canvas = self._decode(latents[:, None], repeated, noise.repeat(times), 0)[:, 0]
        white = canvas[:, : self.matrix[0], : self.matrix[1]]
        deviation = self._deviation(whole, noise).repeat(times, 1, 1)
        return filtered(white, deviation), canvas

    def bits_per_dimension(self, low: Tensor, full: Tensor, generator: torch.Generator) -> Tensor:
        """Negative log-likelihood of images, noised for training, over ln 2 and their pixels.

        Args:
            low: (batch, rows, columns) low-frequency images.
            full: (batch, rows, columns) full images.
            generator: of the noise levels, the noise and the margin.

        Returns:
            (batch,) bits per dimension.
        """
        shape = (len(low), *self.canvas)
        noise = self.config.noise * _draw(torch.rand, (len(low),), generator, low)
        margin = _draw(torch.randn, shape, generator, low)
        disturbance = _draw(torch.randn, tuple(low.shape), generator, low)
        disturbance = noise[:, None, None] * disturbance
        residual = full - low + disturbance
        latents, volume = self.encode(residual, margin, low, noise, disturbance)
        inside = torch.zeros(self.canvas, dtype=torch.bool, device=low.device)
        inside[: self.matrix[0], : self.matrix[1]] = True
        # log N(z) - log N(e): the normalising constants of as many dimensions as e has cancel.
        squares = latents.square().sum((1, 2)) - torch.where(inside, 0.0, margin.square()).sum(
            (1, 2)
        )
        dimensions = self.matrix[0] * self.matrix[1]
        likelihood = volume - 0.5 * (squares + dimensions * _LOG_2_PI)
        return -likelihood / (math.log(2) * dimensions)

    def loss(self, low: Tensor, full: Tensor, generator: torch.Generator) -> Tensor:
        """Mean bits per dimension of a batch; arguments as `bits_per_dimension`."""
        return self.bits_per_dimension(low, full, generator).mean()

    def prepare(self, pairs: Pairs, generator: torch.Generator) -> None:
        """Fit to training data what is not learned by gradients, once, before a training.

        That is the mean spectrum of the residuals, and scale and shift of each `ActNorm`.
        """
        if self.whitening is not None:
            self.whitening.fit(pairs.full - pairs.low)
        chosen = torch.randperm(len(pairs), generator=generator, device=generator.device)
        some = pairs[chosen[:_IMAGES_TO_FIT].to(pairs.low.device)]
        with torch.no_grad(), fitting(self):
            self.bits_per_dimension(some.low, some.full, generator)

    @torch.no_grad()
    def sample(self, low_frequency: LowFrequency, n: int, generator: torch.Generator) -> Tensor:
        """Draw images; see `PosteriorSampler.sample`.

        Latents have the standard deviation ``config.temperature``: with 0, all samples of a slice
        are the same.
        """
        self._check(low_frequency)
        weight = next(self.parameters())
        low = low_frequency.image.to(weight)
        batch = len(low)
        latents = _draw(torch.randn, (n, batch, *self.canvas), generator, low)
        noise = low.new_zeros(batch)
        residuals = [
            self.decode(self.config.temperature * part.flatten(0, 1), low, noise)[0]
            for part in latents.split(max(1, _IMAGES_AT_ONCE // batch))
        ]
        images = torch.cat(residuals).unflatten(0, (n, batch)) + low
        return images.clamp_min(0).to(low_frequency.image)

    def _deviation(self, whole: Tensor, noise: Tensor) -> Tensor:
        if self.whitening is None:
            return whole.new_ones(len(whole), *self.matrix)
        deviation: Tensor = self.whitening.deviation(whole, noise)
        return deviation

    def _padded(self, levels: list[Tensor]) -> list[Tensor]:
        """Features of the images continued over the canvas."""
        return [
            functional.pad(
                features,
                (
                    0,
                    self.canvas[1] // 2 ** (index + 1) - features.shape[-1],
                    0,
                    self.canvas[0] // 2 ** (index + 1) - features.shape[-2],
                ),
                mode="replicate",
            )
            for index, features in enumerate(levels)
        ]

    def _encode(
        self, x: Tensor, features: list[Tensor], noise: Tensor, index: int
    ) -> tuple[Tensor, Tensor]:
        if index == len(self.levels):
            return x, x.new_zeros(len(x))
        x = squeeze(x)
        level = self.levels[index]
        total = x.new_zeros(len(x))
        for step in level.steps:
            x, volume = step(x, features[index], _as_map(noise, x))
            total = total + volume
        if level.split is None:
            z, volume = self._encode(x, features, noise, index + 1)
            return unsqueeze(z), total + volume
        kept, latent, volume = level.split(x)
        z, deeper = self._encode(kept, features, noise, index + 1)
        return unsqueeze(torch.cat([z, latent], 1)), total + volume + deeper

    def _decode(self, z: Tensor, features: list[Tensor], noise: Tensor, index: int) -> Tensor:
        if index == len(self.levels):
            return z
        z = squeeze(z)
        level = self.levels[index]
        if level.split is None:
            x = self._decode(z, features, noise, index + 1)
        else:
            kept, latent = z.chunk(2, dim=1)
            x = level.split.inverse(self._decode(kept, features, noise, index + 1), latent)
        for step in reversed(level.steps):
            x = step.inverse(x, features[index], _as_map(noise, x))
        return unsqueeze(x)

    def _check(self, low_frequency: LowFrequency) -> None:
        made_for = {"matrix": self.matrix, "block": self.block}
        for field, expected in made_for.items():
            got = getattr(low_frequency, field)
            if tuple(got) != tuple(expected):
                raise BadInputError(
                    f"the sampler was trained for another {field}",
                    field=field,
                    got=tuple(got),
                    expected=tuple(expected),
                    hint="Train a sampler for this size, or crop the scan to the sampler's",
                )


def _draw(
    law: Callable[..., Tensor], shape: tuple[int, ...], generator: torch.Generator, like: Tensor
) -> Tensor:
    return law(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like)


def _as_map(noise: Tensor, x: Tensor) -> Tensor:
    return noise[:, None, None, None].expand(-1, 1, *x.shape[-2:])


def _rotate(mixes: list[InvertibleConv], seed: int) -> None:
    """Random rotations that all together are the identity."""
    generator = torch.Generator().manual_seed(seed)
    product = torch.eye(len(mixes[0].weight), dtype=torch.float64)
    for mix in mixes[:-1]:
        normal = torch.randn(product.shape, generator=generator, dtype=torch.float64)
        rotation = torch.linalg.qr(normal).Q
        product = rotation @ product
        with torch.no_grad():
            mix.weight.copy_(rotation)
    with torch.no_grad():
        mixes[-1].weight.copy_(product.T)
