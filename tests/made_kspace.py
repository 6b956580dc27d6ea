"""Small multi-coil k-space with smooth coils, and masks, for tests of several rooms."""

import numpy as np
import torch
from torch import Tensor

from adaptmr.kernels.fourier import fourier
from adaptmr.sampling.mask import Mask, centred_block


def complex_normal(
    shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.complex128
) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def smooth_maps(coils: int, matrix: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Unit root-sum-of-squares maps of coils around the image: (coils, *matrix)."""
    rows, columns = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in matrix)
    angles = 2 * torch.pi * torch.arange(coils, dtype=torch.float64) / coils + 0.3
    down = rows[:, None] - 1.2 * angles.sin()[:, None, None]
    right = columns - 1.2 * angles.cos()[:, None, None]
    maps = torch.polar(torch.exp(-0.5 * (down**2 + right**2)), down * 0.7 + right * 0.4)
    return (maps / maps.abs().square().sum(0).sqrt()).to(dtype)


def phantom(matrix: tuple[int, int], seed: int = 0) -> Tensor:
    """Ellipses with a phase that varies slowly, complex128."""
    numbers = np.random.default_rng(seed).uniform(0.3, 1, 8)
    rows, columns = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in matrix)
    down, right = rows[:, None], columns[None, :]
    head = ((down / 0.85) ** 2 + (right / 0.75) ** 2 < 1) * numbers[0]
    inside = (((down - 0.2) / 0.4) ** 2 + ((right + 0.1) / 0.3) ** 2 < 1) * numbers[1]
    spot = (((down + 0.4) / 0.2) ** 2 + ((right - 0.2) / 0.2) ** 2 < 1) * numbers[2]
    magnitude = (head + inside + spot).double()
    return torch.polar(magnitude, numbers[3] * down + numbers[4] * right)


def made_kspace(
    batch: int,
    coils: int,
    matrix: tuple[int, int],
    dtype: torch.dtype = torch.complex128,
    noise: float = 0.003,
) -> Tensor:
    """(batch, coils, *matrix), each sample another image."""
    images = torch.stack([phantom(matrix, seed) for seed in range(batch)])
    clean = fourier(smooth_maps(coils, matrix, torch.complex128) * images[:, None])
    return (clean + noise * complex_normal(tuple(clean.shape))).to(dtype)


def line_mask(phase: int, low_frequency: int, share: float = 0.4, seed: int = 0) -> Mask:
    positions = np.random.default_rng(seed).random(phase) < share
    positions[centred_block(phase, low_frequency)] = True
    return Mask(positions, (low_frequency,))


def point_mask(
    matrix: tuple[int, int], low_frequency: tuple[int, int], share: float = 0.4, seed: int = 0
) -> Mask:
    positions = np.random.default_rng(seed).random(matrix) < share
    rows, columns = (centred_block(n, k) for n, k in zip(matrix, low_frequency, strict=True))
    positions[rows, columns] = True
    return Mask(positions, low_frequency)
