"""`MixtureSampler`: Gaussian posteriors in k-space, fitted in seconds.

A reference for samplers that take hours to train. With one component it is the Gaussian control:
its posterior variance cannot depend on the data.
"""

from typing import Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import fourier
from adaptmr.sampling.factor_mixture import FactorMixture, Posterior, Prior, fit
from adaptmr.sampling.low_frequency import LowFrequency, block_region
from adaptmr.sampling.pairs import Pairs
from adaptmr.sampling.posterior import check_made_for

# Coordinates that hardly vary are not blown up beyond this share of the typical deviation.
_LEAST_DEVIATION = 1e-3


class MixtureConfig(BaseModel):
    """What a `MixtureSampler` is made of. Priors are counted in slices, see `Prior`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mixture"] = "mixture"
    components: PositiveInt = 8
    factors: PositiveInt = Field(default=10, le=100)
    """Principal components of each; more than there are slices cost time and bring nothing."""
    mean_prior: PositiveFloat = 10.0
    """Draws the components' means together."""
    factors_prior: NonNegativeFloat = 200.0
    """Draws the factors to zero; slices of one subject are much alike and count for less."""
    noise_prior: PositiveFloat = 20.0
    """Draws the spectra of what the factors leave over together."""
    iterations: PositiveInt = 30


GAUSSIAN: Final = MixtureConfig(components=1)
"""The control: its posterior variance is the same whatever the data."""


