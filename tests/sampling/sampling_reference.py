"""Samplers and slices with known answers, for the tests of this folder."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adaptmr.kernels.fourier import fourier
from adaptmr.sampling.low_frequency import LowFrequency, acquire
from adaptmr.sampling.uncertainty import UncertaintyMap, unit_norm


def kspace(
    matrix: tuple[int, int], batch: int = 1, coils: int = 1, seed: int = 0, dtype=torch.complex64
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    real = torch.randn(batch, coils, *matrix, generator=generator, dtype=torch.float64)
    imaginary = torch.randn(batch, coils, *matrix, generator=generator, dtype=torch.float64)
    return torch.complex(real, imaginary).to(dtype)


def slices(
    matrix: tuple[int, int], block: tuple[int, int], dtype: torch.dtype = torch.complex64, **rest
) -> LowFrequency:
    return acquire(kspace(matrix, dtype=dtype, **rest), block)


@dataclass(frozen=True)
class Given:
    """Hands out given samples (n, batch, rows, columns), one after another, round and round."""

    images: Tensor

    def sample(self, low_frequency: LowFrequency, n: int, _generator: torch.Generator) -> Tensor:
        assert self.images.shape[1:] == (low_frequency.batch, *low_frequency.matrix)
        repeats = -(-n // len(self.images))
        return self.images.repeat(repeats, 1, 1, 1)[:n]


@dataclass(frozen=True)
class Gaussian:
    """The low-frequency image plus ``factor @ z``, z standard normal; factor (pixels, rank)."""

    factor: Tensor

    def sample(self, low_frequency: LowFrequency, n: int, generator: torch.Generator) -> Tensor:
        shape = n * low_frequency.batch, self.factor.shape[1]
        z = torch.randn(shape, generator=generator, dtype=self.factor.dtype)
        detail = (z @ self.factor.T).reshape(n, *low_frequency.image.shape)
        return low_frequency.image + detail


@dataclass(frozen=True)
class Neighbours:
    """Details of the training slices whose low-frequency images are the most alike."""

    low: Tensor
    full: Tensor
    among: int = 12

    def sample(self, low_frequency: LowFrequency, n: int, generator: torch.Generator) -> Tensor:
        image = low_frequency.image
        apart = (image[:, None] - self.low).square().sum((-2, -1))
        nearest = apart.topk(self.among, dim=1, largest=False).indices
        pick = torch.randint(self.among, (n, low_frequency.batch), generator=generator)
        index = nearest[torch.arange(low_frequency.batch), pick]
        return image + (self.full - self.low)[index]


def known(values: Tensor, block: tuple[int, int]) -> UncertaintyMap:
    """Variances (batch, rows, columns) as an uncertainty map."""
    number = torch.full((len(values),), 10)
    normalised = unit_norm(values, block)
    return UncertaintyMap(normalised, normalised.sum((1, 2)) > 0, number, torch.zeros_like(number))


def textures(
    count: int, size: int, seed: int, *, oriented: bool = True
) -> tuple[Tensor, np.ndarray]:
    """Two families: an ellipse that lies or stands, with fine stripes across its long axis.

    Without ``oriented``, the stripes' direction has nothing to do with the ellipse, and each slice
    has both kinds. Gives images (count, size, size), the families (count,).
    """
    generator = np.random.default_rng(seed)
    y, x = np.meshgrid(*2 * [np.arange(size) - size // 2], indexing="ij")
    family = generator.integers(0, 2, count)
    images = []
    for stands in family:
        a, b = (0.22, 0.38) if stands else (0.38, 0.22)
        a, b = np.array([a, b]) * generator.uniform(0.9, 1.1, 2) * size
        inside = 1 / (1 + np.exp(6 * (np.hypot(x / a, y / b) - 1)))
        detail = np.zeros((size, size))
        for along in [stands] if oriented else [0, 1]:
            for _ in range(6):
                fine, slow = generator.uniform(0.2, 0.45), generator.uniform(-0.06, 0.06)
                phase = generator.uniform(0, 2 * np.pi)
                across, by = (y, x) if along else (x, y)
                detail += np.cos(2 * np.pi * (fine * across + slow * by) + phase)
        images.append(inside * (1 + 0.04 * detail))
    return torch.from_numpy(np.stack(images)).float(), family


def as_kspace(images: Tensor) -> Tensor:
    """(n, rows, columns) images as single-coil k-space (n, 1, rows, columns)."""
    return fourier(images)[:, None]
