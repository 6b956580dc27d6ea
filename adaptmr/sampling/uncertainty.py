"""High-frequency Bayesian uncertainty: the variance of k-space over samples of the posterior.

``v(k) = (1 / S) sum_s |F x_s - mean|^2`` outside the low-frequency block, divided by its L2 norm
(Hong et al., ECCV 2024, section 3.4 of the released code's description). Everything is kept in
floating point: the published eight-bit rounding of samples adds a white floor to the variance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from adaptmr.errors import BadInputError, UsageError
from adaptmr.kernels.energy import energy
from adaptmr.sampling.low_frequency import LowFrequency, block_region
from adaptmr.sampling.posterior import PosteriorSampler

PLAUSIBLE = (-1.0, 8.0)
"""Range of a credible sample, in units of the low-frequency image's maximum."""

# Complex values held at a time: 2^24 are 128 MiB in single precision.
_AT_ONCE = 2**24


@dataclass(frozen=True, eq=False)
class UncertaintyMap:
    """High-frequency uncertainty of a batch of slices, in k-space.

    Attributes:
        values: (batch, rows, columns) real, the variance of k-space: unit L2 norm per slice, zero
            in the low-frequency block; all zero where it is not known. Never NaN.
        known: (batch,) bool, False where the variance is zero up to rounding, where fewer than two
            samples were usable, or where the slice has no signal.
        usable: (batch,) int, samples that the variance was taken over.
        rejected: (batch,) int, samples that were not finite or beyond all plausibility.
    """

    values: Tensor
    known: Tensor
    usable: Tensor
    rejected: Tensor

    @property
    def batch(self) -> int:
        """Number of slices."""
        return self.values.shape[0]

    @property
    def matrix(self) -> tuple[int, int]:
        """Size of the slices' k-space: (rows, columns)."""
        return self.values.shape[1], self.values.shape[2]

    def __getitem__(self, index: slice | Tensor) -> "UncertaintyMap":
        """Some of the slices."""
        return UncertaintyMap(
            self.values[index], self.known[index], self.usable[index], self.rejected[index]
        )

    def to(self, device: torch.device | str) -> "UncertaintyMap":
        """The same map on another device."""
        return UncertaintyMap(
            self.values.to(device),
            self.known.to(device),
            self.usable.to(device),
            self.rejected.to(device),
        )

    @classmethod
    def concatenate(cls, maps: list[Self]) -> Self:
        """Maps of several batches as one."""
        return cls(
            torch.cat([part.values for part in maps]),
            torch.cat([part.known for part in maps]),
            torch.cat([part.usable for part in maps]),
            torch.cat([part.rejected for part in maps]),
        )


@dataclass(eq=False)
class SpectralVariance:
    """Streaming mean and variance of k-space over samples (Welford; Chan et al., 1983).

    Samples come in any number of parts. A phase of a whole k-space position changes no variance,
    so the transforms here are not centred; only the result is.

    Attributes:
        count: (batch,) samples so far.
        mean: (batch, coil, rows, columns) complex, not centred.
        squares: (batch, rows, columns) real, sum of squared distances from the mean, over coils.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    @classmethod
    def empty(cls, like: Tensor, coils: int = 1) -> Self:
        """No samples yet, of images such as ``like``: (batch, rows, columns)."""
        batch, rows, columns = like.shape
        return cls(
            torch.zeros(batch, dtype=torch.int64, device=like.device),
            torch.zeros(
                batch, coils, rows, columns, dtype=like.dtype.to_complex(), device=like.device
            ),
            torch.zeros(batch, rows, columns, dtype=like.dtype.to_real(), device=like.device),
        )

    def add(self, images: Tensor, use: Tensor, maps: Tensor | None = None) -> None:
        """Take in samples.

        Args:
            images: (n, batch, rows, columns), real or complex.
            use: (n, batch) bool, the samples that count.
            maps: (batch, coil, rows, columns) complex sensitivities; without them the transform of
                the image itself is taken.
        """
        coil_images = images[:, :, None] if maps is None else images[:, :, None] * maps
        weight = use[:, :, None, None, None]
        zero = torch.zeros((), dtype=coil_images.dtype, device=images.device)
        kspace = torch.fft.fft2(torch.where(weight, coil_images, zero), norm="ortho")
        new = use.sum(0)
        mean = kspace.sum(0) / _broad(new.clamp(min=1), 4)
        squares = energy((kspace - mean) * weight, (0, 2))
        total = (self.count + new).clamp(min=1)
        step = mean - self.mean
        spread = energy(step, (1,))
        self.squares = self.squares + squares + spread * _broad(self.count * new / total, 3)
        self.mean = self.mean + step * _broad(new / total, 4)
        self.count = self.count + new

    def variance(self) -> Tensor:
        """(batch, rows, columns) variance, centred at ``n // 2``, divisor ``count``."""
        variance = self.squares / _broad(self.count.clamp(min=1), 3)
        centred: Tensor = torch.fft.fftshift(variance, dim=(-2, -1))
        return centred

    def energy(self) -> Tensor:
        """(batch,) sum of squares of the mean."""
        return energy(self.mean, (1, 2, 3))


