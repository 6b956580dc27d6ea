"""From probabilities to masks of an exact budget, with a gradient to learn the probabilities by.

LOUPE (Bahadir et al., IPMI 2019, arXiv:1901.01960) draws each position on its own, and its
descendants draw again until the budget is met nearly. Here the budget is met exactly, at once: of
the keys ``logit(p) - logit(u)``, ``u`` uniform, the largest are taken. This is Pareto sampling
(Rosen, "On sampling with probability proportional to size", 1997), whose inclusion probabilities
are ``p`` almost exactly, as those of the repeated draws are; the more common Gumbel top-k on
``log(p)`` (Plackett-Luce law) would leave out positions with ``p = 1``.

With ``tau`` between the last key taken and the first one left out, a position is taken where
``p > t = sigmoid(logit(u) + tau)``. The gradient is that of ``sigmoid(12 (p - t))`` in place of the
step, ``t`` held fixed (straight-through; slope of Hong et al., ECCV 2024).
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptmr.sampling.frame import Frame
from adaptmr.sampling.informed import DrawRule, draw_positions
from adaptmr.sampling.mask import Mask

SLOPE = 12.0
"""Of the sigmoid whose derivative stands in for that of the step."""

_SORTED = DrawRule(sort_fraction=1.0)


def to_budget(values: Tensor, frame: Frame) -> Tensor:
    """Rescale to probabilities that sum to the budget.

    With ``alpha`` the share of candidates to choose: ``x alpha / mean`` where the mean is higher,
    else ``1 - (1 - x) (1 - alpha) / (1 - mean)`` (Bahadir et al., section 2.2).

    Args:
        values: (..., *positions) from 0 to 1.
        frame: which positions are candidates, and how many of them to choose.

    Returns:
        The same shape; 1 in the low-frequency block, 0 where no position exists.
    """
    candidates = _tensor(frame.candidates, values)
    number = int(candidates.sum())
    alpha = frame.count / number
    axes = tuple(range(-frame.axes, 0))
    mean = torch.where(candidates, values, 0).sum(axes, keepdim=True) / number
    # The bounds matter only where the other case is taken: there they keep gradients finite.
    lowered = values * (alpha / mean.clamp(min=alpha))
    smallest = torch.finfo(values.dtype).tiny
    raised = 1 - (1 - values) * ((1 - alpha) / (1 - mean).clamp(min=max(1 - alpha, smallest)))
    block = _tensor(frame.block_only.positions, values).to(values.dtype)
    return torch.where(candidates, torch.where(mean > alpha, lowered, raised), block)


def draw(probabilities: Tensor, frame: Frame, generator: torch.Generator) -> Tensor:
    """Draw masks of the exact budget.

    Args:
        probabilities: (..., *positions) of `to_budget`.
        frame: block, candidates and budget.
        generator: where the randomness comes from.

    Returns:
        (..., *positions) of exact zeros and ones; gradients as the module describes.
    """
    uniform = torch.rand(
        probabilities.shape,
        generator=generator,
        dtype=probabilities.dtype,
        device=generator.device,
    ).to(probabilities.device)
    taken, threshold = _pareto(probabilities.detach(), uniform, frame)
    relaxed = torch.sigmoid(SLOPE * (probabilities - threshold))
    return taken + (relaxed - relaxed.detach())


def _pareto(probabilities: Tensor, uniform: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Zeros and ones, and the threshold ``t`` of each probability."""
    least = torch.finfo(probabilities.dtype).eps
    against = torch.logit(uniform, least)
    keys = torch.where(
        _tensor(frame.candidates, probabilities),
        torch.logit(probabilities, least) - against,
        -torch.inf,
    ).flatten(-frame.axes)
    ranked = keys.sort(dim=-1, descending=True, stable=True)
    after = ranked.values[..., frame.count] if frame.count < keys.shape[-1] else -torch.inf
    tau = (ranked.values[..., frame.count - 1] + after) / 2
    block = _tensor(frame.block_only.positions, probabilities).to(probabilities.dtype)
    taken = block.expand_as(probabilities).flatten(-frame.axes)
    taken = taken.scatter(-1, ranked.indices[..., : frame.count], 1.0).view_as(probabilities)
    return taken, torch.sigmoid(against + tau[(..., *(None,) * frame.axes)])


class _Measured(torch.autograd.Function):
    """K-space where the mask is one, else zero; gradients as of the product."""

    @staticmethod
    def forward(ctx: Any, kspace: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(kspace, mask)
        # A product would leave -0.0, and with it the sign of what was not measured.
        return torch.where(
            mask > 0, kspace, torch.zeros((), dtype=kspace.dtype, device=kspace.device)
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        kspace, mask = ctx.saved_tensors
        to_mask = (gradient.conj() * kspace).real.sum_to_size(mask.shape)
        return torch.where(mask > 0, gradient, 0), to_mask


def measured(kspace: Tensor, drawn: Tensor) -> Tensor:
    """What masks leave of k-space, with the gradient that a product would give the masks.

    Args:
        kspace: (batch, coil, readout, phase) complex.
        drawn: (n, phase) or (n, readout, phase) zeros and ones, n either 1 or batch.

    Returns:
        (batch, coil, readout, phase), positive zero outside the masks.
    """
    mask = drawn[:, None, None, :] if drawn.ndim == 2 else drawn[:, None]
    result: Tensor = _Measured.apply(kspace, mask)  # type: ignore[no-untyped-call]
    return result


def most_probable(
    probabilities: Tensor, frame: Frame, provenance: list[dict[str, Any]]
) -> tuple[Mask, ...]:
    """The masks of the most probable positions; of equally probable ones those nearest the centre.

    Args:
        probabilities: (n, *positions).
        frame: block, candidates and budget.
        provenance: of each mask.
    """
    generator = np.random.default_rng(0)  # asked for, but of no effect where all is sorted
    block = frame.block_only.positions
    arrays = probabilities.detach().double().cpu().numpy()
    return tuple(
        frame.mask(
            draw_positions(array, frame.candidates, block, frame.count, _SORTED, generator), origin
        )
        for array, origin in zip(arrays, provenance, strict=True)
    )


def as_mask(drawn: Tensor, frame: Frame) -> Mask:
    """Drawn zeros and ones, (*positions), as a mask."""
    return frame.mask(drawn.detach().cpu().numpy() > 0, {"generator": "training draw"})


def _tensor(positions: NDArray[np.bool_], like: Tensor) -> Tensor:
    return torch.from_numpy(positions.copy()).to(like.device)
