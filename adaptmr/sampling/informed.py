"""From an uncertainty to a mask: sorted, drawn, or mixed; the budget is always met exactly.

Every law here is a ranking of the candidates, of which the first ``count`` are acquired:

* *sorted*: by weight. Optimal for the mean squared error of the best linear guess (Hong et al.,
  ECCV 2024, proposition 1), but harmful to SSIM of learned reconstruction (the same, ablation).
* *weighted*: by ``power * log(weight)`` plus Gumbel noise, which is the published draw without
  replacement (Plackett-Luce law; Kool et al., "Stochastic beams and where to find them", 2019).
* *capped*: inclusion probability exactly ``min(1, c * weight)``, by randomised systematic
  sampling (Madow, 1949); exact when nothing is sorted first and no mirrored position passed over.
* *spaced*: about that probability, but at a distance from each other that follows it
  (`adaptmr.sampling.draws.spaced`), as parallel imaging needs.

Positions without weight come last, nearest to the centre first.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from adaptmr.errors import BadInputError
from adaptmr.sampling.draws import radius, spaced
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.uncertainty import UncertaintyMap

_SMALLEST = float(np.finfo(np.float64).tiny)


class Law(StrEnum):
    """How the positions that are not sorted are drawn."""

    WEIGHTED = "weighted"
    """One after another, each with its share of the weight that is left."""
    CAPPED = "capped"
    """Inclusion in proportion to the weight, capped at one."""
    SPACED = "spaced"
    """The same on average over a neighbourhood, but no two positions close together: for several
    coils, whose reconstruction fills small gaps."""


class DrawRule(BaseModel):
    """How a mask is made of weights. The defaults are the published ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    law: Law = Law.WEIGHTED
    seed: int = Field(default=42, ge=0)
    """The same for all masks of a bank, so that masks differ by their centroids alone."""
    power: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Exponent of the weights before the draw."""
    sort_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of the positions, rounded down, that is taken from the top before the draw."""
    one_of_mirrored: bool = False
    """Whether position -k is passed over once k is acquired, so long as others are left: with a
    smooth image phase it tells little new (Hermitian symmetry)."""


