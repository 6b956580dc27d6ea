"""Selectors: which mask of a bank suits a slice.

Each turns `Evidence` into one score per slice and mask, larger is better, NaN where it cannot
judge. `adaptmr.sampling.selection` makes decisions of the scores.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from adaptmr.data.scan import Header
from adaptmr.errors import UsageError
from adaptmr.sampling.bank import MaskBank, check_losses
from adaptmr.sampling.low_frequency import LowFrequency
from adaptmr.sampling.uncertainty import UncertaintyMap


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a selector may look at.

    Attributes:
        low_frequency: the slices' low-frequency data.
        uncertainty: their high-frequency uncertainty, where a sampler was run.
        header: what the scan says about itself.
        positions: (batch,) where each slice lies in its volume, from 0 (first) to 1 (last).
        losses: (batch, J) true loss of every mask; exists only in retrospect, for `Oracle`.
    """

    low_frequency: LowFrequency
    uncertainty: UncertaintyMap | None = None
    header: Header | None = None
    positions: Tensor | None = None
    losses: Tensor | None = None


class Selector(Protocol):
    """Scores every mask for every slice."""

    @property
    def name(self) -> str:
        """Name of the rule, as it stands in records and tables."""
        ...

    @property
    def needs_uncertainty(self) -> bool:
        """Whether a sampler must be run first."""
        ...

    def scores(self, evidence: Evidence, bank: MaskBank) -> Tensor:
        """(batch, J) scores, larger is better; NaN where the rule cannot judge."""
        ...


def euclidean(values: Tensor, centroids: Tensor) -> Tensor:
    """Minus the Euclidean distance, (batch, J): what `KMeans.predict` goes by."""
    return -torch.stack([(values - centre).flatten(1).norm(dim=1) for centre in centroids], 1)


def cosine(values: Tensor, centroids: Tensor) -> Tensor:
    """Cosine of the angle between uncertainty and centroid, (batch, J)."""
    return _direction(values.flatten(1)) @ _direction(centroids.flatten(1)).T


def correlation(values: Tensor, centroids: Tensor) -> Tensor:
    """Pearson correlation of uncertainty and centroid over all of k-space, (batch, J)."""
    flat, centres = values.flatten(1), centroids.flatten(1)
    return (
        _direction(flat - flat.mean(1, keepdim=True))
        @ _direction(centres - centres.mean(1, keepdim=True)).T
    )


class Similarity(StrEnum):
    """How an uncertainty is compared with a centroid."""

    EUCLIDEAN = "euclidean"
    COSINE = "cosine"
    CORRELATION = "correlation"


_SIMILARITIES: dict[Similarity, Callable[[Tensor, Tensor], Tensor]] = {
    Similarity.EUCLIDEAN: euclidean,
    Similarity.COSINE: cosine,
    Similarity.CORRELATION: correlation,
}


@dataclass(frozen=True)
class NearestCentroid:
    """The mask of the centroid that is most similar to the slice's uncertainty.

    Attributes:
        similarity: how they are compared.
    """

    similarity: Similarity = Similarity.EUCLIDEAN
    needs_uncertainty: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Nearest centroid, with the similarity."""
        return f"nearest centroid ({self.similarity.value})"

    def scores(self, evidence: Evidence, bank: MaskBank) -> Tensor:
        """(batch, J) similarities."""
        found = required_uncertainty(evidence)
        compared = _SIMILARITIES[self.similarity](found.values, bank.centroids.to(found.values))
        return _where_known(found, compared)


@dataclass(frozen=True)
class Captured:
    """The mask that acquires most of the predicted high-frequency variance."""

    name: ClassVar[str] = "captured variance"
    needs_uncertainty: ClassVar[bool] = True

    def scores(self, evidence: Evidence, bank: MaskBank) -> Tensor:
        """(batch, J) shares of the variance, 0 to 1."""
        found = required_uncertainty(evidence)
        total = found.values.sum((-2, -1)).clamp(min=torch.finfo(found.values.dtype).tiny)
        shares = [
            (found.values * mask.tensor(found.values.device)).sum((-2, -1)) / total
            for mask in bank.masks
        ]
        return _where_known(found, torch.stack(shares, 1))


@dataclass(frozen=True)
class FixedBest:
    """The bank's fixed best mask for every slice: no adaptivity at all."""

    name: ClassVar[str] = "fixed best"
    needs_uncertainty: ClassVar[bool] = False

    def scores(self, evidence: Evidence, bank: MaskBank) -> Tensor:
        """(batch, J): 1 for the best mask, 0 for the others."""
        scores = torch.zeros(evidence.low_frequency.batch, len(bank))
        scores[:, bank.best] = 1
        return scores


@dataclass(frozen=True)
class Uniform:
    """A mask at random, each as likely as the other.

    The draw belongs to the slice's data, so it does not depend on the slices around it.

    Attributes:
        seed: another seed, other choices.
    """

    seed: int = 0
    name: ClassVar[str] = "uniform"
    needs_uncertainty: ClassVar[bool] = False

    def scores(self, evidence: Evidence, bank: MaskBank) -> Tensor:
        """(batch, J) uniform random numbers."""
        rows = [
            np.random.default_rng((self.seed, int(inputs[:16], 16))).random(len(bank))
            for inputs in evidence.low_frequency.fingerprints
        ]
        return torch.from_numpy(np.stack(rows))


@dataclass(frozen=True)
class Oracle:
    """The mask that turned out best: the bound for every other selector."""

    name: ClassVar[str] = "oracle"
    needs_uncertainty: ClassVar[bool] = False

    def scores(self, evidence: Evidence, bank: MaskBank) -> Tensor:
        """(batch, J): minus the true losses.

        Raises:
            UsageError: there are no losses.
        """
        if evidence.losses is None:
            raise UsageError(
                "the oracle needs the loss of every mask",
                field="losses",
                expected=f"({evidence.low_frequency.batch}, {len(bank)}) losses",
                hint="Reconstruct with every mask first; a prospective scan has no oracle",
            )
        check_losses(evidence.losses, len(bank), evidence.low_frequency.batch)
        return -evidence.losses


def required_uncertainty(evidence: Evidence) -> UncertaintyMap:
    """The uncertainty of the evidence.

    Raises:
        UsageError: there is none.
    """
    if evidence.uncertainty is None:
        raise UsageError(
            "this selector needs the slices' uncertainty",
            field="sampler",
            hint="Give a sampler, or choose a selector that does without",
        )
    return evidence.uncertainty


def _direction(flat: Tensor) -> Tensor:
    length = flat.norm(dim=1, keepdim=True)
    return flat / torch.where(length > 0, length, torch.ones_like(length))


def _where_known(uncertainty: UncertaintyMap, scores: Tensor) -> Tensor:
    return torch.where(uncertainty.known[:, None], scores, torch.nan)
