"""The scans of a bank's training: whose networks, whose selection, whose calibration."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from adaptmr.data.manifest import sha256
from adaptmr.data.pictures import open_pictures
from adaptmr.data.scan import Scan
from adaptmr.data.simulation import simulate
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.training.cohort import (
    Cohort,
    open_scans,
    split_by_subject,
    subject_of,
    subjects_of,
)
from adaptmr.workflows.bank_training.config import (
    BankTraining,
    PictureFolder,
    ScanFolder,
    SimulatedScans,
)
from adaptmr.workflows.bank_training.steps import Step, Steps
from adaptmr.workflows.progress import track

_TRAIN: Final = "train"
_CALIBRATION: Final = "calibration"
_HASHES: Final = "hashes.json"


@dataclass(frozen=True, eq=False)
class BankData:
    """Scans by what they are for, no subject in two of the parts.

    Attributes:
        training: samplers, masks and networks are made from these.
        selection: epochs, the fixed best mask and the selector are chosen on these; may be none.
        calibration: intervals are calibrated on these; may be none.
        step: stands for the data in the keys of the steps that read them.
    """

    training: tuple[Scan, ...]
    selection: tuple[Scan, ...]
    calibration: tuple[Scan, ...]
    step: Step

    @property
    def cohort(self) -> Cohort:
        """What trainings are given."""
        return Cohort(self.training, self.selection, self.step.key)

    @property
    def scans(self) -> tuple[Scan, ...]:
        """All scans."""
        return self.training + self.selection + self.calibration

    @property
    def judged(self) -> tuple[Scan, ...]:
        """The scans whose losses choose the fixed best mask and the selector."""
        return self.selection or self.training

    @property
    def description(self) -> dict[str, Any]:
        """What the provenance says of the data."""
        parts = {
            "training": self.training,
            "selection": self.selection,
            "calibration": self.calibration,
        }
        return {
            "fingerprint": self.step.key,
            **{f"{name}_subjects": subjects_of(scans) for name, scans in parts.items()},
            **{f"{name}_slices": sum(s.slices for s in scans) for name, scans in parts.items()},
        }


def open_data(config: BankTraining, steps: Steps) -> BankData:
    """Open, or simulate, the scans of a training, and split them by subject.

    Raises:
        BadInputError: there are none, one cannot be trained on, there are too few subjects to
            split, or a subject is both calibrated and trained on.
    """
    train, calibration, reader = _sources(config, steps)
    scans = reader(train)
    if calibration is None:
        scans, held_out = split_by_subject(
            scans, config.calibration_fraction, config.seed, field="calibration_fraction"
        )
    else:
        held_out = reader(calibration)
        _check_apart(scans, held_out, calibration)
    training, selection = split_by_subject(
        scans, config.selection_fraction, config.seed, field="selection_fraction"
    )
    contents = [digests(folder, steps) for folder in (train, calibration) if folder is not None]
    split = [[scan.name for scan in part] for part in (training, selection, held_out)]
    matrix = config.data.matrix if isinstance(config.data, PictureFolder) else None
    key = hashlib.sha256(json.dumps([contents, split, matrix]).encode()).hexdigest()
    return BankData(training, selection, held_out, Step("data", key, train))


Reader = Callable[[Path], tuple[Scan, ...]]


def _sources(config: BankTraining, steps: Steps) -> tuple[Path, Path | None, Reader]:
    """Folder to train on, folder to calibrate on, and what reads them."""
    data = config.data
    if isinstance(data, SimulatedScans):
        folder = _simulated(data, steps).folder
        return folder / _TRAIN, folder / _CALIBRATION if data.calibration else None, open_scans
    train, calibration = data.folder, data.calibration
    if (data.folder / _TRAIN).is_dir():
        train, inner = data.folder / _TRAIN, data.folder / _CALIBRATION
        calibration = calibration or (inner if inner.is_dir() else None)
    if isinstance(data, ScanFolder):
        return train, calibration, open_scans
    return train, calibration, lambda folder: open_pictures(folder, data.matrix)


def _simulated(data: SimulatedScans, steps: Steps) -> Step:
    def compute(result: Path, _: Path) -> None:
        for name, configs in ((_TRAIN, data.training), (_CALIBRATION, data.calibration)):
            total = sum(config.subjects * len(config.contrasts) for config in configs)
            files = (file for config in configs for file in simulate(config, result / name))
            list(track(files, f"simulating {name}", total))

    return steps.done("simulated", 1, data.model_dump(mode="json"), (), compute)


def _check_apart(scans: Sequence[Scan], held_out: Sequence[Scan], folder: Path) -> None:
    both = sorted({subject_of(scan) for scan in scans} & {subject_of(scan) for scan in held_out})
    if both:
        raise BadInputError(
            "a subject is both trained and calibrated on",
            file=folder,
            field="calibration",
            got=", ".join(both[:5]),
            expected="other subjects than those trained on",
        )


def digests(folder: Path, steps: Steps) -> list[list[str]]:
    """Name and sha256 of each file; a file of the same size and time is not read again."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    states = [(str(file.resolve()), file.stat()) for file in files]

    def compute(result: Path, _: Path) -> None:
        found = [[file.name, sha256(file)] for file in track(files, "hashing")]
        (result / _HASHES).write_text(json.dumps(found))

    reads = [[name, state.st_size, state.st_mtime_ns] for name, state in states]
    step = steps.done("hashes", 1, reads, (), compute)
    digests: list[list[str]] = json.loads((step.folder / _HASHES).read_text())
    return digests
