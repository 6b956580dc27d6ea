"""Ranks by contribution: layers that matter more for the adaptation may change more.

CoLoRA (Park et al. 2024, arXiv:2408.01099) gives each layer a rank that grows with its
contribution, which FAIG (Xie et al. 2021) measures. How it grows is not published; the map here is
ours: in proportion to the square root of the contribution, at the cost of uniform ranks.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from adaptmr.continual.adapt.bases import Layer

STEPS: Final = 20
"""Points of the way from one network to the other at which gradients are taken."""
_POWER: Final = 0.5


def contributions(
    base: nn.Module,
    target: nn.Module,
    losses: Sequence[Callable[[nn.Module], Tensor]],
    steps: int = STEPS,
) -> dict[str, float]:
    """What each parameter contributes to the way from one network to another.

    The change of each weight times the mean gradient along the straight way, in absolute value,
    summed over the parameter: integrated gradients of filters (Xie et al. 2021, FAIG, NeurIPS).

    Args:
        base: where the way begins.
        target: where it ends; of the same architecture.
        losses: loss of a batch, given a network; they take turns over the steps.
        steps: points of the way.
    """
    walker = copy.deepcopy(base).requires_grad_(True)
    begin = {name: each.detach().clone() for name, each in base.named_parameters()}
    change = {name: each.detach() - begin[name] for name, each in target.named_parameters()}
    gradients = {name: torch.zeros_like(each) for name, each in begin.items()}
    for step in range(steps):
        with torch.no_grad():
            for name, each in walker.named_parameters():
                each.copy_(begin[name] + (step + 1) / steps * change[name])
        walker.zero_grad(set_to_none=True)
        losses[step % len(losses)](walker).backward()  # type: ignore[no-untyped-call]
        for name, each in walker.named_parameters():
            if each.grad is not None:
                gradients[name] += each.grad / steps
    return {name: float((change[name] * gradients[name]).abs().sum()) for name in begin}


def by_contribution(
    layers: Sequence[Layer], found: Mapping[str, float], power: float = _POWER
) -> tuple[Layer, ...]:
    """Ranks in proportion to a power of the contributions, at no more than the cost of those given.

    Args:
        layers: with the ranks that set the cost; vectors keep theirs.
        found: contribution of each layer.
        power: 0 gives all layers one rank, 1 ranks in proportion to contributions.

    Returns:
        The layers with other ranks, 0 for those that contribute next to nothing.
    """
    matrices = [layer for layer in layers if len(layer.shape) > 1]
    budget = sum(layer.rank * layer.per_rank for layer in matrices)
    mean = sum(found[layer.name] for layer in matrices) / max(1, len(matrices))
    if mean == 0:
        return tuple(layers)

    def ranks(factor: float) -> dict[str, int]:
        return {
            layer.name: min(layer.full_rank, round(factor * (found[layer.name] / mean) ** power))
            for layer in matrices
        }

    def cost(factor: float) -> int:
        given = ranks(factor)
        return sum(given[layer.name] * layer.per_rank for layer in matrices)

    low, high = 0.0, float(max(layer.full_rank for layer in matrices))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle)
    given = ranks(low)
    return tuple(
        layer.model_copy(update={"rank": given.get(layer.name, layer.rank)}) for layer in layers
    )
