"""Subjects whose errors are alike within a subject, and known to be so."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Made:
    """(slices, rows, columns) images and the subject of each slice."""

    image: Tensor
    width: Tensor
    target: Tensor
    subjects: list[str]

    def __getitem__(self, index: slice) -> "Made":
        return Made(self.image[index], self.width[index], self.target[index], self.subjects[index])


def everywhere(image: Tensor) -> Tensor:
    return torch.ones_like(image, dtype=torch.bool)


def made(
    subjects: int, slices: int, seed: int, *, spread: float = 0.5, size: tuple[int, int] = (6, 7)
) -> Made:
    """Exchangeable subjects: errors scale with the width, and with a number of the subject's own.

    The unit of a slice is its own too, over a hundredfold range.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (subjects * slices, *size)

    def drawn(*of: int) -> Tensor:
        return torch.randn(*of, generator=generator, dtype=torch.float64)

    unit = (1.5 * drawn(shape[0], 1, 1)).exp()
    own = (spread * drawn(subjects)).exp().repeat_interleave(slices)[:, None, None]
    image = 1 + torch.rand(shape, generator=generator, dtype=torch.float64)
    width = 0.1 * drawn(*shape).abs()
    target = (image + 0.5 * own * (width + 0.02) * drawn(*shape)).clamp(min=0)
    names = [f"sub-{index // slices:03}" for index in range(shape[0])]
    return Made(unit * image, unit * width, unit * target, names)