class MixtureSampler(nn.Module):
    """Posterior sampler: a mixture of probabilistic PCAs of block and full image in k-space.

    The slice is centred first (by the low-frequency image's circular centre of mass, to a pixel),
    so that samples move with the subject. Modelled are, jointly, the transform of the low-frequency
    image inside the block and its mirror image, and what the transform of the full image adds to
    it. Transforms are Hartley transforms, ``Re F - Im F``: unitary, real, their own inverse, and
    with one number for each position of k-space. Each position is standardised by its deviation
    over the training slices, k and -k alike.

    Samples may be slightly negative: to clip them would make the variance depend on the mean.

    Args:
        config: number of components and factors, priors.
        matrix: (rows, columns) of the images.
        block: (rows, columns) acquired about the centre.
    """

    log_weight: Tensor
    mean: Tensor
    factors: Tensor
    noise: Tensor
    offset: Tensor
    deviation: Tensor
    inside: Tensor

    def __init__(
        self, config: MixtureConfig, matrix: tuple[int, int], block: tuple[int, int]
    ) -> None:
        super().__init__()
        self.config = config
        self.matrix = matrix
        self.block = block
        inside = torch.zeros(matrix, dtype=torch.bool)
        inside[block_region(matrix, block)] = True
        self.register_buffer("inside", inside | _mirrored(inside), persistent=False)
        self._observed = int(self.inside.sum())
        coordinates = self._observed + inside.numel()
        empty = FactorMixture.prior(config.components, coordinates, config.factors, self._prior)
        for name in ("log_weight", "mean", "factors", "noise"):
            self.register_buffer(name, getattr(empty, name))
        self.register_buffer("offset", torch.zeros(coordinates, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones(coordinates, dtype=torch.float64))

    def prepare(self, pairs: Pairs, generator: torch.Generator) -> None:
        """Fit to training pairs; there is no more training than this.

        Raises:
            BadInputError: the pairs are of another matrix or block, or there are none.
        """
        check_made_for(self, pairs)
        if not len(pairs):
            raise BadInputError(
                "there is no slice to fit a mixture to", field="pairs", got=0, expected="at least 1"
            )
        shift = centring(pairs.low)
        known = self._known(moved(pairs.low.double(), shift))
        full = hartley(moved(pairs.full.double(), shift))
        added = full - self._spread(known)
        x = torch.cat([known, added.flatten(1)], 1)
        self.offset.copy_(x.mean(0))
        self.deviation.copy_(self._deviation(x - self.offset))
        fitted = fit(
            (x - self.offset) / self.deviation,
            slice(0, self._observed),
            self.config.components,
            self.config.factors,
            self._prior,
            generator,
            iterations=self.config.iterations,
        ).mixture
        for name in ("log_weight", "mean", "factors", "noise"):
            getattr(self, name).copy_(getattr(fitted, name))

    @torch.no_grad()
    def sample(self, low_frequency: LowFrequency, n: int, generator: torch.Generator) -> Tensor:
        """Draw images; see `PosteriorSampler.sample`."""
        known, shift = self._observation(low_frequency)
        posterior = self._posterior(known)
        added = self._added
        batch, size = len(known), added.mean.shape[1]

        def normal(*shape: int) -> Tensor:
            drawn = torch.randn(
                shape, generator=generator, device=generator.device, dtype=torch.float64
            )
            return drawn.to(known.device)

        uniform = torch.rand(
            (n, batch), generator=generator, device=generator.device, dtype=torch.float64
        )
        edges = posterior.responsibilities.cumsum(1)[:, :-1]
        component = (uniform.to(known.device)[:, :, None] > edges).sum(2)
        factor_noise, noise = normal(n, batch, self.config.factors), normal(n, batch, size)
        roots = torch.linalg.cholesky(posterior.covariance)
        coordinates = torch.empty_like(noise)
        for index in range(self.config.components):
            chosen = component == index
            z = posterior.mean[index].expand(n, -1, -1)[chosen]
            z = z + factor_noise[chosen] @ roots[index].T
            drawn = added.mean[index] + z @ added.factors[index].T
            coordinates[chosen] = drawn + noise[chosen] * added.noise[index].sqrt()
        return self._images(coordinates, known, shift).to(low_frequency.image)

    @torch.no_grad()
    def expectation(self, low_frequency: LowFrequency) -> Tensor:
        """(batch, rows, columns) mean of the posterior, in the units of samples."""
        known, shift = self._observation(low_frequency)
        posterior = self._posterior(known)
        mean, _ = self._moments(posterior)
        return self._images(mean[None], known, shift)[0].to(low_frequency.image)

    @torch.no_grad()
    def variance(self, low_frequency: LowFrequency) -> Tensor:
        """Variance of the posterior in k-space, exactly: what that of samples converges to.

        Returns:
            (batch, rows, columns) variance of the centred unitary transform of samples.
        """
        known, _ = self._observation(low_frequency)
        posterior = self._posterior(known)
        _, variance = self._moments(posterior)
        variance = variance * self.deviation[self._observed :].square()
        # F(k) is made of the Hartley coefficients at k and -k, half of each.
        variance = _symmetric(variance.reshape(-1, *self.matrix))
        return variance.to(low_frequency.image)

    @property
    def _mixture(self) -> FactorMixture:
        return FactorMixture(self.log_weight, self.mean, self.factors, self.noise)

    @property
    def _added(self) -> FactorMixture:
        return self._mixture[self._observed :]

    @property
    def _prior(self) -> Prior:
        config = self.config
        return Prior(mean=config.mean_prior, factors=config.factors_prior, noise=config.noise_prior)

    def _observation(self, low_frequency: LowFrequency) -> tuple[Tensor, Tensor]:
        """Hartley coefficients of the block (batch, observed), once centred; and the shift."""
        check_made_for(self, low_frequency)
        shift = centring(low_frequency.image)
        return self._known(moved(low_frequency.image.double(), shift)), shift

    def _posterior(self, known: Tensor) -> Posterior:
        standard = (known - self.offset[: self._observed]) / self.deviation[: self._observed]
        return self._mixture[: self._observed].posterior(standard)

    def _moments(self, posterior: Posterior) -> tuple[Tensor, Tensor]:
        """Mean and variance of the standardised coordinates that are added, (batch, rest)."""
        added, weight = self._added, posterior.responsibilities
        means = added.mean[:, None] + posterior.mean @ added.factors.mT
        mean = torch.einsum("bj,jbd->bd", weight, means)
        within = added.noise + ((added.factors @ posterior.covariance) * added.factors).sum(2)
        between = torch.einsum("bj,jbd->bd", weight, (means - mean).square())
        return mean, weight @ within + between

    def _images(self, coordinates: Tensor, known: Tensor, shift: Tensor) -> Tensor:
        """Standardised coordinates (n, batch, rest) as images (n, batch, rows, columns)."""
        added = coordinates * self.deviation[self._observed :] + self.offset[self._observed :]
        transform = added.reshape(*added.shape[:2], *self.matrix) + self._spread(known)
        return moved(hartley(transform), -shift)

    def _known(self, low: Tensor) -> Tensor:
        return hartley(low)[:, self.inside]

    def _spread(self, known: Tensor) -> Tensor:
        """Coefficients of the block (batch, observed) at their positions, zero elsewhere."""
        transform = known.new_zeros(len(known), *self.matrix)
        transform[:, self.inside] = known
        return transform

    def _deviation(self, centred: Tensor) -> Tensor:
        power = centred.square().mean(0)
        added = power[self._observed :].reshape(self.matrix)
        power[self._observed :] = _symmetric(added).flatten()
        typical = power.mean()
        floor = _LEAST_DEVIATION**2 * typical if typical > 0 else torch.ones_like(typical)
        return torch.maximum(power, floor).sqrt()


def hartley(image: Tensor) -> Tensor:
    """Centred orthonormal Hartley transform of real images (..., rows, columns); self-inverse."""
    transform = fourier(image)
    return transform.real - transform.imag


def centring(images: Tensor) -> Tensor:
    """(batch, 2) pixels by which images (batch, rows, columns) are to be moved to be centred.

    The phase of the lowest frequency along each axis is the circular centre of mass. An image
    without one stays where it is.
    """
    shifts = []
    for axis, other in ((1, 2), (2, 1)):
        size = images.shape[axis]
        profile = images.double().sum(other)
        angle = (torch.arange(size, device=images.device) - size // 2) * (2 * torch.pi / size)
        phase = torch.atan2(profile @ angle.double().sin(), profile @ angle.double().cos())
        shifts.append(-(phase * size / (2 * torch.pi)).round().long())
    return torch.stack(shifts, 1)


def moved(images: Tensor, shift: Tensor) -> Tensor:
    """Images (..., batch, rows, columns) moved circularly by (batch, 2) pixels."""
    return torch.stack(
        [
            part.roll(by, (-2, -1))
            for part, by in zip(images.unbind(-3), shift.tolist(), strict=True)
        ],
        -3,
    )


def _symmetric(values: Tensor) -> Tensor:
    """Mean of what is at k and at -k."""
    return (values + _mirrored(values)) / 2


def _mirrored(values: Tensor) -> Tensor:
    """Values at k put at -k; the centre is ``n // 2``."""
    flipped = values.flip(-2, -1)
    return flipped.roll([1 - size % 2 for size in values.shape[-2:]], (-2, -1))
