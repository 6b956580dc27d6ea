"""Better masks of the same budget: many draws of which the best is kept, then swaps.

A `Scorer` says how good a mask is, larger is better: the variance it captures
(`CapturedVariance`), or minus the loss of a network that reconstructs from any mask, or whatever
else takes a mask and gives a number. No step ever lowers the score.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptmr.errors import BadInputError, UsageError
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.informed import DrawRule, informed_mask
from adaptmr.sampling.mask import Mask


class Scorer(Protocol):
    """How good a mask is; larger is better."""

    def __call__(self, mask: Mask) -> float:
        """The score of a mask; finite."""
        ...


@dataclass(frozen=True, eq=False)
class CapturedVariance:
    """Share of the high-frequency variance that a mask acquires, mean over slices.

    ``mean_n sum_k M(k) v_n(k) / sum_k v_n(k)``: by proposition 1 of Hong et al. (ECCV 2024) what
    is left is the expected squared error of the best guess, if the variances are right.

    Attributes:
        values: (slices, readout, phase) uncertainties; slices that are all zero do not count.
    """

    values: Tensor

    def __call__(self, mask: Mask) -> float:
        """The share, from 0 to 1.

        Raises:
            BadInputError: no slice has a variance.
        """
        return float((self._mean_share * mask.tensor(self.values.device)).sum())

    @cached_property
    def _mean_share(self) -> Tensor:
        """(readout, phase) share of each position, which no mask changes: mean over slices."""
        total = self.values.double().sum((-2, -1))
        counted = total > 0
        if not bool(counted.any()):
            raise BadInputError("no slice has a variance to capture", field="uncertainty")
        weight = torch.where(counted, 1 / total, 0) / counted.sum()
        return torch.einsum("n,nrp->rp", weight, self.values.double())


@dataclass(frozen=True)
class Refined:
    """What a refinement gave.

    Attributes:
        mask: the best mask found.
        scores: the score before, and after each improvement; never falling.
        evaluations: how many masks were scored.
    """

    mask: Mask
    scores: tuple[float, ...]
    evaluations: int


def best_draw(
    values: Tensor | NDArray[np.floating[Any]],
    frame: Frame,
    rule: DrawRule,
    draws: int,
    scorer: Scorer,
) -> Refined:
    """The best of many masks drawn by one rule; the first draw is `informed_mask`'s own.

    Raises:
        UsageError: no draws.
        BadInputError: a score is not finite.
    """
    if draws < 1:
        raise UsageError("there must be at least one draw", field="draws", got=draws)
    masks = (informed_mask(values, frame, rule, draw) for draw in range(draws))
    best = next(masks)
    scores = [_score(scorer, best)]
    for mask in masks:
        if (score := _score(scorer, mask)) > scores[-1]:
            best = mask
            scores.append(score)
    return Refined(best, tuple(scores), draws)


def climb(
    mask: Mask,
    weights: NDArray[np.float64],
    scorer: Scorer,
    *,
    evaluations: int,
    seed: int,
    largest: int | None = None,
) -> Refined:
    """Improve a mask by random swaps of groups of positions, kept when the score rises.

    The positions that enter are drawn in proportion to their weight and those that leave against
    it. A group starts at ``largest``, and halves after eight failures in a row, so that a costly
    scorer finds the large improvements first.

    Args:
        mask: where to start.
        weights: like the mask's positions, not negative: what the masks were drawn from.
        scorer: the goal.
        evaluations: masks to score in all, the first included.
        seed: of the swaps.
        largest: positions swapped at a time at first; a tenth of the free ones when not given.

    Raises:
        BadInputError: a score is not finite.
    """
    frame = Frame.of_mask(mask)
    generator = np.random.default_rng(seed)
    block = frame.block_only.positions
    chosen = mask.positions & ~block
    spare = int(frame.candidates.sum()) - frame.count
    group = min(max(1, frame.count // 10) if largest is None else largest, frame.count, spare)
    floor = 1e-3 * float(weights.max(initial=0.0)) or 1.0
    logarithm = np.log(weights + floor)
    scores, failures, done = [_score(scorer, mask)], 0, 1
    while group and done < evaluations:
        noise = generator.gumbel(size=weights.shape)
        entering = _top(logarithm + noise, frame.candidates & ~chosen, group)
        leaving = _top(noise - logarithm, chosen, group)
        candidate = chosen & ~leaving | entering
        score = _score(scorer, frame.mask(candidate, {}))
        done += 1
        if score > scores[-1]:
            chosen, failures = candidate, 0
            scores.append(score)
        elif (failures := failures + 1) >= 8 and group > 1:
            group, failures = group // 2, 0
    return _refined(mask, frame, chosen, scores, done, "climb")


def coordinate_descent(mask: Mask, scorer: Scorer, *, evaluations: int) -> Refined:
    """Move one position after another to where the score is best, until no move helps.

    For lines, of which there are few: each round scores ``budget x free`` masks at most. Ends at a
    mask that no single move improves, unless the evaluations are used up first.

    Args:
        mask: where to start.
        scorer: the goal.
        evaluations: masks to score in all, the first included.

    Raises:
        BadInputError: a score is not finite.
    """
    frame = Frame.of_mask(mask)
    chosen = mask.positions & ~frame.block_only.positions
    scores, done, settled = [_score(scorer, mask)], 1, False
    while not settled:
        settled = True
        for old in np.flatnonzero(chosen):
            best, best_score = chosen, scores[-1]
            for moved in _moves(chosen, frame.candidates, int(old)):
                if done >= evaluations:
                    break
                done += 1
                if (score := _score(scorer, frame.mask(moved, {}))) > best_score:
                    best, best_score = moved, score
            if best is not chosen:
                chosen, settled = best, False
                scores.append(best_score)
        if done >= evaluations:
            break
    return _refined(mask, frame, chosen, scores, done, "coordinate descent")


def scores_of(masks: Sequence[Mask], scorer: Scorer) -> tuple[float, ...]:
    """The score of each mask.

    Raises:
        BadInputError: a score is not finite.
    """
    return tuple(_score(scorer, mask) for mask in masks)


def best_of(masks: Sequence[Mask], scorer: Scorer) -> Mask:
    """The mask with the best score; of equal ones the first.

    Raises:
        BadInputError: a score is not finite.
    """
    distinct = tuple(dict.fromkeys(masks))
    return distinct[int(np.argmax(scores_of(distinct, scorer)))]


def _moves(
    chosen: NDArray[np.bool_], candidates: NDArray[np.bool_], old: int
) -> Iterator[NDArray[np.bool_]]:
    for new in np.flatnonzero(candidates & ~chosen):
        moved = chosen.copy()
        moved.flat[old], moved.flat[new] = False, True
        yield moved


def _top(keys: NDArray[np.float64], allowed: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    top = np.zeros(keys.size, dtype=np.bool_)
    top[np.argsort(-np.where(allowed, keys, -np.inf).ravel(), kind="stable")[:count]] = True
    return top.reshape(keys.shape)


def _score(scorer: Scorer, mask: Mask) -> float:
    score = float(scorer(mask))
    if not np.isfinite(score):
        raise BadInputError(
            "the score of a mask is not finite",
            field="score",
            got=score,
            hint="Check the data and the network that the scorer uses",
        )
    return score


def _refined(
    first: Mask,
    frame: Frame,
    chosen: NDArray[np.bool_],
    scores: list[float],
    done: int,
    how: str,
) -> Refined:
    if len(scores) == 1:
        return Refined(first, tuple(scores), done)
    provenance = {**first.provenance, "refined": how, "scores": [scores[0], scores[-1]]}
    return Refined(frame.mask(chosen, provenance), tuple(scores), done)