def uncertainty(
    sampler: PosteriorSampler,
    low_frequency: LowFrequency,
    samples: int,
    generator: torch.Generator,
    *,
    maps: Tensor | None = None,
    smoothing: float = 0.0,
    plausible: tuple[float, float] = PLAUSIBLE,
    redraws: int = 3,
) -> UncertaintyMap:
    """High-frequency uncertainty of slices from their low-frequency data.

    Samples that are not finite, or leave the plausible range, are rejected and counted, and drawn
    anew in at most ``redraws`` further rounds. What is short then is taken as it is, so long as
    two samples remain.

    Args:
        sampler: draws the samples.
        low_frequency: the slices.
        samples: samples per slice, at least 2.
        generator: where the sampler's randomness comes from.
        maps: (batch, coil, rows, columns) complex sensitivities, such as `sensitivity_maps`: the
            variance is then that of the coils' k-space, summed over coils. Without them it is that
            of the transform of the magnitude image, as published.
        smoothing: see `smoothed`.
        plausible: range of a credible sample, in the normalised units of ``low_frequency``.
        redraws: rounds of drawing anew.

    Raises:
        UsageError: fewer than two samples.
        BadInputError: the sampler gave images of another shape.
    """
    if samples < 2:
        raise UsageError(
            "a variance needs at least two samples", field="samples", got=samples, expected=">= 2"
        )
    coils = 1 if maps is None else maps.shape[1]
    dtype = low_frequency.image.dtype
    variance = SpectralVariance.empty(low_frequency.image, coils)
    rejected = torch.zeros_like(variance.count)
    for _ in range(1 + redraws):
        missing = samples - variance.count
        if not bool((missing > 0).any()):
            break
        for part in _parts(int(missing.max()), low_frequency, coils):
            drawn = _checked(sampler.sample(low_frequency, part, generator), part, low_frequency)
            credible = _credible(drawn, plausible)
            # A slice takes no more than it still needs, so that its number of samples is exact.
            wanted = credible & (credible.cumsum(0) <= samples - variance.count)
            needed = variance.count < samples
            rejected = rejected + torch.where(needed, (~credible).sum(0), 0)
            variance.add(drawn.to(dtype), wanted, maps)
    return _normalised(variance, low_frequency, rejected, smoothing)


def sensitivity_maps(low_frequency: LowFrequency) -> Tensor:
    """Low-resolution coil sensitivities with the image's phase, from the low-frequency block.

    Each zero-filled coil image divided by their root-sum-of-squares, so the squares of the maps
    sum to one. Where that is zero the maps are zero.

    Returns:
        (batch, coil, rows, columns) complex.
    """
    coil_images = low_frequency.coil_images
    magnitude = energy(coil_images, (1,)).sqrt()[:, None]
    smallest = torch.finfo(magnitude.dtype).tiny
    return torch.where(magnitude > smallest, coil_images / magnitude.clamp(min=smallest), 0)


