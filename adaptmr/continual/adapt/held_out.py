"""Learning without a fully sampled target: some of what was measured is hidden, then predicted.

SSDU (Yaman et al., Magn Reson Med 84:3172, 2020): the acquired positions fall into those that the
network sees and those that judge it. Which is which is drawn anew for every batch (Yaman et al.,
NMR Biomed 35:e4798, 2022).
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import fourier
from adaptmr.reconstruction.networks.varnet import VarNet
from adaptmr.sampling.generators import Seed, numbers
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.sources import FixedMask


@dataclass(frozen=True)
class SeenPart:
    """A `MaskSource`: the low-frequency block, and a random part of what else was acquired.

    Attributes:
        acquired: the mask of the scans.
        hidden: share of the positions outside the block that the network does not see.
    """

    acquired: Mask
    hidden: float

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the mask and the share."""
        return hashlib.sha256(f"{self.acquired.fingerprint} {self.hidden}".encode()).hexdigest()

    def make(self, matrix: tuple[int, int], seed: Seed, padding: tuple[int, int] | None) -> Mask:
        """Draw what the network sees.

        Raises:
            BadInputError: the mask is of another matrix or acquires padding, or there are not two
                positions outside the block.
        """
        FixedMask(self.acquired).make(matrix, seed, padding)
        outside = self.acquired.positions.copy()
        outside[self.acquired.block] = False
        places = np.flatnonzero(outside)
        if len(places) < 2:
            raise BadInputError(
                "too little was acquired outside the low-frequency block to hide a part of it",
                field="acquired",
                got=f"{len(places)} positions",
                expected="at least 2",
                hint="Adapt on fully sampled scans, or on scans with a smaller block",
            )
        count = min(max(1, round(self.hidden * len(places))), len(places) - 1)
        generator = np.random.default_rng(numbers(seed))
        seen = self.acquired.positions.copy()
        seen.flat[generator.choice(places, count, replace=False)] = False
        return replace(self.acquired, positions=seen, provenance={"generator": "seen part"})


def held_out_loss(network: VarNet, kspace: Tensor, seen: Mask, acquired: Mask) -> Tensor:
    """How badly a network predicts what it did not see: relative l2 plus relative l1.

    Args:
        network: gives complex images of the coils.
        kspace: (batch, coil, readout, phase); only acquired positions are looked at, and the
            network gets those of ``seen`` alone.
        seen: part of ``acquired``.
        acquired: all that was measured.

    Returns:
        (batch,) loss of each slice; 0 is perfect, about 2 is a prediction of zeros.
    """
    judged = acquired.tensor(kspace.device) & ~seen.tensor(kspace.device)
    predicted = fourier(network.coil_images(kspace, seen))
    zero = torch.zeros((), dtype=kspace.dtype, device=kspace.device)
    measured = torch.where(judged, kspace, zero).flatten(1)
    missed = torch.where(judged, kspace - predicted, zero).flatten(1)
    parts = [_norm(missed, order) / _norm(measured, order).clamp(min=1e-20) for order in (1, 2)]
    return parts[0] + parts[1]


def _norm(values: Tensor, order: int) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(values, order, dim=-1)
    return norms
