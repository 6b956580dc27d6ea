"""Training data: batches of equal shape that share one mask."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from adaptmr.data.crop import center_crop
from adaptmr.data.manifest import MANIFEST, sha256
from adaptmr.data.scan import Scan, Stack
from adaptmr.reconstruction.training.cohort import Cohort
from adaptmr.reconstruction.training.degradations import Degradations
from adaptmr.sampling.generators import Seed, numbers
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.sources import MaskSource

# Sets the streams of random numbers of one training seed apart; 0 is the split by subject.
_ORDER, _MASK, _CHOICE, _EMPHASIS, _DEGRADE = 1, 2, 3, 5, 6


Slice = tuple[Scan, int]
"""A slice before it is read: its scan, and its index there."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Slices of one shape under one mask.

    Attributes:
        kspace: (batch, coil, readout, phase) complex, fully sampled; the mask is not yet applied.
        target: (batch, rows, columns) reference magnitude.
        data_range: (batch,) maximum of the volume that each slice is from.
        mask: the positions that the reconstruction may use.
        sources: file name and slice of each.
        whole: slices of the batch on all devices; as many as here when None.
        weight: of the mean loss of these slices among those of other devices, whose mean over the
            devices is then that over all slices of the batch.
    """

    kspace: Tensor
    target: Tensor
    data_range: Tensor
    mask: Mask
    sources: tuple[tuple[str, int], ...]
    whole: int | None = None
    weight: float = 1.0

    def under(self, mask: Mask) -> "Batch":
        """The same slices under another mask."""
        return replace(self, mask=mask)

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on ``device``."""
        return replace(
            self,
            kspace=self.kspace.to(device, non_blocking=True),
            target=self.target.to(device, non_blocking=True),
            data_range=self.data_range.to(device, non_blocking=True),
        )


@dataclass(frozen=True, eq=False)
class Plan:
    """A batch before it is read: slices as (scan, slice index), mask, seed; the rest as there."""

    slices: tuple[Slice, ...]
    masks: MaskSource
    seed: Seed
    whole: int | None = None
    weight: float = 1.0

    def share(self, rank: int, count: int) -> "Plan":
        """The part of one of several devices; a device for which nothing is left gets no weight."""
        own = self.slices[rank::count]
        whole = len(self.slices)
        weight = len(own) * count / whole
        return replace(self, slices=own or self.slices[:1], whole=whole, weight=weight)

    def read(self) -> Batch:
        """Read the slices and make the mask.

        Raises:
            BadInputError: a file is damaged.
            UsageError: the mask cannot be made at this size.
        """
        first = self.slices[0][0]
        return Batch(
            kspace=torch.stack([scan.kspace[index] for scan, index in self.slices]),
            target=torch.stack([_target(scan)[index] for scan, index in self.slices]),
            data_range=torch.tensor([_maximum(scan) for scan, _ in self.slices]),
            mask=self.masks.make(first.matrix, self.seed, first.padding),
            sources=tuple((scan.name, index) for scan, index in self.slices),
            whole=self.whole,
            weight=self.weight,
        )


class Batches(Dataset[Batch]):
    """Batches to be read, one per index.

    Args:
        plans: the batches.
        degradations: what their k-space suffers, as their seeds have it; targets stay as they are.
    """

    def __init__(self, plans: Sequence[Plan], degradations: Degradations | None = None) -> None:
        self.plans = plans
        self.degradations = degradations

    def __len__(self) -> int:
        return len(self.plans)

    def __getitem__(self, index: int) -> Batch:
        plan = self.plans[index]
        batch = plan.read()
        if self.degradations is None:
            return batch
        seed = numbers(plan.seed)
        generator = np.random.default_rng((_DEGRADE, *((seed,) if isinstance(seed, int) else seed)))
        return replace(batch, kspace=self.degradations.degrade(batch.kspace, generator))


def _target(scan: Scan) -> Stack:
    if scan.target is None:
        raise ValueError(f"{scan.name} has no target")
    return scan.target


def _maximum(scan: Scan) -> float:
    return 0.0 if scan.maximum is None else scan.maximum


def training_slices(scans: Sequence[Scan], limit: int | None, seed: int) -> tuple[Slice, ...]:
    """All slices of the scans, or ``limit`` of them taken at random."""
    slices = [(scan, index) for scan in scans for index in range(scan.slices)]
    if limit is None or limit >= len(slices):
        return tuple(slices)
    chosen = np.random.default_rng((seed, _CHOICE)).choice(len(slices), limit, replace=False)
    return tuple(slices[index] for index in sorted(chosen))


