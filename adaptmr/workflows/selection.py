"""Banks of masks and the choice among them, from files to files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from torch import Tensor

from adaptmr.data.doors import open_scan
from adaptmr.data.files import complete_folder
from adaptmr.data.scan import Scan
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.bank.persistence import is_bank
from adaptmr.reconstruction.bank.persistence import load as load_bank
from adaptmr.sampling import bank as banks
from adaptmr.sampling import persistence
from adaptmr.sampling.bank import BankConfig, MaskBank, RefineConfig
from adaptmr.sampling.decision import Decision, ScanDecisions, write_decisions, write_lines
from adaptmr.sampling.frame import Frame, Positions
from adaptmr.sampling.low_frequency import LowFrequency, acquire_scan
from adaptmr.sampling.persistence import Sampler
from adaptmr.sampling.posterior import PosteriorSampler
from adaptmr.sampling.refinement import CapturedVariance
from adaptmr.sampling.selection import (
    PRESETS,
    Adaptation,
    PresetName,
    UncertaintyConfig,
    measure,
    measure_training,
)
from adaptmr.sampling.selectors import selector
from adaptmr.sampling.uncertainty import UncertaintyMap
from adaptmr.sampling.volume import select_scan
from adaptmr.workflows.banks import default_bank
from adaptmr.workflows.progress import track
from adaptmr.workflows.sampling import low_frequency_of, sampler_fingerprint
from adaptmr.workflows.sampling_pictures import choice_picture


class BuiltBank(BaseModel):
    """A bank as it was written."""

    model_config = ConfigDict(frozen=True)

    bank: Path
    fingerprint: str
    acceleration: float
    """Measured, the low-frequency block included."""
    budget: int
    """Positions that each mask acquires."""
    populations: tuple[int, ...]
    """Training slices of each mask."""
    distinct: int
    """Masks that differ from each other."""
    captured: tuple[float, ...]
    """Share of the high-frequency variance that each mask acquires, mean of its training slices."""
    captured_before: tuple[float, ...] | None
    """The same before the refinement; null where there was none."""


class Selection(BaseModel):
    """The choices of one scan, and where they were written."""

    model_config = ConfigDict(frozen=True)

    decisions: ScanDecisions
    uncertainty: UncertaintyConfig
    """How the uncertainty was found, by selectors that need it."""
    file: Path
    lines: tuple[Path, ...]
    """The line list of each decision."""
    pictures: tuple[Path, ...]
    """The picture of each decision."""


def build_bank(
    files: Sequence[Path],
    sampler: Path,
    out: Path,
    positions: Positions,
    acceleration: float,
    config: BankConfig,
    uncertainty: UncertaintyConfig,
    *,
    refinement: RefineConfig | None = None,
    overwrite: bool = False,
) -> BuiltBank:
    """Build a bank of masks from the low-frequency data of scans.

    Args:
        files: the training scans; they may be undersampled, so long as they hold the block.
        sampler: folder of the sampler; its block is that of the masks.
        out: folder for the bank.
        positions: lines or points.
        acceleration: of every mask, the block included.
        config: how many masks, and how they are made.
        uncertainty: how the uncertainty of the scans is found.
        refinement: how each mask is changed to capture more of the variance of its training slices;
            the masks stay as drawn when not given.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: a scan or the sampler cannot be read, they do not fit each other, or there
            are too few slices.
        UsageError: the block alone takes the budget.
    """
    drawer = persistence.load(sampler)
    scans = [open_scan(file) for file in files]
    found = measure_scans(scans, drawer, uncertainty)
    frame = common_frame(scans, drawer, positions, acceleration)
    bank, clusters = banks.build(found, frame, config, coils=coil_counts(scans))
    captured, captured_before = _captured(bank, found, clusters.labels), None
    if refinement is not None:
        bank = banks.refine(
            bank,
            clusters.labels,
            lambda members: CapturedVariance(found.values[members]),
            refinement,
            config.rules,
        )
        captured, captured_before = _captured(bank, found, clusters.labels), captured
    origin: dict[str, JsonValue] = {
        "sampler": sampler_fingerprint(sampler),
        "scans": [scan.name for scan in scans],
        "uncertainty": uncertainty.model_dump(mode="json"),
    }
    bank = replace(bank, provenance={**bank.provenance, **origin})
    banks.save(bank, out, overwrite=overwrite)
    return BuiltBank(
        bank=out,
        fingerprint=bank.fingerprint,
        acceleration=bank.masks[0].acceleration,
        budget=bank.masks[0].budget,
        populations=bank.populations,
        distinct=len(set(bank.masks)),
        captured=captured,
        captured_before=captured_before,
    )


def measure_scans(
    scans: Sequence[Scan],
    sampler: Sampler,
    config: UncertaintyConfig,
    device: torch.device | str = "cpu",
) -> UncertaintyMap:
    """The uncertainty of all slices of training scans, one scan after another.

    Args:
        scans: they may be undersampled, so long as they hold the block.
        sampler: draws the samples.
        config: how.
        device: where the sampler is; the result is on the CPU.

    Raises:
        BadInputError: a scan does not fit the sampler.
    """
    parts = []
    for number, scan in enumerate(track(scans, "measuring")):
        # A seed for each scan: one random stream for all would need all coils in one tensor.
        own = config.model_copy(update={"seed": config.seed + number})
        found = measure_training(sampler, low_frequency_of(scan, sampler).to(device), own)
        parts.append(found.to("cpu"))
    return UncertaintyMap.concatenate(parts)


def common_frame(
    scans: Sequence[Scan], sampler: Sampler, positions: Positions, acceleration: float
) -> Frame:
    """The frame of masks for all of these scans: no mask acquires padding of any.

    Raises:
        BadInputError: the sampler was trained for points, and the masks are of lines.
        UsageError: the block alone takes the budget.
    """
    padding = (max(s.padding[0] for s in scans), min(s.padding[1] for s in scans))
    return Frame.of(sampler.matrix, _block(sampler, positions), acceleration, padding)


def coil_counts(scans: Sequence[Scan]) -> tuple[int, ...]:
    """The numbers of coils of scans, each once."""
    return tuple(sorted({scan.coils for scan in scans}))


def open_adaptation(bank: Path | None = None, sampler: Path | None = None) -> Adaptation:
    """What chooses masks, by the settings that a bank was made with.

    Args:
        bank: folder of a reconstruction bank, or of a bank of masks, which are chosen by nearest
            centroid; the shipped bank when not given.
        sampler: folder of the sampler for a bank of masks; a reconstruction bank has its own.

    Raises:
        BadInputError: the bank or the sampler cannot be read, or they do not fit each other.
        UsageError: a sampler beside a reconstruction bank; or none is named, and none is shipped.
    """
    folder = bank or default_bank()
    if not is_bank(folder):
        masks = banks.load(folder)
        config = _recorded_uncertainty(masks, folder)
        rule = selector(PRESETS[PresetName.HONG2024].selector)
        if sampler is None:
            return Adaptation(masks, rule, config=config)
        drawer = persistence.load(sampler)
        _check_bank(masks, drawer, folder)
        return Adaptation(masks, rule, drawer, sampler_fingerprint(sampler), config)
    if sampler is not None:
        raise UsageError(
            "a reconstruction bank has a sampler of its own",
            file=folder,
            field="sampler",
            got=sampler,
            hint="Leave out --sampler, or name a bank that `masks build` wrote",
        )
    return load_bank(folder).adaptation


def select_file(
    source: Path, adaptation: Adaptation, out: Path, *, overwrite: bool = False
) -> Selection:
    """Choose the mask of every slice of a scan, and draw the choices.

    The slices of a 3-D scan (``phase_axes`` 2) share one mask, and there is one decision.

    Args:
        source: the scan; it may hold no more than the low-frequency block.
        adaptation: what chooses; a sampler that the selector does not need completes the pictures.
        out: folder to write: ``decision.json``, ``lines.txt`` and ``choice.png``, the last two
            with the number of the slice where there are several decisions.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the scan cannot be read, or does not fit the bank.
        UsageError: the selector needs a sampler and there is none.
    """
    masks, config = adaptation.bank, adaptation.config
    scan = open_scan(source)
    decisions = select_scan(scan, adaptation)
    chosen = ScanDecisions(scan=scan.name, decisions=decisions)
    endings = [""] if len(decisions) == 1 else [f"-{d.slice_index:03d}" for d in decisions]
    with complete_folder(out, overwrite=overwrite) as partial:
        write_decisions(chosen, partial / "decision.json")
        low_frequency = acquire_scan(scan, masks.block)
        for decision, ending in zip(track(decisions, "drawing"), endings, strict=True):
            write_lines(masks.masks[decision.index], partial / f"lines{ending}.txt")
            picture = _picture(decision, masks, low_frequency, adaptation.sampler, config)
            (partial / f"choice{ending}.png").write_bytes(picture)
    return Selection(
        decisions=chosen,
        uncertainty=config,
        file=out / "decision.json",
        lines=tuple(out / f"lines{ending}.txt" for ending in endings),
        pictures=tuple(out / f"choice{ending}.png" for ending in endings),
    )


def _recorded_uncertainty(bank: MaskBank, folder: Path) -> UncertaintyConfig:
    """How the uncertainty was found that a bank was built from; the defaults if it does not say."""
    recorded = bank.provenance.get("uncertainty", {})
    try:
        return UncertaintyConfig.model_validate(recorded)
    except ValidationError as error:
        raise BadInputError(
            "the bank's uncertainty was found in a way that is not known",
            file=folder,
            field="uncertainty",
            got=recorded,
            hint="Build the bank again",
        ) from error


def _captured(bank: MaskBank, found: UncertaintyMap, labels: Tensor) -> tuple[float, ...]:
    """Share of the variance of its own training slices that each mask acquires."""
    return tuple(
        CapturedVariance(found.values[labels == index])(mask)
        for index, mask in enumerate(bank.masks)
    )


def _picture(
    decision: Decision,
    bank: MaskBank,
    low_frequency: LowFrequency,
    sampler: PosteriorSampler | None,
    config: UncertaintyConfig,
) -> bytes:
    """The picture of a decision; that for a volume shows its middle slice."""
    volume = decision.slice_index is None
    index = low_frequency.batch // 2 if volume else decision.slice_index or 0
    shown = low_frequency[index : index + 1]
    values = None if sampler is None else measure(sampler, shown, config).values[0]
    return choice_picture(shown.image[0], values, bank, decision)


def _block(sampler: Sampler, positions: Positions) -> tuple[int, ...]:
    """The sampler's block as a mask gives it: one number for lines, two for points."""
    if positions is Positions.POINTS:
        return tuple(sampler.block)
    if sampler.block[0] != sampler.matrix[0]:
        raise BadInputError(
            "the sampler was trained for points, not for lines",
            field="block",
            got=f"{tuple(sampler.block)} of {tuple(sampler.matrix)}",
            expected="the whole readout",
            hint="Build masks of points, or train a sampler with 'positions: lines'",
        )
    return (sampler.block[1],)


def _check_bank(bank: MaskBank, sampler: Sampler, folder: Path) -> None:
    got, expected = (bank.matrix, bank.block), (tuple(sampler.matrix), tuple(sampler.block))
    if got != expected:
        raise BadInputError(
            "the bank was not built for this sampler",
            file=folder,
            field="matrix" if got[0] != expected[0] else "block",
            got=f"block {got[1]} of {got[0]}",
            expected=f"block {expected[1]} of {expected[0]}",
            hint="Give the sampler that the bank was built with",
        )
