"""The family of strategies: each is a basis, a rank map, a transform, gates and a penalty."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import torch
from torch import Tensor, nn

from adaptmr.continual.adapt.bases import (
    Everything,
    FixedDown,
    Layer,
    LowRank,
    Scale,
    Spectrum,
    waves,
)


class Strategy(StrEnum):
    """How the weights of a network may change."""

    FULL = "full"
    """Full fine-tuning: every weight by itself."""
    SCALE_SHIFT = "scale-shift"
    """A factor for each input channel, a shift for each bias (after Sun et al. 2019,
    arXiv:1812.02391)."""
    LOW_RANK = "low-rank"
    """Low rank, the same in all layers (Hu et al. 2021, arXiv:2106.09685)."""
    CONTRIBUTION = "contribution"
    """Low rank, higher in the layers that contribute more (Park et al. 2024, CoLoRA,
    arXiv:2408.01099)."""
    FIXED_DOWN = "fixed-down"
    """Low rank of which only one factor is trained (Po et al. 2024, arXiv:2312.02432)."""
    FOURIER = "fourier"
    """Few Fourier coefficients of each layer's change (Gao et al. 2024, arXiv:2405.03003)."""
    GATED = "gated"
    """Low rank with a penalised gate on each rank (Ding et al. 2023, SoRA, arXiv:2311.11696)."""


class Ranks(StrEnum):
    """How large the change of each layer may be."""

    UNIFORM = "uniform"
    """The rank that is asked for, everywhere."""
    CONTRIBUTION = "contribution"
    """As many numbers in all, more of them where the layer contributes more."""


@dataclass(frozen=True)
class Family:
    """What a strategy is made of.

    Attributes:
        basis: makes what the change of a tensor with several axes is spanned by; vectors (biases,
            step sizes) are shifted freely by every strategy.
        learning_rate: of Adam, unless told otherwise.
        ranks: how ranks are given to layers.
        transform: of the matrix that the basis gives.
        gate: whether each rank has a trained factor.
        penalty: weight of the gates' mean absolute value in the training loss.
    """

    basis: Callable[[Layer, torch.Generator, bool], nn.Module]
    learning_rate: float
    ranks: Ranks = Ranks.UNIFORM
    transform: Callable[[Tensor], Tensor] | None = None
    gate: bool = False
    penalty: float = 0.0

    def change(self, layer: Layer, generator: torch.Generator) -> "Change":
        """The change of one layer, zero at first."""
        basis = self.basis if len(layer.shape) > 1 else Everything
        return Change(
            basis(layer, generator, self.gate), self.transform if len(layer.shape) > 1 else None
        )

    def loss(self, changes: nn.Module) -> Tensor | float:
        """What is added to the training loss."""
        if not self.penalty:
            return 0.0
        gates = [one.gate for one in changes.modules() if isinstance(one, LowRank)]
        return self.penalty * torch.cat([each for each in gates if each is not None]).abs().mean()


class Change(nn.Module):
    """A parametrisation of one tensor: the tensor itself, and what is learned on top of it.

    Args:
        basis: gives a matrix, or a tensor of the shape of the parameter.
        transform: of it.
    """

    def __init__(self, basis: nn.Module, transform: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.basis = basis
        self.transform = transform

    def forward(self, base: Tensor) -> Tensor:
        """The tensor with the change; ``base`` itself, to the bit, while all is zero."""
        return base + self._change(base)

    def without(self, adapted: Tensor) -> Tensor:
        """The tensor before the change, up to rounding."""
        if isinstance(self.basis, Scale):
            return self.basis.without(adapted)
        return adapted - self._change(adapted)

    def _change(self, base: Tensor) -> Tensor:
        change: Tensor = self.basis(base)
        if self.transform is not None:
            change = self.transform(change)
        return change.reshape(base.shape)


FAMILY: Final[Mapping[Strategy, Family]] = {
    Strategy.FULL: Family(Everything, 1e-3),
    Strategy.SCALE_SHIFT: Family(Scale, 2e-2),
    Strategy.LOW_RANK: Family(LowRank, 4e-3),
    Strategy.CONTRIBUTION: Family(LowRank, 4e-3, ranks=Ranks.CONTRIBUTION),
    Strategy.FIXED_DOWN: Family(FixedDown, 1e-2),
    Strategy.FOURIER: Family(Spectrum, 1e-2, transform=waves),
    Strategy.GATED: Family(LowRank, 4e-3, gate=True, penalty=1e-3),
}
"""Every strategy there is."""
