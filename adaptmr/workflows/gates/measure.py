"""From a bank and folders of test scans to the evidence that the gates judge."""

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

import torch
from pydantic import JsonValue
from torch import Tensor

from adaptmr.continual.task import Task
from adaptmr.data.manifest import sha256
from adaptmr.data.scan import Scan, Stack
from adaptmr.efficiency.accelerate import accelerate
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.inference import BankReconstruction
from adaptmr.reconstruction.bank.judgement import judge_scan
from adaptmr.reconstruction.bank.persistence import fingerprint, load
from adaptmr.reconstruction.consistency import data_consistency_residual
from adaptmr.reconstruction.metrics import PROTOCOLS, ProtocolName
from adaptmr.reconstruction.training.cohort import open_scans, subject_of
from adaptmr.workflows.device import usable_device
from adaptmr.workflows.gates.evidence import (
    Better,
    CaseValue,
    Evidence,
    Intervals,
    Measurement,
)
from adaptmr.workflows.gates.tasks import measure_tasks
from adaptmr.workflows.gates.values import LENGTH, case_value, digest, key
from adaptmr.workflows.progress import track

PROTOCOL: Final = ProtocolName.FASTMRI_VOLUME
RESIDUAL: Final = "residual"
_METRICS: Final = {"ssim": Better.HIGHER, "psnr": Better.HIGHER, "nmse": Better.LOWER}
_COVERAGE, _WIDTH = "coverage", "width"


def measure(
    folder: Path,
    tests: Mapping[str, Path],
    tasks: Sequence[Task] = (),
    *,
    batch_size: int = 4,
    device: str = "cpu",
) -> Evidence:
    """What a bank does on test scans, one scan in memory at a time.

    Args:
        folder: the bank.
        tests: task -> folder of fully sampled fastMRI files of subjects that no bank has seen.
        tasks: that its networks were taught, or are to be good for, with their test data; none of
            them the reconstruction itself.
        batch_size: slices at once.
        device: where to compute.

    Raises:
        BadInputError: the bank is damaged, or a test folder is missing or has a bad file.
        GateError: the bank, accelerated as it is for `adaptmr reconstruct`, differs from itself.
    """
    bank, place = accelerate(load(folder)), usable_device(device)
    measurements: list[Measurement] = []
    residuals: list[Measurement] = []
    intervals: list[Intervals] = []
    data: dict[str, str] = {}
    seen: set[str] = set()
    seconds: list[float] = []
    for task, place_of_scans in tests.items():
        found: dict[str, list[CaseValue]] = defaultdict(list)
        for scan in track(open_scans(place_of_scans), f"measuring {task}"):
            begun = time.perf_counter()
            result = _in_memory(bank.reconstruct(scan, batch_size=batch_size, device=place))
            seconds.append((time.perf_counter() - begun) / scan.slices)
            seen.add(subject_of(scan))
            case = sha256(place_of_scans / scan.name)[:LENGTH]
            for name, value in _values(bank, scan, result).items():
                found[name].append(case_value(scan, case, value))
        data[task] = digest([value.case for value in found[RESIDUAL]])
        measurements += [
            Measurement(
                task=task,
                metric=metric,
                better=better,
                protocol=PROTOCOL,
                values=tuple(found[metric]),
            )
            for metric, better in _METRICS.items()
        ]
        residuals.append(
            Measurement(
                task=task, metric=RESIDUAL, better=Better.LOWER, values=tuple(found[RESIDUAL])
            )
        )
        if bank.calibration is not None and found[_COVERAGE]:
            intervals.append(
                Intervals(
                    task=task,
                    nominal=1 - bank.calibration.guarantee.alpha,
                    coverage=tuple(found[_COVERAGE]),
                    width=tuple(found[_WIDTH]),
                )
            )

    def images(scan: Scan) -> Tensor | None:
        result = _in_memory(bank.reconstruct(scan, batch_size=batch_size, device=place))
        return None if result is None else result.image[:]

    taught = measure_tasks(tasks, images)
    seen |= taught.subjects
    return Evidence(
        bank=fingerprint(folder),
        data=data | taught.data,
        measurements=(*measurements, *taught.measurements),
        intervals=tuple(intervals),
        residuals=tuple(residuals),
        trained_on=tuple(sorted(map(key, seen & _made_from(bank.provenance)))),
        seconds_per_slice=median(seconds),
    )


def _in_memory(result: BankReconstruction) -> BankReconstruction | None:
    """The reconstruction, computed once; None where no bounds can be laid about the images.

    Raises:
        BadInputError: the scan cannot be read.
    """
    try:
        slices = list(result.slices())
    except BadInputError as error:
        if error.field != "image":
            raise
        return None  # not finite: what is wrong is the bank, and the gates say so

    def whole(name: str) -> Stack | None:
        return Stack.of(torch.stack([one[name] for one in slices])) if name in slices[0] else None

    image = whole("reconstruction")
    assert image is not None  # noqa: S101 - every reconstruction has images
    return replace(result, image=image, lower=whole("lower"), upper=whole("upper"))


def _values(
    bank: ReconstructionBank, scan: Scan, result: BankReconstruction | None
) -> dict[str, float | None]:
    assert scan.target is not None  # noqa: S101 - `open_scans` gives every scan one
    values: dict[str, float | None] = dict.fromkeys((*_METRICS, RESIDUAL))
    if result is None:
        return values
    images = result.image[:]
    if bool(images.isfinite().all()):
        measured = PROTOCOLS[PROTOCOL](images, scan.target[:])
        values |= {name: getattr(measured, name) for name in _METRICS}
    values[RESIDUAL] = _residual(bank, scan, result)
    judged = judge_scan(bank, scan, result) if values["ssim"] is not None else ()
    if judged:
        values[_COVERAGE] = sum(1 - float(one.missed.mean()) for one in judged) / len(judged)
        values[_WIDTH] = sum(float(one.width.mean()) for one in judged) / len(judged)
    return values


def _residual(bank: ReconstructionBank, scan: Scan, result: BankReconstruction) -> float | None:
    """Of the slice in the middle, whose image is computed again without the crop."""
    middle = scan.slices // 2
    decision = result.decisions[middle if len(result.decisions) == scan.slices else 0]
    mask, kspace = bank.masks.masks[decision.index], scan.kspace[middle][None]
    with torch.inference_mode():
        image: Tensor = bank.networks[decision.index](mask.apply(kspace), mask)
        value = float(data_consistency_residual(image, kspace, mask)[0])
    return value if math.isfinite(value) else None


def _made_from(provenance: JsonValue) -> set[str]:
    """All subjects that a provenance names, wherever in it they stand."""
    if isinstance(provenance, list):
        return set().union(*map(_made_from, provenance))
    if not isinstance(provenance, dict):
        return set()
    found: set[str] = set()
    for name, value in provenance.items():
        if name.endswith("_subjects") and isinstance(value, list):
            found |= {str(subject) for subject in value}
        else:
            found |= _made_from(value)
    return found


def check_tests(tests: Mapping[str, Path]) -> None:
    """Refuse test folders that are missing, before anything long begins.

    Raises:
        BadInputError: one is.
    """
    for task, folder in tests.items():
        if not folder.is_dir():
            raise BadInputError(
                "the folder of test scans does not exist",
                file=folder,
                field=f"tests.{task}",
                hint="Check the path",
            )
