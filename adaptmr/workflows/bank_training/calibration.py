"""Intervals made honest on subjects that nothing was trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from adaptmr.data.scan import Scan, Stack
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.choice import choose
from adaptmr.reconstruction.bank.inference import image_and_width, stratum
from adaptmr.reconstruction.calibration.control import Guarantee
from adaptmr.reconstruction.calibration.intervals import (
    Calibration,
    SliceRatios,
    calibrate,
    slice_ratios,
)
from adaptmr.reconstruction.training.cohort import subject_of
from adaptmr.reconstruction.training.data import common_crop
from adaptmr.workflows.progress import track


def calibrated(
    bank: ReconstructionBank,
    scans: Sequence[Scan],
    alpha: float,
    *,
    batch_size: int = 4,
    device: torch.device | str = "cpu",
) -> Calibration:
    """Calibrate the intervals of a bank as it will be used: each slice by the pair it is given.

    Args:
        bank: with a network of widths; all of it on ``device``.
        scans: of subjects that no part of the bank was trained on, fully sampled, with targets.
        alpha: share of an object's pixels that intervals may miss.
        batch_size: slices at once.
        device: where to compute.

    Raises:
        BadInputError: a scan does not fit the bank, or none shows an object.
    """
    with torch.inference_mode():
        found = [
            ratios
            for scan in track(scans, "calibrating")
            for ratios in _ratios(bank, scan, batch_size, device)
        ]
    return calibrate(found, Guarantee(alpha=alpha))


def _ratios(
    bank: ReconstructionBank, scan: Scan, batch_size: int, device: torch.device | str
) -> Iterator[SliceRatios]:
    placed = replace(scan, kspace=Stack(scan.kspace.shape, partial(_read_to, scan, device)))
    choice = choose(placed, bank, bank.adaptation)
    assert scan.target is not None  # noqa: S101 - scans to train on have targets
    pairs = [choice.pair(index) for index in range(scan.slices)]
    for pair in sorted(set(pairs)):
        members = [index for index, chosen in enumerate(pairs) if chosen == pair]
        for first in range(0, len(members), batch_size):
            some = members[first : first + batch_size]
            kspace = torch.stack([placed.kspace[index] for index in some])
            target = torch.stack([scan.target[index] for index in some])
            image, width = image_and_width(
                bank.networks[pair], bank.width, kspace, choice.masks[pair]
            )
            assert width is not None  # noqa: S101 - as asked of the bank
            image, target = common_crop(image.float().cpu(), target)
            width, _ = common_crop(width.float().cpu(), target)
            yield from slice_ratios(
                image,
                width,
                target,
                subjects=[subject_of(scan)] * len(some),
                strata=[stratum(scan.header)] * len(some),
            )


def _read_to(scan: Scan, device: torch.device | str, start: int, stop: int) -> torch.Tensor:
    return scan.kspace[start:stop].to(device)
