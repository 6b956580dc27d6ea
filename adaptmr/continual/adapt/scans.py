"""Scans of a new site to adapt to: fully sampled, or as they were acquired."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from adaptmr.data.fastmri import read_scan
from adaptmr.data.scan import Scan, Stack
from adaptmr.data.target import image_size
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.training.cohort import (
    Cohort,
    fingerprint,
    open_scans,
    split_by_subject,
)


def open_scans_to_adapt_to(folder: Path, validation_fraction: float, seed: int) -> Cohort:
    """Open the fastMRI files (``*.h5``) of a folder, split by subject.

    Undersampled scans come with an image of zeros in place of a target, which nothing looks at.

    Raises:
        BadInputError: no file, one that is damaged, too few subjects, or scans of both kinds.
    """
    files = sorted(folder.glob("*.h5"))
    found = [read_scan(file) for file in files]
    complete = [scan for scan in found if scan.fully_sampled]
    if found and not complete:
        scans = tuple(map(_without_target, found))
    elif len(complete) < len(found):
        raise BadInputError(
            "some scans are fully sampled and some are not",
            file=folder,
            got=f"{len(complete)} of {len(found)} fully sampled",
            expected="scans of one kind: they are learned from in different ways",
            hint="Put them into two folders, and adapt to one",
        )
    else:
        scans = open_scans(folder)
    split = split_by_subject(scans, validation_fraction, seed)
    return Cohort(*split, fingerprint(folder, scans))


def _without_target(scan: Scan) -> Scan:
    size = image_size(replace(scan, target=None))
    shape = (scan.slices, *size)
    return replace(scan, target=Stack(shape, partial(_zeros, size)), maximum=0.0)


def _zeros(size: tuple[int, int], start: int, stop: int) -> Tensor:
    return torch.zeros(stop - start, *size)