def smoothed(variance: Tensor, block: tuple[int, int], deviation: float) -> Tensor:
    """A variance of k-space averaged over neighbouring positions outside the block.

    Few samples leave a scatter of 1 / sqrt(S - 1) on each position, while the variance itself
    changes slowly with position: a Gaussian of one position makes 10 samples as good as 64. What
    is averaged is only what lies outside the block; opposite edges are neighbours.

    Args:
        variance: (batch, rows, columns) real, not negative.
        block: (rows, columns) of the low-frequency block.
        deviation: standard deviation of the Gaussian, in positions; 0 changes nothing.

    Returns:
        The same shape, zero in the block.
    """
    if deviation == 0:
        return variance
    rows, columns = block_region((variance.shape[-2], variance.shape[-1]), block)
    outside = torch.ones_like(variance[:1])
    outside[..., rows, columns] = 0
    # Outside the block a position counts itself, so its weight is positive; inside, none is needed.
    weight = torch.where(outside > 0, _gaussian_mean(outside, deviation), 1)
    # The transforms leave rounding errors about zero.
    return _gaussian_mean(variance * outside, deviation).clamp(min=0) * outside / weight


def _gaussian_mean(values: Tensor, deviation: float) -> Tensor:
    """Circular convolution with a normalised Gaussian."""
    frequencies = (
        torch.fft.fftfreq(values.shape[-2], device=values.device, dtype=values.dtype),
        torch.fft.rfftfreq(values.shape[-1], device=values.device, dtype=values.dtype),
    )
    squares = frequencies[0][:, None].square() + frequencies[1].square()
    response = torch.exp(-2 * (torch.pi * deviation) ** 2 * squares)
    mean: Tensor = torch.fft.irfft2(torch.fft.rfft2(values) * response, s=values.shape[-2:])
    return mean


def unit_norm(variance: Tensor, matrix_block: tuple[int, int]) -> Tensor:
    """A variance of k-space as an uncertainty: zero in the block, unit L2 norm per slice.

    Args:
        variance: (batch, rows, columns) real, not negative.
        matrix_block: (rows, columns) of the low-frequency block.

    Returns:
        The same shape; zero where the variance outside the block is zero.
    """
    rows, columns = block_region((variance.shape[-2], variance.shape[-1]), matrix_block)
    high = variance.clone()
    high[..., rows, columns] = 0
    # Divided by the maximum first: squares of small variances would underflow.
    high = high / _positive(high.amax((-2, -1), keepdim=True))
    return high / _positive(torch.linalg.vector_norm(high, dim=(-2, -1), keepdim=True))


def _normalised(
    variance: SpectralVariance, low_frequency: LowFrequency, rejected: Tensor, smoothing: float
) -> UncertaintyMap:
    spread = variance.variance()
    rows, columns = low_frequency.region
    spread[..., rows, columns] = 0
    # Below this the spread is the rounding error of equal samples' transforms.
    rounding = (8 * torch.finfo(spread.dtype).eps) ** 2 * variance.energy()
    known = (
        (variance.count >= 2)
        & (spread.sum((-2, -1)) > rounding)
        & (low_frequency.image.amax((-2, -1)) > 0)
    )
    values = unit_norm(smoothed(spread, low_frequency.block, smoothing), low_frequency.block)
    return UncertaintyMap(torch.where(_broad(known, 3), values, 0), known, variance.count, rejected)


def _parts(count: int, low_frequency: LowFrequency, coils: int) -> Iterator[int]:
    """``count`` in parts whose transforms fit in memory."""
    each = max(1, _AT_ONCE // max(1, low_frequency.image.numel() * coils))
    while count > 0:
        yield min(each, count)
        count -= each


def _checked(drawn: Tensor, count: int, low_frequency: LowFrequency) -> Tensor:
    expected = (count, low_frequency.batch, *low_frequency.matrix)
    if tuple(drawn.shape) != expected or drawn.is_complex():
        raise BadInputError(
            "the sampler gave no images of these slices",
            field="samples",
            got=f"{drawn.dtype} of shape {tuple(drawn.shape)}",
            expected=f"real, of shape {expected}",
            hint="Use a sampler that was made for this matrix",
        )
    return drawn


def _credible(drawn: Tensor, plausible: tuple[float, float]) -> Tensor:
    """(n, batch) bool: all values finite and within the range; comparisons with NaN are False."""
    least, most = plausible
    return (drawn.amin((-2, -1)) >= least) & (drawn.amax((-2, -1)) <= most)


def _positive(value: Tensor) -> Tensor:
    return torch.where(value > 0, value, torch.ones_like(value))


def _broad(per_slice: Tensor, axes: int) -> Tensor:
    """(batch,) with trailing axes of length one, ``axes`` in all."""
    return per_slice.reshape(-1, *(1,) * (axes - 1))