@dataclass(frozen=True, eq=False)
class Emphasis:
    """Some slices come more often than the others.

    Attributes:
        slices: those slices.
        share: of each epoch's slices, the part that is taken from these; the rest is from all.
    """

    slices: tuple[Slice, ...]
    share: float

    @property
    def fingerprint(self) -> str:
        """sha256 of the names of the slices, and the share."""
        names = [(scan.name, index) for scan, index in self.slices]
        return hashlib.sha256(repr((names, self.share)).encode()).hexdigest()

    def epoch(self, slices: Sequence[Slice], seed: int, epoch: int) -> tuple[Slice, ...]:
        """The slices of one epoch, as many as there are in all."""
        own = round(self.share * len(slices)) if self.slices else 0
        generator = np.random.default_rng((seed, _EMPHASIS, epoch))
        others = generator.permutation(len(slices))[: len(slices) - own]
        repeats = -(-own // max(1, len(self.slices)))
        turns = [generator.permutation(len(self.slices)) for _ in range(repeats)]
        favoured = np.concatenate([np.empty(0, np.int64), *turns])[:own]
        return (
            *(slices[index] for index in others),
            *(self.slices[index] for index in favoured),
        )


def training_plans(
    slices: Sequence[Slice],
    masks: Sequence[MaskSource],
    batch_size: int,
    seed: int,
    epoch: int,
) -> tuple[Plan, ...]:
    """The batches of one epoch: order and masks follow from ``(seed, epoch, index)`` alone.

    Args:
        slices: what to train on.
        masks: each batch gets one at random.
        batch_size: largest number of slices in a batch; one shape, padding and mask per batch.
        seed: seed of the training.
        epoch: number of the epoch.
    """
    generator = np.random.default_rng((seed, _ORDER, epoch))
    groups = defaultdict(list)
    for index in generator.permutation(len(slices)):
        scan, number = slices[index]
        key = (scan.kspace.shape[1:], scan.padding, _target(scan).shape[1:])
        groups[key].append((scan, number))
    batches = [
        tuple(group[start : start + batch_size])
        for group in groups.values()
        for start in range(0, len(group), batch_size)
    ]
    return tuple(
        Plan(
            batches[position],
            masks[int(generator.integers(len(masks)))],
            (seed, _MASK, epoch, index),
        )
        for index, position in enumerate(generator.permutation(len(batches)))
    )


def validation_plans(
    scans: Sequence[Scan], masks: Sequence[MaskSource], batch_size: int
) -> tuple[Plan, ...]:
    """Every slice of every scan under every kind of mask, seeded by file name: always the same.

    A source that stands in ``masks`` several times counts once.
    """
    distinct = {source.fingerprint: source for source in masks}.values()
    return tuple(
        Plan(
            tuple((scan, index) for index in range(start, min(start + batch_size, scan.slices))),
            source,
            scan.name,
        )
        for scan in scans
        for source in distinct
        for start in range(0, scan.slices, batch_size)
    )


def common_crop(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both cut to their common centre: targets have no readout oversampling, images may."""
    image = center_crop(image, (target.shape[-2], target.shape[-1]))
    return image, center_crop(target, (image.shape[-2], image.shape[-1]))


@dataclass(frozen=True, eq=False)
class Material:
    """What a training learns from.

    Attributes:
        cohort: the scans.
        masks: each batch gets a mask of one of these sources at random.
        emphasis: slices that come more often; all alike when not given.
        initial: folder of the artefact whose weights the training starts from.
        frozen: parts of the network that keep their first weights.
        degradations: what the training batches suffer; nothing when not given.
    """

    cohort: Cohort
    masks: tuple[MaskSource, ...]
    emphasis: Emphasis | None = None
    initial: Path | None = None
    frozen: tuple[str, ...] = ()
    degradations: Degradations | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """Trainings of one configuration and identity end with the same weights."""
        return {
            "data": self.cohort.fingerprint,
            "masks": [source.fingerprint for source in self.masks],
            "emphasis": None if self.emphasis is None else self.emphasis.fingerprint,
            "frozen": list(self.frozen),
            "initial": None if self.initial is None else sha256(self.initial / MANIFEST),
            "degradations": self.degradations and self.degradations.model_dump(mode="json"),
        }
