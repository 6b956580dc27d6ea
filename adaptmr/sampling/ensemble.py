"""`EnsembleSampler`: a deep ensemble of super-resolution U-Nets as a posterior sampler.

Lakshminarayanan et al. 2017 (arXiv:1612.01474): members that differ by their first weights alone,
each with a mean and a variance. The variance here is one of frequencies, not of pixels, since
frequencies are what a mask chooses among.
"""

import math
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from adaptmr.data.weights import initialise
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import fourier
from adaptmr.sampling.flow.layers import ZeroLinear, bounded
from adaptmr.sampling.flow.whitening import filtered, spectral_basis
from adaptmr.sampling.low_frequency import LowFrequency, block_region
from adaptmr.sampling.pairs import Pairs
from adaptmr.sampling.posterior import check_made_for
from adaptmr.sampling.unet import UNet

_FLOOR = 1e-6
_LARGEST_MOMENT = 4.0
_LARGEST_LOG_RATIO = 3.0


class EnsembleConfig(BaseModel):
    """Number and size of the members; the defaults train within minutes at 64 x 64."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["ensemble"] = "ensemble"
    members: PositiveInt = 4
    channels: PositiveInt = 16
    """Channels of a member's first level, doubled at each pool."""
    pools: PositiveInt = 3
    spectral_harmonics: NonNegativeInt = 2
    """The highest even angular harmonic of the predicted spectrum is twice this."""


class EnsembleSampler(nn.Module):
    """Posterior sampler: the mean image of a member, plus noise of the spectrum it expects.

    A member maps the low-frequency image to the residual, full image minus low-frequency image.
    Its residual is normal with a mean and independent frequencies of variance
    ``D(k)**2 = P(k) exp(sum_b c_b B_b(k))``. P is the mean power of the training residuals, the B
    are `spectral_basis`. The mean is the output of a U-Net, filtered by ``P(k)**(1/2)``; the c are
    linear in the moments of the logarithm of the power in the block with the same basis: what
    continues is the shape of the spectrum.

    Args:
        config: number and size of the members.
        matrix: (rows, columns) of the images.
        block: (rows, columns) acquired about the centre.
        seed: seed of the first weights; the global random state is neither read nor written.
    """

    power: Tensor
    basis: Tensor
    block_basis: Tensor
    moment_mean: Tensor
    moment_deviation: Tensor

    def __init__(
        self,
        config: EnsembleConfig,
        matrix: tuple[int, int],
        block: tuple[int, int],
        seed: int = 0,
    ) -> None:
        super().__init__()
        block_region(matrix, block)
        if min(matrix) < 2**config.pools:
            raise BadInputError(
                "the images are too small for the U-Net",
                field="pools",
                got=f"{config.pools} for {matrix}",
                expected=f"at most {int(math.log2(min(matrix)))}",
                hint="Use fewer pools",
            )
        self.config = config
        self.matrix = matrix
        self.block = block
        basis = spectral_basis(matrix, config.spectral_harmonics)
        block_basis = spectral_basis(block, config.spectral_harmonics)
        self.register_buffer("basis", basis, persistent=False)
        self.register_buffer("block_basis", block_basis, persistent=False)
        self.register_buffer("power", torch.ones(matrix))
        self.register_buffer("moment_mean", torch.zeros(len(basis)))
        self.register_buffer("moment_deviation", torch.ones(len(basis)))
        # On no device: the first values would come from the global random state otherwise.
        with torch.device("meta"):
            networks = [UNet(1, 1, config.channels, config.pools) for _ in range(config.members)]
        self.networks = nn.ModuleList(network.to_empty(device="cpu") for network in networks)
        seeds = np.random.SeedSequence(seed).generate_state(config.members)
        for network, own in zip(self.networks, seeds.tolist(), strict=True):
            initialise(network, own)
        self.coefficients = nn.ModuleList(
            ZeroLinear(len(basis), len(basis)) for _ in range(config.members)
        )

    def prepare(self, pairs: Pairs, _generator: torch.Generator) -> None:
        """Take P from training pairs, and the usual moments; P stays 1 without any residual."""
        moments = self._moments(pairs.low.to(self.power))
        self.moment_mean.copy_(moments.mean(0))
        self.moment_deviation.copy_(moments.std(0, correction=0).clamp_min(_FLOOR))
        power = torch.zeros_like(self.power, dtype=torch.float64)
        for low, full in zip(pairs.low, pairs.full, strict=True):
            power += fourier((full - low).to(power)).abs().square()
        if power.any():
            power = power / len(pairs)
            self.power.copy_(power.clamp_min(_FLOOR * power.mean()))

    def loss(self, low: Tensor, full: Tensor, _generator: torch.Generator) -> Tensor:
        """Negative log-likelihood in bits per pixel, mean of the batch and of the members.

        Args:
            low: (batch, rows, columns) low-frequency images.
            full: (batch, rows, columns) full images.
        """
        return torch.stack(
            [self._bits(full - low, *self.predict(index, low)) for index in self._indices]
        ).mean()

    def predict(self, member: int, low: Tensor) -> tuple[Tensor, Tensor]:
        """What a member expects of the residuals of low-frequency images (batch, rows, columns).

        Returns:
            Mean (batch, rows, columns) and deviation of each frequency, of the same shape.
        """
        spectrum = self.power.sqrt()
        standard = (self._moments(low) - self.moment_mean) / self.moment_deviation
        coefficients = self.coefficients[member](bounded(standard, _LARGEST_MOMENT))
        exponent = torch.einsum("bi,irc->brc", coefficients, self.basis)
        exponent = bounded(exponent, _LARGEST_LOG_RATIO)
        white = self.networks[member](low[:, None])[:, 0]
        return filtered(white, spectrum), spectrum * (exponent / 2).exp()

    @torch.no_grad()
    def sample(self, low_frequency: LowFrequency, n: int, generator: torch.Generator) -> Tensor:
        """Draw images; see `PosteriorSampler.sample`.

        The members take turns, in an order drawn anew with each call.
        """
        check_made_for(self, low_frequency)
        low = low_frequency.image.to(self.power)
        device = generator.device
        order = torch.randperm(self.config.members, generator=generator, device=device).tolist()
        noise = torch.randn((n, *low.shape), generator=generator, device=device).to(low)
        residuals = torch.empty_like(noise)
        for turn, member in enumerate(order[:n]):
            mean, deviation = self.predict(member, low)
            own = slice(turn, None, self.config.members)
            residuals[own] = mean + filtered(noise[own], deviation)
        return (low + residuals).clamp_min(0).to(low_frequency.image)

    def _moments(self, low: Tensor) -> Tensor:
        """(batch, functions) means over the block of log power times the functions of its basis."""
        block = fourier(low)[(..., *block_region(self.matrix, self.block))]
        power = torch.view_as_real(block).square().sum(-1)
        power = power / power.mean((1, 2), keepdim=True).clamp_min(_FLOOR)
        return (
            torch.einsum("brc,irc->bi", (power + _FLOOR).log(), self.block_basis) / block[0].numel()
        )

    @property
    def _indices(self) -> range:
        return range(self.config.members)

    @staticmethod
    def _bits(residual: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        standard = fourier(residual - mean).abs().square() / deviation.square()
        density = standard / 2 + deviation.log() + math.log(2 * math.pi) / 2
        return density.mean() / math.log(2)
