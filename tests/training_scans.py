"""Small scans to train on."""

from pathlib import Path

import numpy as np
import torch

from adaptmr.data.crop import center_crop
from adaptmr.data.fastmri import write_scan
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.kernels.fourier import fourier


def write_ellipses(path: Path, subject: str, seed: int, matrix: tuple[int, int] = (24, 20)) -> None:
    """Two slices of random ellipses seen by three coils, target cut to 20 rows."""
    generator = np.random.default_rng(seed)
    rows, columns = (np.linspace(-1, 1, size) for size in matrix)
    y, x = rows[:, None], columns[None, :]
    images = np.zeros((2, *matrix))
    for image in images:
        for _ in range(5):
            centre, axes = generator.uniform(-0.4, 0.4, 2), generator.uniform(0.2, 0.6, 2)
            inside = ((y - centre[0]) / axes[0]) ** 2 + ((x - centre[1]) / axes[1]) ** 2 < 1
            image += generator.uniform(0.2, 1) * inside
    angles = np.arange(3) * 2 * np.pi / 3
    coils = np.exp(
        -((y - np.cos(angles)[:, None, None]) ** 2) - (x - np.sin(angles)[:, None, None]) ** 2
    )
    coil_images = torch.from_numpy(images[:, None] * coils * np.exp(1j * (x + y)))
    target = center_crop(coil_images.abs().square().sum(1).sqrt().float(), (20, matrix[1]))
    scan = Scan(
        name=path.name,
        kspace=Stack.of(fourier(coil_images).to(torch.complex64)),
        acquired=torch.ones(matrix[1], dtype=torch.bool),
        padding=(0, matrix[1]),
        header=Header(subject=subject),
        target=Stack.of(target),
        maximum=float(target.max()),
    )
    write_scan(scan, path)
