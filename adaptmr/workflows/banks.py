"""Reconstruction by a bank: each scan in, its images, intervals and decision record out."""

import time
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from adaptmr.continual.adapt import bank as deltas
from adaptmr.data.doors import open_scan
from adaptmr.data.fastmri import write_submission
from adaptmr.data.files import complete_file
from adaptmr.data.image_writing import write_images
from adaptmr.efficiency.accelerate import accelerate
from adaptmr.errors import UsageError
from adaptmr.reconstruction.bank import persistence
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.inference import CPU, BankReconstruction
from adaptmr.sampling.decision import ScanDecisions, write_decisions


@dataclass(frozen=True)
class BankSettings:
    """How files are reconstructed by a bank.

    Attributes:
        bank: the bank.
        fingerprint: its identity, for the record.
        batch_size: slices at once; halved when memory runs out.
        device: where to compute.
        nearest: whether scans acquired with a mask that the bank lacks are reconstructed by the
            pair of the most similar mask.
        submission: whether only what fastMRI's evaluation reads is written.
        adapter: fingerprint of the adaptation that was merged into the bank, if any.
        notes: what a person should know of it.
    """

    bank: ReconstructionBank
    fingerprint: str
    batch_size: int = 4
    device: torch.device = CPU
    nearest: bool = False
    submission: bool = False
    adapter: str | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def accelerated(self) -> ReconstructionBank:
        """The bank as it reconstructs here: equal within the tolerance of `accelerate`."""
        return accelerate(self.bank)


class BankFile(BaseModel):
    """What was done with one file; `adaptmr reconstruct --bank --json` gives one for each."""

    model_config = ConfigDict(frozen=True)

    source: Path
    output: Path
    """HDF5 with ``reconstruction`` and, where there is an interval, ``lower`` and ``upper``:
    (slices, rows, columns) float32 each."""
    decision: Path | None
    """The record of the choices, as `adaptmr select` writes it; null for a submission."""
    slices: int
    pairs: tuple[int, ...]
    """Slices that each pair of the bank reconstructed."""
    acceleration: float
    """Measured: positions that exist over positions used, mean over the slices."""
    interval: str | None
    """What is promised of the interval; null where there is none."""
    why_no_interval: str | None
    """Why there is none; null where there is, and for a submission, which holds none."""
    seconds: float
    slices_per_second: float
    """Reading, choice and writing included."""
    warnings: tuple[str, ...]
    """What a person should know: slices not judged, a mask the bank lacks, foreign coils."""


def default_bank() -> Path:
    """Folder of the bank that is shipped with the package.

    Raises:
        UsageError: this installation has none.
    """
    folder = Path(str(files("adaptmr") / "banks" / "demo"))
    if not folder.is_dir():
        raise UsageError(
            "no bank is shipped with this installation",
            field="bank",
            got="nothing",
            hint="Name one with --bank",
        )
    return folder


def open_bank(folder: Path | None = None) -> tuple[ReconstructionBank, str]:
    """A bank and its fingerprint; the shipped one when none is named.

    Raises:
        BadInputError: the bank is damaged.
        UsageError: none is named, and none is shipped.
    """
    place = folder or default_bank()
    return persistence.load(place), persistence.fingerprint(place)


def with_adapter(settings: BankSettings, folder: Path) -> BankSettings:
    """The settings with an adaptation of the bank merged into it.

    Raises:
        BadInputError: the adaptation is damaged, or of another bank.
    """
    delta = deltas.load(folder)
    return replace(
        settings,
        bank=deltas.adapted_bank(settings.bank, delta),
        adapter=persistence.fingerprint(folder),
        notes=delta.notes,
    )


def reconstruct_by_bank(
    source: Path, folder: Path, settings: BankSettings, *, overwrite: bool = False
) -> BankFile:
    """Reconstruct one scan into ``folder``: ``<name>.h5`` and ``<name>.decision.json``.

    Args:
        source: the scan: fully sampled, or acquired with a mask of the bank.
        folder: where to write; both files appear complete or not at all.
        settings: how. A submission holds no intervals and comes without a record.
        overwrite: whether existing files may be replaced.

    Raises:
        BadInputError: the scan cannot be read or does not fit the bank, or an output exists.
    """
    begun = time.perf_counter()
    scan = open_scan(source)
    bank = settings.bank
    if settings.submission:
        bank = replace(bank, width=None, calibration=None)
    fast = replace(settings.accelerated, width=bank.width, calibration=bank.calibration)
    done = fast.reconstruct(
        scan,
        batch_size=settings.batch_size,
        device=settings.device,
        nearest=settings.nearest,
    )
    stem = Path(scan.name).stem
    output, record = folder / f"{stem}.h5", folder / f"{stem}.decision.json"
    promise = _promise(bank, done)
    notes = settings.notes + done.notes
    if settings.submission:
        write_submission(output, done.image, overwrite=overwrite)
    else:
        about = {
            "bank": settings.fingerprint,
            "adapter": settings.adapter,
            "interval": promise,
            "why_no_interval": done.why_no_interval,
            "notes": "; ".join(notes) or None,
        }
        with complete_file(record, overwrite=overwrite) as partial:
            write_decisions(ScanDecisions(scan=scan.name, decisions=done.decisions), partial)
            write_images(
                output,
                done.stacks,
                overwrite=overwrite,
                attributes={name: text for name, text in about.items() if text is not None},
            )
    seconds = time.perf_counter() - begun
    chosen = [one.index for one in done.decisions]
    each = 1 if len(chosen) == scan.slices else scan.slices
    return BankFile(
        source=source,
        output=output,
        decision=None if settings.submission else record,
        slices=scan.slices,
        pairs=tuple(each * chosen.count(pair) for pair in range(len(bank))),
        acceleration=done.acceleration,
        interval=promise,
        why_no_interval=None if settings.submission else done.why_no_interval,
        seconds=seconds,
        slices_per_second=scan.slices / seconds,
        warnings=notes,
    )


def _promise(bank: ReconstructionBank, done: BankReconstruction) -> str | None:
    if bank.calibration is None or done.lower is None:
        return None
    kept = bank.calibration.guarantee
    share = f"{1 - kept.alpha:.0%} of a new subject's pixels"
    return (
        f"{share}, in expectation"
        if kept.delta is None
        else f"{share}, but for a share" + (f" {kept.delta:g} of calibrations")
    )
