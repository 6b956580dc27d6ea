"""Toys whose useful positions are known, and small networks to learn masks with."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adaptmr.data.fastmri import write_scan
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.reconstruction.learned.joint import LearnedReconstruction
from adaptmr.reconstruction.networks.varnet import VarNetConfig
from adaptmr.reconstruction.similarity import ssim
from adaptmr.sampling.training import generator_for

TINY = VarNetConfig(cascades=2, channels=4, pools=2, map_channels=4, map_pools=2)


def complex_normal(
    shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.complex64
) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def few_lines(count: int, size: int, lines: list[int], seed: int) -> Tensor:
    """Single-coil k-space with energy at the four central lines and the given ones alone."""
    kspace = torch.zeros(count, 1, size, size, dtype=torch.complex64)
    centre = slice(size // 2 - 2, size // 2 + 2)
    values = complex_normal((count, 1, size, size), seed)
    fall = torch.exp(-(((torch.arange(size) - size // 2) / 4.0) ** 2))[:, None]
    kspace[..., centre] = 8 * (values * fall)[..., centre]
    kspace[..., lines] = 3 * (values * fall)[..., lines]
    return kspace


def stripes(count: int, size: int, seed: int) -> tuple[Tensor, np.ndarray]:
    """Single-coil k-space of ellipses that lie or stand, with fine stripes across their long axis.

    Gives k-space (count, 1, size, size) and the families (count,): 1 where the ellipse stands.
    """
    generator = np.random.default_rng(seed)
    y, x = np.meshgrid(*2 * [np.arange(size) - size // 2], indexing="ij")
    families = generator.integers(0, 2, count)
    images = []
    for stands in families:
        a, b = (0.22, 0.38) if stands else (0.38, 0.22)
        inside = 1 / (1 + np.exp(6 * (np.hypot(x / (a * size), y / (b * size)) - 1)))
        across, by = (y, x) if stands else (x, y)
        detail = np.zeros((size, size))
        for _ in range(6):
            fine, slow = generator.uniform(0.2, 0.45), generator.uniform(-0.06, 0.06)
            phase = generator.uniform(0, 2 * np.pi)
            detail += np.cos(2 * np.pi * (fine * across + slow * by) + phase)
        images.append(inside * (1 + 0.04 * detail))
    return fourier(torch.from_numpy(np.stack(images)).float())[:, None], families


def magnitude(kspace: Tensor) -> Tensor:
    return torch.linalg.vector_norm(inverse_fourier(kspace), dim=1)


def learn(learned: LearnedReconstruction, kspace: Tensor, steps: int, batch: int = 4) -> None:
    """Joint training without Lightning: the same loss and draws on slices in memory."""
    adam = torch.optim.Adam(
        [
            {"params": learned.network.parameters(), "lr": 3e-3},
            {"params": learned.learner.parameters(), "lr": 2e-2},
        ]
    )
    target = magnitude(kspace)
    for step in range(steps):
        generator = generator_for(0, step)
        chosen = torch.randint(len(kspace), (batch,), generator=generator)
        image = learned.training_image(kspace[chosen], generator)
        peak = target[chosen].amax((-2, -1))
        adam.zero_grad()
        (1 - ssim(image, target[chosen], peak)).mean().backward()
        adam.step()


def write_stripes(folder: Path, subjects: str = "abc", matrix: tuple[int, int] = (24, 24)) -> None:
    """One volume of two slices for each subject."""
    for seed, subject in enumerate(subjects):
        kspace, _ = stripes(2, max(matrix), seed)
        kspace = kspace[..., : matrix[0], : matrix[1]].contiguous()
        target = magnitude(kspace)
        scan = Scan(
            name=f"{subject}.h5",
            kspace=Stack.of(kspace),
            acquired=torch.ones(matrix[1], dtype=torch.bool),
            padding=(0, matrix[1]),
            header=Header(subject=subject),
            target=Stack.of(target),
            maximum=float(target.max()),
        )
        write_scan(scan, folder / scan.name)
