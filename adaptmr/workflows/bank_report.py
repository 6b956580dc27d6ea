"""A report of files that a bank reconstructed: what was chosen, what is promised, what was held."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from adaptmr.data.doors import open_scan
from adaptmr.data.fastmri import read_images
from adaptmr.data.scan import Scan
from adaptmr.data.target import with_target
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.choice import AS_ACQUIRED, NEAREST_MASK
from adaptmr.reconstruction.bank.inference import BankReconstruction, stratum
from adaptmr.reconstruction.bank.judgement import judge_scan
from adaptmr.reconstruction.metrics import PROTOCOLS, ProtocolName
from adaptmr.sampling.decision import Decision, read_decisions
from adaptmr.sampling.low_frequency import acquire
from adaptmr.workflows.banks import BankFile, BankSettings
from adaptmr.workflows.environment import environment
from adaptmr.workflows.progress import track
from adaptmr.workflows.report import (
    Column,
    Report,
    Row,
    Section,
    Table,
    data_section,
    facts,
    write_report,
)
from adaptmr.workflows.report.sections import METRICS
from adaptmr.workflows.slice_pictures import SliceOnItsWay, various, way_of_slices

EXAMPLES: Final = 4
"""Slices shown."""
PROTOCOL: Final = ProtocolName.SLICE


@dataclass(frozen=True, eq=False)
class _Done:
    """One file that was reconstructed, with what was written of it.

    Attributes:
        file: what was told of it.
        scan: the scan; with a target where it is fully sampled.
        result: what was written.
        ssim: of each slice with a reference.
        psnr: of the same slices, dB.
        held: share of the object that lies between the bounds, of each slice with both.
    """

    file: BankFile
    scan: Scan
    result: BankReconstruction
    ssim: tuple[float, ...]
    psnr: tuple[float, ...]
    held: tuple[float, ...]

    def decision(self, index: int) -> Decision:
        """That of a slice."""
        decisions = self.result.decisions
        return decisions[index if len(decisions) > 1 else 0]


def report_by_bank(
    path: Path,
    done: Sequence[BankFile],
    refused: Sequence[tuple[str, str]],
    settings: BankSettings,
    *,
    overwrite: bool = False,
) -> None:
    """Write a report of files that a bank reconstructed.

    Args:
        path: the HTML file.
        done: what was reconstructed, with a record of decisions each.
        refused: name of each file that was not, and why.
        settings: how.
        overwrite: whether an existing file may be replaced.

    Raises:
        BadInputError: the report exists or cannot be written, or a file changed meanwhile.
    """
    bank = settings.bank
    opened = [_opened(bank, one) for one in track(done, "judging")]
    sections: list[Section] = []
    if opened:
        sections = [
            Section("Slices", (way_of_slices(bank, _examples(bank, opened)),)),
            Section("Scans", tuple(_tables(opened))),
        ]
    report = Report(
        "Reconstruction by a bank",
        _verdict(bank, opened, refused),
        (
            *sections,
            data_section([(one.scan.name, _described(one)) for one in opened], refused),
            facts("Bank", bank_facts(bank, settings.fingerprint)),
            facts("Software and hardware", environment(settings.device)),
        ),
    )
    write_report(report, path, overwrite=overwrite)


def bank_facts(bank: ReconstructionBank, fingerprint: str) -> dict[str, str]:
    """What a bank is, in names and values."""
    masks, (rows, columns) = bank.masks.masks[0], bank.masks.matrix
    kind = "lines" if masks.axes == 1 else "points"
    return {
        "fingerprint": fingerprint,
        "pairs": f"{len(bank)} masks of {masks.budget} {kind}, {masks.acceleration:.2f}x, a network"
        " for each",
        "for": f"{rows} × {columns}, {' or '.join(map(str, bank.masks.coils)) or 'any'} coils",
        "selector": bank.selector.name,
    }


def _opened(bank: ReconstructionBank, file: BankFile) -> _Done:
    assert file.decision is not None  # noqa: S101 - the command refuses reports of submissions
    bounds = () if file.interval is None else ("lower", "upper")
    lower, upper = (read_images(file.output, name) for name in bounds) if bounds else (None, None)
    result = BankReconstruction(
        image=read_images(file.output, "reconstruction"),
        lower=lower,
        upper=upper,
        why_no_interval=file.why_no_interval,
        decisions=read_decisions(file.decision).decisions,
        acceleration=file.acceleration,
        notes=file.warnings,
    )
    scan = open_scan(file.source)
    if not scan.fully_sampled:
        return _Done(file, scan, result, (), (), ())
    scan = with_target(scan)
    metrics = [
        PROTOCOLS[PROTOCOL](image[None], target[None])
        for image, target in zip(result.image, scan.target or (), strict=True)
        if target.max() > 0
    ]
    return _Done(
        file,
        scan,
        result,
        tuple(one.ssim for one in metrics),
        tuple(math.inf if one.psnr is None else one.psnr for one in metrics),
        tuple(1 - float(one.missed.mean()) for one in judge_scan(bank, scan, result)),
    )


def _verdict(
    bank: ReconstructionBank, opened: Sequence[_Done], refused: Sequence[tuple[str, str]]
) -> str:
    sentences = []
    if opened:
        files = [one.file for one in opened]
        slices = [file.slices for file in files]
        acceleration = np.average([file.acceleration for file in files], weights=slices)
        used = np.sum([file.pairs for file in files], axis=0).tolist()
        shares = ", ".join(f"mask {pair} for {count}" for pair, count in enumerate(used) if count)
        sentences.append(
            f"{_counted(sum(slices), 'slice')} of {_counted(len(files), 'scan')} reconstructed at"
            f" {acceleration:.2f}x with a choice of {_counted(len(bank), 'mask')}: {shares}."
        )
        sentences += _of_bounds(files, [share for one in opened for share in one.held])
    if refused:
        sentences.append(f"{_counted(len(refused), 'file')} refused: see Data for the reasons.")
    return " ".join(sentences)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _of_bounds(files: Sequence[BankFile], held: Sequence[float]) -> Iterator[str]:
    """What is promised of the bounds, and what of it was held where that can be seen."""
    for promise in dict.fromkeys(file.interval for file in files if file.interval is not None):
        yield f"Promised between the bounds: {promise}."
    if held:
        yield (
            f"Seen here, in {_counted(len(held), 'slice')} whose k-space is known in full:"
            f" {np.mean(held):.1%}."
        )
    without = [file for file in files if file.interval is None]
    if without:
        why = "; ".join(dict.fromkeys(str(file.why_no_interval) for file in without))
        yield f"{_counted(len(without), 'scan')} without bounds: {why}."


def _tables(opened: Sequence[_Done]) -> Iterator[Table]:
    def row(one: _Done) -> Row:
        used = (f"mask {pair}: {count}" for pair, count in enumerate(one.file.pairs) if count)
        means = (float(np.mean(each)) if each else None for each in (one.ssim, one.psnr, one.held))
        told = (one.scan.name, one.file.slices, one.file.acceleration, ", ".join(used))
        return Row((*told, *means))

    yield Table(
        "",
        (
            Column("Scan"),
            Column("Slices"),
            Column("Acceleration"),
            Column("Slices with each mask"),
            *(replace(METRICS[name], better=None) for name in ("ssim", "psnr")),
            Column("Share between the bounds", digits=3),
        ),
        tuple(map(row, opened)),
        PROTOCOL if any(one.ssim for one in opened) else None,
        note="Accelerations are measured. The reference of a fully sampled scan is the root sum of"
        " squares of all of its k-space; scans that were acquired with a mask have none. Share"
        " between the bounds: of the object's pixels. Metrics and shares are means over slices."
        f" Definition: {PROTOCOLS[PROTOCOL].definition}.",
    )
    of_note: dict[str, list[str]] = {}
    for one in opened:
        for note in one.file.warnings:
            of_note.setdefault(note, []).append(one.scan.name)
    if of_note:
        rows = (Row((note, ", ".join(names))) for note, names in of_note.items())
        yield Table("To know", (Column("Note"), Column("Scans")), tuple(rows))


def _examples(bank: ReconstructionBank, opened: Sequence[_Done]) -> list[SliceOnItsWay]:
    slices = [(one, index) for one in opened for index in _from_the_middle(one.scan.slices)]
    traits = [
        (one.decision(index).index, one.scan.header.orientation, stratum(one.scan.header))
        for one, index in slices
    ]
    return [_example(bank, *slices[position]) for position in various(traits, EXAMPLES)]


def _from_the_middle(count: int) -> list[int]:
    """The slices of a scan, the middle one first: those at the ends may show nothing."""
    return sorted(range(count), key=lambda index: abs(index - count // 2))


def _example(bank: ReconstructionBank, one: _Done, index: int) -> SliceOnItsWay:
    scan, result, decision = one.scan, one.result, one.decision(index)
    half = (
        None
        if result.lower is None or result.upper is None
        else (result.upper[index] - result.lower[index]) / 2
    )
    by_mask = decision.selector in (AS_ACQUIRED, NEAREST_MASK)
    return SliceOnItsWay(
        stratum(scan.header),
        (scan.name, f"slice {index}"),
        None if by_mask else acquire(scan.kspace[index : index + 1], bank.masks.block),
        decision,
        result.image[index],
        None if scan.target is None or by_mask else scan.target[index],
        half,
        {},
    )


def _described(one: _Done) -> str:
    scan, (rows, columns) = one.scan, one.scan.matrix
    sampled = "fully sampled" if scan.fully_sampled else "acquired with a mask"
    return f"{stratum(scan.header)}; {scan.coils} coils, {rows} × {columns}; {sampled}"
