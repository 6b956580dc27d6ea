"""Degradations in random order, for networks that are to be adapted later.

PROD (Park et al. 2024, CoLoRA, arXiv:2408.01099) degrades each training image by a random number of
degradations in random order. Here they are those of MR: noise, fewer coils, motion. Other masks and
accelerations are a matter of the training's list of masks.
"""

from collections.abc import Callable
from typing import Annotated, Final

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from torch import Tensor

_STILL: Final = 1 / 6
"""Lines nearer to the centre than this share of all never move: the image stays in its place."""

Degrade = Callable[[Tensor, np.random.Generator], Tensor]


class Degradations(BaseModel):
    """How badly k-space may be degraded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    most: Annotated[int, Field(ge=1, le=3)] = 3
    """Largest number of degradations of a batch; any number from none is as likely."""
    noise: PositiveFloat = 0.5
    """Largest standard deviation of added complex noise, over the root mean square of k-space."""
    coils: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Smallest share of the coils that are left, as principal virtual coils."""
    motion: PositiveFloat = 1.5
    """Largest shift along each axis, pixels, of the subject while the outer lines of one side are
    acquired."""

    def degrade(self, kspace: Tensor, generator: np.random.Generator) -> Tensor:
        """Degrade a batch.

        Args:
            kspace: (batch, coil, readout, phase) complex, fully sampled; stays as it is.
            generator: decides what happens, in which order, and how much of it.

        Returns:
            (batch, coil, readout, phase), perhaps of fewer coils.
        """
        kinds: tuple[Degrade, ...] = (self._noise, self._coils, self._motion)
        count = int(generator.integers(self.most + 1))
        for index in generator.permutation(len(kinds))[:count]:
            kspace = kinds[index](kspace, generator)
        return kspace

    def _noise(self, kspace: Tensor, generator: np.random.Generator) -> Tensor:
        level = float(generator.uniform(0, self.noise))
        parts = generator.standard_normal((2, *kspace.shape), dtype=np.float32)
        noise = torch.complex(*torch.from_numpy(parts).to(kspace.device)) / 2**0.5
        return kspace + level * kspace.abs().square().mean().sqrt() * noise

    def _coils(self, kspace: Tensor, generator: np.random.Generator) -> Tensor:
        coils = kspace.shape[1]
        fewest = max(1, round(self.coils * coils))
        left = int(generator.integers(fewest, coils + 1))
        flat = kspace.transpose(0, 1).flatten(1)
        _, vectors = torch.linalg.eigh(flat @ flat.mH)  # the last ones hold most of the signal
        return torch.einsum("cv,bcrp->bvrp", vectors[:, coils - left :].conj(), kspace)

    def _motion(self, kspace: Tensor, generator: np.random.Generator) -> Tensor:
        rows, columns = kspace.shape[-2:]
        shift = generator.uniform(-self.motion, self.motion, 2)
        turns = [
            (torch.arange(size, device=kspace.device) - size // 2) / size * float(step)
            for size, step in zip((rows, columns), shift, strict=True)
        ]
        moved = torch.polar(
            torch.ones(rows, columns, device=kspace.device),
            -2 * torch.pi * (turns[0][:, None] + turns[1]).float(),
        )
        away = int(generator.integers(max(1, round(_STILL * columns)), max(2, columns // 2)))
        lines = torch.arange(columns, device=kspace.device) - columns // 2
        side = lines * int(generator.choice((-1, 1))) >= away
        return torch.where(side, kspace * moved, kspace)
