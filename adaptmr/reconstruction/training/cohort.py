"""Whose scans are trained on: opened, checked, split by subject."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adaptmr.data.fastmri import read_scan
from adaptmr.data.scan import Scan
from adaptmr.data.target import with_target
from adaptmr.errors import BadInputError

# Sets the split of a training seed apart from its other streams of random numbers (see `data`).
_SPLIT = 0


@dataclass(frozen=True, eq=False)
class Cohort:
    """Scans to train and to validate on, no subject in both.

    Attributes:
        training: scans to train on.
        validation: scans to validate on; may be none.
        fingerprint: identity of the data that they were split from.
    """

    training: tuple[Scan, ...]
    validation: tuple[Scan, ...]
    fingerprint: str

    @property
    def scans(self) -> tuple[Scan, ...]:
        """All scans."""
        return self.training + self.validation

    @property
    def description(self) -> dict[str, Any]:
        """What a provenance says of the data."""
        return {
            "fingerprint": self.fingerprint,
            "training_subjects": subjects_of(self.training),
            "validation_subjects": subjects_of(self.validation),
            "volumes": len(self.scans),
            "slices": sum(scan.slices for scan in self.scans),
        }


def open_cohort(folder: Path, validation_fraction: float, seed: int) -> Cohort:
    """Open the scans of a folder, split by subject.

    Raises:
        BadInputError: as `open_scans` and `split_by_subject`.
    """
    scans = open_scans(folder)
    training, validation = split_by_subject(scans, validation_fraction, seed)
    return Cohort(training, validation, fingerprint(folder, scans))


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
    if not (scan.maximum or 0.0) > 0:
        raise BadInputError(
            "the target is zero everywhere",
            file=file,
            field="max",
            got=scan.maximum,
            hint="Move the file out of the folder",
        )
    return scan


def subject_of(scan: Scan) -> str:
    """The subject of a scan; a scan that names none is a subject of its own."""
    return scan.header.subject or scan.name


def split_by_subject(
    scans: Sequence[Scan], fraction: float, seed: int, *, field: str = "validation_fraction"
) -> tuple[tuple[Scan, ...], tuple[Scan, ...]]:
    """Scans for training and for validation, no subject in both.

    Args:
        scans: all scans.
        fraction: share of the subjects for validation; at least one when it is positive.
        seed: seed of the choice.
        field: the option that the fraction is from, for messages.

    Raises:
        BadInputError: validation is asked for, and there is only one subject.
    """
    subjects = subjects_of(scans)
    count = max(1, round(fraction * len(subjects))) if fraction > 0 else 0
    if count >= len(subjects):
        raise BadInputError(
            "there are too few subjects to keep some out of the training",
            field=field,
            got=f"{len(subjects)} subjects, {count} of them to keep out",
            hint=f"Add subjects, or set {field} to 0",
        )
    order = np.random.default_rng((seed, _SPLIT)).permutation(len(subjects))
    held_out = {subjects[index] for index in order[:count]}
    return (
        tuple(scan for scan in scans if subject_of(scan) not in held_out),
        tuple(scan for scan in scans if subject_of(scan) in held_out),
    )


def subjects_of(scans: Sequence[Scan]) -> list[str]:
    """The subjects of scans, each once, in order."""
    return sorted({subject_of(scan) for scan in scans})


def fingerprint(folder: Path, scans: Sequence[Scan]) -> str:
    """sha256 over name, length, shape and subject of each file; not over its content."""
    listing = [
        [scan.name, (folder / scan.name).stat().st_size, scan.kspace.shape, subject_of(scan)]
        for scan in scans
    ]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()
