"""The slices that methods are measured on, and how: one table of metrics per network and masks."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from adaptmr.data.pictures import open_pictures
from adaptmr.data.scan import Scan
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.bank.inference import stratum
from adaptmr.reconstruction.metrics import PROTOCOLS, ProtocolName
from adaptmr.reconstruction.reconstructor import Reconstructor
from adaptmr.reconstruction.training.cohort import open_scans, subject_of, subjects_of
from adaptmr.reconstruction.training.data import Slice, common_crop
from adaptmr.sampling.mask import Mask
from adaptmr.workflows.bank_training.config import PictureFolder
from adaptmr.workflows.bank_training.data import BankData, digests
from adaptmr.workflows.bank_training.steps import Step, Steps
from adaptmr.workflows.benchmark.config import BenchmarkConfig

PROTOCOL: Final = ProtocolName.SLICE
"""What all numbers are measured by."""
METRICS: Final = ("ssim", "psnr", "nmse")
"""Columns of a table."""


@dataclass(frozen=True, eq=False)
class Examined:
    """Scans, and those of their slices that have signal.

    Attributes:
        scans: fully sampled, with targets; no two of one name.
        step: stands for the scans in the keys of the steps that read them.
    """

    scans: tuple[Scan, ...]
    step: Step

    @cached_property
    def kept(self) -> Tensor:
        """(all slices,) bool, those with signal, scan by scan."""
        targets = [scan.target for scan in self.scans]
        return torch.tensor(
            [bool(image.max() > 0) for target in targets if target is not None for image in target]
        )

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """The slices with signal."""
        every = [(scan, index) for scan in self.scans for index in range(scan.slices)]
        return tuple(one for one, kept in zip(every, self.kept.tolist(), strict=True) if kept)

    @property
    def subjects(self) -> list[str]:
        """Whose each slice is."""
        return [subject_of(scan) for scan, _ in self.slices]

    @property
    def cells(self) -> list[str]:
        """Contrast and orientation of each slice."""
        return [stratum(scan.header) for scan, _ in self.slices]


def open_test(config: BenchmarkConfig, steps: Steps) -> Examined:
    """Open the scans of the test.

    Raises:
        BadInputError: there are none, one is damaged or undersampled, or fewer than two subjects.
    """
    data = config.training.data
    scans = (
        open_pictures(config.test, data.matrix)
        if isinstance(data, PictureFolder)
        else open_scans(config.test)
    )
    if len(subjects_of(scans)) < 2:
        raise BadInputError(
            "intervals over subjects need at least two of them",
            file=config.test,
            field="test",
            got=f"{len(scans)} scans of {len(subjects_of(scans))} subject",
        )
    matrix = data.matrix if isinstance(data, PictureFolder) else None
    contents = [digests(config.test, steps), matrix]
    key = hashlib.sha256(json.dumps(contents).encode()).hexdigest()
    return Examined(scans, Step("test", key, config.test))


def check_test(test: Examined, data: BankData) -> None:
    """Refuse test subjects that anything was made from, and scans of another matrix.

    Raises:
        BadInputError: a subject of the test is trained, selected or calibrated on, or a scan of the
            test is of another size.
    """
    parts = {"trained": data.training, "selected": data.selection, "calibrated": data.calibration}
    for what, scans in parts.items():
        both = sorted(set(subjects_of(test.scans)) & set(subjects_of(scans)))
        if both:
            raise BadInputError(
                f"a subject of the test is {what} on",
                file=test.step.folder,
                field="test",
                got=", ".join(both[:5]),
                expected="subjects in neither training nor calibration",
            )

    for scan in test.scans:
        if scan.matrix != data.scans[0].matrix:
            raise BadInputError(
                "a scan of the test is of another matrix than those trained on",
                file=test.step.folder / scan.name,
                field="kspace",
                got=scan.matrix,
                expected=data.scans[0].matrix,
                hint="Leave the file out, or crop it",
            )


def measure(
    network: Reconstructor,
    masks: Sequence[Mask],
    examined: Examined,
    *,
    batch_size: int = 4,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The metrics of every slice, each under its own mask.

    Args:
        network: on ``device``.
        masks: one for each of ``examined.slices``.
        examined: the slices.
        batch_size: slices at once, of one scan and mask.
        device: where to compute.

    Returns:
        (slices, 3) float64, columns as `METRICS`.
    """
    groups: dict[tuple[str, Mask], list[int]] = {}
    for position, ((scan, _), mask) in enumerate(zip(examined.slices, masks, strict=True)):
        groups.setdefault((scan.name, mask), []).append(position)
    found = torch.empty(len(examined.slices), len(METRICS), dtype=torch.float64)
    for (_, mask), members in groups.items():
        for first in range(0, len(members), batch_size):
            some = members[first : first + batch_size]
            images, targets = _reconstructed(
                network, mask, [examined.slices[position] for position in some], device
            )
            for position, image, target in zip(some, images, targets, strict=True):
                one = PROTOCOLS[PROTOCOL](image[None], target[None])
                psnr = float("inf") if one.psnr is None else one.psnr
                found[position] = torch.tensor((one.ssim, psnr, one.nmse), dtype=torch.float64)
    return found


def _reconstructed(
    network: Reconstructor, mask: Mask, slices: Sequence[Slice], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Images and targets, (slices, rows, columns) each, on the CPU."""
    kspace = torch.stack([scan.kspace[index] for scan, index in slices]).to(device)
    targets = [scan.target[index] for scan, index in slices if scan.target is not None]
    with torch.inference_mode():
        image = network(kspace, mask).float().cpu()
    return common_crop(image, torch.stack(targets))