def informed_mask(
    values: Tensor | NDArray[np.floating[Any]],
    frame: Frame,
    rule: DrawRule,
    draw: int = 0,
) -> Mask:
    """A mask that follows an uncertainty.

    Args:
        values: (readout, phase) uncertainty or centroid.
        frame: lines or points, block, budget.
        rule: how to draw.
        draw: number of the draw; further ones are independent masks of the same rule.

    Raises:
        BadInputError: the uncertainty is of another matrix, negative or not finite.
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    weights = frame.weights(array)
    generator = np.random.default_rng((rule.seed, draw) if draw else rule.seed)
    chosen = draw_positions(
        weights, frame.candidates, frame.block_only.positions, frame.count, rule, generator
    )
    return frame.mask(
        chosen,
        {
            "generator": "uncertainty",
            "rule": rule.model_dump(mode="json"),
            "draw": draw,
            "filled": max(0, frame.count - int(((weights > 0) & frame.candidates).sum())),
        },
    )


def own_mask(uncertainty: UncertaintyMap, index: int, frame: Frame, rule: DrawRule) -> Mask:
    """The mask of one slice's own uncertainty: the limit of a bank with a mask for every slice.

    Raises:
        BadInputError: the slice's uncertainty is not known.
    """
    if not bool(uncertainty.known[index]):
        raise BadInputError(
            "the slice's uncertainty is not known",
            slice_index=index,
            field="uncertainty",
            got=f"{int(uncertainty.usable[index])} usable samples",
            hint="Choose from a bank, which has a mask to fall back on",
        )
    return informed_mask(uncertainty.values[index], frame, rule)


def draw_positions(
    weights: NDArray[np.float64],
    candidates: NDArray[np.bool_],
    block: NDArray[np.bool_],
    count: int,
    rule: DrawRule,
    generator: np.random.Generator,
) -> NDArray[np.bool_]:
    """Choose exactly ``count`` of the candidates.

    Args:
        weights: not negative, any shape.
        candidates: bool, the same shape.
        block: bool, the same shape: positions that are acquired in any case.
        count: how many.
        rule: how.
        generator: where the randomness comes from; as much of it is used whatever the weights.

    Raises:
        BadInputError: there are fewer candidates than that.
    """
    if not 0 <= count <= int(candidates.sum()):
        raise BadInputError(
            "there are fewer positions than the budget",
            field="budget",
            got=f"{int(candidates.sum())} positions",
            expected=f"at least {count}",
        )
    shape = weights.shape
    noise, start = generator.gumbel(size=shape), generator.random()
    with np.errstate(divide="ignore"):
        # The logarithm of the largest is 0, whatever the units.
        logarithm = rule.power * np.log(weights / max(weights.max(initial=0.0), _SMALLEST))
    taken = np.zeros(weights.size, dtype=np.bool_)
    order = _ranking(logarithm, candidates)
    if rule.one_of_mirrored:
        order = _mirrored_last(order, shape, block.ravel())
    taken[order[: int(rule.sort_fraction * count)]] = True
    short = count - int(taken.sum())
    left = candidates & ~taken.reshape(shape)
    if rule.law is Law.WEIGHTED:
        order = _ranking(logarithm + noise, left)
    elif rule.law is Law.CAPPED:
        order = _systematic(logarithm, noise, left, short, start)
    else:
        order = _spaced(logarithm, left, short, generator)
    if rule.one_of_mirrored:
        order = _mirrored_last(order, shape, block.ravel() | taken)
    taken[order[:short]] = True
    return taken.reshape(shape)


def inclusion(weights: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """``min(1, c * weights)`` with ``c`` such that the sum is ``count``; weights are positive.

    Args:
        weights: (n,) positive.
        count: at most ``n``.
    """
    descending = np.sort(weights)[::-1]
    # With the m largest capped, c shares out what is left among the others.
    rest = np.cumsum(descending[::-1])[::-1]
    capped = np.arange(len(weights))
    scale = (count - capped) / rest
    m = int(np.argmax(scale * descending <= 1))
    return np.minimum(1.0, scale[m] * weights) if count < len(weights) else np.ones_like(weights)


def mirrored(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Flat index of ``-k`` for each flat index of ``k``; the centre is ``n // 2``.

    The first position of an even axis is its own mirror.
    """
    axes = [(2 * (size // 2) - np.arange(size)) % size for size in shape]
    grid = np.meshgrid(*axes, indexing="ij")
    flat: NDArray[np.int64] = np.ravel_multi_index(tuple(grid), shape).ravel()
    return flat


def _ranking(keys: NDArray[np.float64], allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Flat indices of the allowed positions, largest key first; -inf last, nearest first."""
    index = np.flatnonzero(allowed)
    key, near = keys.ravel()[index], radius(keys.shape).ravel()[index]
    ranking: NDArray[np.int64] = index[np.lexsort((index, near, -key))]
    return ranking


def _drawn_first(
    logarithm: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    count: int,
    draw: Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.bool_]],
) -> NDArray[np.int64]:
    """A ranking of the allowed whose first ``count`` are those of a draw.

    Args:
        logarithm: of the weights.
        allowed: bool, the same shape.
        count: how many to draw; all that have weight come first when they are no more than that.
        draw: gives the positions drawn (flat bool) from the flat weights and the flat indices of
            those that are allowed and positive.
    """
    ranking = _ranking(logarithm, allowed)
    weight = np.exp(logarithm.ravel())
    positive = ranking[weight[ranking] > 0]
    if not 0 < count < len(positive):
        return ranking
    hit = draw(weight, positive)
    return np.concatenate((ranking[hit[ranking]], ranking[~hit[ranking]]))


def _systematic(
    logarithm: NDArray[np.float64],
    noise: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    count: int,
    start: float,
) -> NDArray[np.int64]:
    """A ranking whose first ``count`` are a randomised systematic sample of the allowed."""

    def draw(weight: NDArray[np.float64], positive: NDArray[np.int64]) -> NDArray[np.bool_]:
        shuffled = positive[np.argsort(noise.ravel()[positive], kind="stable")]
        passed = np.cumsum(inclusion(weight[shuffled], count))
        hits = np.searchsorted(
            passed * (count / passed[-1]), np.arange(count) + start, side="right"
        )
        hit = np.zeros(logarithm.size, dtype=np.bool_)
        # Rounding may let two hits fall together; the heaviest of the others makes up for it.
        hit[shuffled[np.minimum(hits, len(shuffled) - 1)]] = True
        return hit

    return _drawn_first(logarithm, allowed, count, draw)


def _spaced(
    logarithm: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    count: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """A ranking whose first ``count`` are the spaced draw from the allowed."""

    def draw(weight: NDArray[np.float64], positive: NDArray[np.int64]) -> NDArray[np.bool_]:
        density = np.zeros(logarithm.size)
        density[positive] = inclusion(weight[positive], count)
        candidates = np.zeros(logarithm.size, dtype=np.bool_)
        candidates[positive] = True
        shape = logarithm.shape
        return spaced(density.reshape(shape), candidates.reshape(shape), count, generator).ravel()

    return _drawn_first(logarithm, allowed, count, draw)


def _mirrored_last(
    order: NDArray[np.int64], shape: tuple[int, ...], acquired: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The order with every position at its end whose mirror is acquired or comes earlier."""
    mirror = mirrored(shape)
    rank = np.full(acquired.size, len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    rank[acquired] = -1
    late = rank[mirror[order]] < rank[order]
    return np.concatenate((order[~late], order[late]))
