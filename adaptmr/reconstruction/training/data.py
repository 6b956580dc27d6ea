"""Training data: scans split by subject, batches of equal shape that share one mask."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from adaptmr.data.crop import center_crop
from adaptmr.data.fastmri import read_scan
from adaptmr.data.scan import Scan, Stack
from adaptmr.data.target import with_target
from adaptmr.errors import BadInputError
from adaptmr.sampling.generators import MaskSpec, Seed, make_mask
from adaptmr.sampling.mask import Mask

# Sets the streams of random numbers of one training seed apart.
_SPLIT, _ORDER, _MASK, _CHOICE = range(4)


@dataclass(frozen=True, eq=False)
class Batch:
    """Slices of one shape under one mask.

    Attributes:
        kspace: (batch, coil, readout, phase) complex, fully sampled; the mask is not yet applied.
        target: (batch, rows, columns) reference magnitude.
        data_range: (batch,) maximum of the volume that each slice is from.
        mask: the positions that the reconstruction may use.
        sources: file name and slice of each.
    """

    kspace: Tensor
    target: Tensor
    data_range: Tensor
    mask: Mask
    sources: tuple[tuple[str, int], ...]

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
    """A batch before it is read: slices as (scan, slice index), the mask, and its seed."""

    slices: tuple[tuple[Scan, int], ...]
    masks: MaskSpec
    seed: Seed

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
            mask=make_mask(self.masks, first.matrix, seed=self.seed, padding=first.padding),
            sources=tuple((scan.name, index) for scan, index in self.slices),
        )


class Batches(Dataset[Batch]):
    """Batches to be read, one per index."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.plans = plans

    def __len__(self) -> int:
        return len(self.plans)

    def __getitem__(self, index: int) -> Batch:
        return self.plans[index].read()


def open_scans(folder: Path) -> tuple[Scan, ...]:
    """Open all fastMRI files (``*.h5``) of a folder, in the order of their names.

    A scan without reference images gets the root sum of squares of its k-space as target.

    Raises:
        BadInputError: no file, or one that is damaged, undersampled or empty.
    """
    files = sorted(folder.glob("*.h5"))
    if not files:
        raise BadInputError(
            "there is nothing to train on",
            file=folder,
            got="no .h5 file" if folder.is_dir() else "no such folder",
            expected="a folder of fastMRI HDF5 files",
            hint="Make some with 'adaptmr simulate', or name another folder",
        )
    return tuple(_trainable(read_scan(file), file) for file in files)


def _trainable(scan: Scan, file: Path) -> Scan:
    if not scan.fully_sampled:
        raise BadInputError(
            "an undersampled scan cannot be trained on",
            file=file,
            got=f"{scan.acceleration:.2f} times undersampled k-space",
            expected="fully sampled k-space",
            hint="Move the file out of the folder",
        )
    if scan.target is None:
        scan = with_target(scan)
    if not _maximum(scan) > 0:
        raise BadInputError(
            "the target is zero everywhere",
            file=file,
            field="max",
            got=scan.maximum,
            hint="Move the file out of the folder",
        )
    return scan


def _target(scan: Scan) -> Stack:
    if scan.target is None:
        raise ValueError(f"{scan.name} has no target")
    return scan.target


def _maximum(scan: Scan) -> float:
    return 0.0 if scan.maximum is None else scan.maximum


def subject_of(scan: Scan) -> str:
    """The subject of a scan; a scan that names none is a subject of its own."""
    return scan.header.subject or scan.name


def split_by_subject(
    scans: Sequence[Scan], fraction: float, seed: int
) -> tuple[tuple[Scan, ...], tuple[Scan, ...]]:
    """Scans for training and for validation, no subject in both.

    Args:
        scans: all scans.
        fraction: share of the subjects for validation; at least one when it is positive.
        seed: seed of the choice.

    Raises:
        BadInputError: validation is asked for, and there is only one subject.
    """
    subjects = sorted({subject_of(scan) for scan in scans})
    count = max(1, round(fraction * len(subjects))) if fraction > 0 else 0
    if count >= len(subjects):
        raise BadInputError(
            "there are too few subjects to keep some for validation",
            field="validation_fraction",
            got=f"{len(subjects)} subjects, {count} of them for validation",
            hint="Add subjects, or set validation_fraction to 0",
        )
    order = np.random.default_rng((seed, _SPLIT)).permutation(len(subjects))
    held_out = {subjects[index] for index in order[:count]}
    return (
        tuple(scan for scan in scans if subject_of(scan) not in held_out),
        tuple(scan for scan in scans if subject_of(scan) in held_out),
    )


def training_slices(
    scans: Sequence[Scan], limit: int | None, seed: int
) -> tuple[tuple[Scan, int], ...]:
    """All slices of the scans, or ``limit`` of them taken at random."""
    slices = [(scan, index) for scan in scans for index in range(scan.slices)]
    if limit is None or limit >= len(slices):
        return tuple(slices)
    chosen = np.random.default_rng((seed, _CHOICE)).choice(len(slices), limit, replace=False)
    return tuple(slices[index] for index in sorted(chosen))


def training_plans(
    slices: Sequence[tuple[Scan, int]],
    masks: Sequence[MaskSpec],
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
    scans: Sequence[Scan], masks: Sequence[MaskSpec], batch_size: int
) -> tuple[Plan, ...]:
    """Every slice of every scan under every kind of mask, seeded by file name: always the same."""
    return tuple(
        Plan(
            tuple((scan, index) for index in range(start, min(start + batch_size, scan.slices))),
            spec,
            scan.name,
        )
        for scan in scans
        for spec in masks
        for start in range(0, scan.slices, batch_size)
    )


def common_crop(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both cut to their common centre: targets have no readout oversampling, images may."""
    image = center_crop(image, (target.shape[-2], target.shape[-1]))
    return image, center_crop(target, (image.shape[-2], image.shape[-1]))


def fingerprint(folder: Path, scans: Sequence[Scan]) -> str:
    """sha256 over name, length, shape and subject of each file; not over its content."""
    listing = [
        [scan.name, (folder / scan.name).stat().st_size, scan.kspace.shape, subject_of(scan)]
        for scan in scans
    ]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()
