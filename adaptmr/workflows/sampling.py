"""Adaptive masks from files to files: train a sampler, measure, build a bank, select."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from safetensors.torch import save_file

from adaptmr.data.doors import open_scan
from adaptmr.data.files import complete_folder
from adaptmr.data.manifest import MANIFEST, sha256
from adaptmr.data.scan import Scan
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.training.data import (
    fingerprint,
    open_scans,
    split_by_subject,
    subject_of,
)
from adaptmr.sampling import bank as banks
from adaptmr.sampling import persistence
from adaptmr.sampling.bank import BankConfig, MaskBank
from adaptmr.sampling.decision import (
    Decision,
    ScanDecisions,
    versions,
    write_decisions,
    write_lines,
)
from adaptmr.sampling.flow.flow import SuperResolutionFlow
from adaptmr.sampling.frame import Frame, Positions
from adaptmr.sampling.generators import MaskKind, MaskSpec
from adaptmr.sampling.low_frequency import LowFrequency, acquire_scan, block_of
from adaptmr.sampling.mixture import MixtureConfig, MixtureSampler
from adaptmr.sampling.pairs import Pairs, training_pairs
from adaptmr.sampling.persistence import Sampler, SamplerConfig
from adaptmr.sampling.posterior import PosteriorSampler, check_made_for
from adaptmr.sampling.selection import (
    Adaptation,
    UncertaintyConfig,
    measure,
    measure_training,
    select,
)
from adaptmr.sampling.selector import NearestCentroid
from adaptmr.sampling.training import SamplerTraining, fit, generator_for
from adaptmr.sampling.uncertainty import UncertaintyMap
from adaptmr.sampling.volume import for_volume
from adaptmr.workflows.progress import track
from adaptmr.workflows.sampling_pictures import choice_picture, uncertainty_picture

# Sets the random streams of one training seed apart.
_FIT, _CALIBRATION = range(2)


class TrainSamplerConfig(BaseModel):
    """One training of a sampler; read from YAML by the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    """Folder of fully sampled fastMRI HDF5 files."""
    positions: Positions = Positions.LINES
    """What the masks are made of, which says what the low-frequency block is made of."""
    acceleration: float = Field(default=4.0, ge=1, allow_inf_nan=False)
    """Of the masks; the low-frequency block depends on it unless ``center_fraction`` is given."""
    center_fraction: float | None = Field(default=None, gt=0, le=1)
    """Share of each position axis that the low-frequency block takes."""
    sampler: SamplerConfig = MixtureConfig()
    """Which sampler, and how large."""
    training: SamplerTraining = SamplerTraining()
    """How it is trained; of a mixture only the seed is used."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the subjects that is kept out: the epoch that does best on them is kept, and the
    spectrum of a flow's samples is calibrated on them."""

    def block(self, matrix: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of the low-frequency block of a matrix."""
        kind = MaskKind.RANDOM if self.positions is Positions.LINES else MaskKind.RANDOM_2D
        spec = MaskSpec(
            kind=kind, acceleration=self.acceleration, center_fraction=self.center_fraction
        )
        return block_of(spec.low_frequency(matrix), matrix)


class MeasuredSlice(BaseModel):
    """The uncertainty of one slice, in numbers."""

    model_config = ConfigDict(frozen=True)

    slice_index: int
    known: bool
    """Whether there is an uncertainty: False where samples are equal or there is no signal."""
    usable: int
    """Samples that it was taken over."""
    rejected: int
    """Samples that were not finite or not plausible."""
    picture: Path


class Measurement(BaseModel):
    """The uncertainty of one scan."""

    model_config = ConfigDict(frozen=True)

    scan: str
    sampler: str
    """Fingerprint of the sampler."""
    slices: tuple[MeasuredSlice, ...]
    values: Path
    """Safetensors: ``uncertainty`` (slices, readout, phase) and ``known`` (slices,)."""


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


class Selection(BaseModel):
    """The choices of one scan, and where they were written."""

    model_config = ConfigDict(frozen=True)

    decisions: ScanDecisions
    file: Path
    lines: tuple[Path, ...]
    """The line list of each decision."""
    pictures: tuple[Path, ...]
    """The picture of each decision."""


def train_sampler(
    config: TrainSamplerConfig, out: Path, *, overwrite: bool = False, resume: bool = True
) -> Path:
    """Train a sampler on a folder of scans.

    While it runs, the folder ``<out>.run`` beside ``out`` holds the state after each epoch, as in
    the training of a network; a mixture is fitted at once and has none.

    Args:
        config: what to train on what.
        out: folder for the sampler; appears complete at the end.
        overwrite: whether an existing ``out`` may be replaced.
        resume: whether to continue a run that was stopped; otherwise it is thrown away.

    Returns:
        ``out``.

    Raises:
        BadInputError: the data cannot be trained on, ``out`` exists, or the loss became NaN.
        UsageError: the stopped run had another configuration or other data.
    """
    if out.exists() and not overwrite:
        raise BadInputError(
            "the output exists already",
            file=out,
            hint="Choose another name, or allow it to be replaced with --overwrite",
        )
    scans = open_scans(config.data)
    seed = config.training.seed
    training, validation = split_by_subject(scans, config.validation_fraction, seed)
    pairs = training_pairs(track(training, "reading"), config.block)
    kept_out = training_pairs(validation, config.block) if validation else None
    sampler = persistence.build(config.sampler, pairs.matrix, pairs.block, seed)
    if kept_out is not None:
        check_made_for(sampler, kept_out)
    trained = _trained(sampler, pairs, kept_out, config, out.with_name(out.name + ".run"), resume)
    provenance = {
        "config": config.model_dump(mode="json"),
        "data": {
            "fingerprint": fingerprint(config.data, scans),
            "training_subjects": sorted({subject_of(scan) for scan in training}),
            "validation_subjects": sorted({subject_of(scan) for scan in validation}),
            "slices": len(pairs),
        },
        "versions": versions(),
        **trained,
    }
    persistence.save(sampler, out, provenance, overwrite=overwrite)
    return out


def _trained(
    sampler: Sampler,
    pairs: Pairs,
    kept_out: Pairs | None,
    config: TrainSamplerConfig,
    run: Path,
    resume: bool,
) -> Mapping[str, Any]:
    """Train in place; what became of it, for the provenance."""
    seed = config.training.seed
    if isinstance(sampler, MixtureSampler):
        sampler.prepare(pairs, generator_for(seed, _FIT))
        return {}
    record = fit(sampler, pairs, kept_out, config.training, run, resume=resume)
    calibrated = False
    if isinstance(sampler, SuperResolutionFlow) and sampler.standardising and kept_out is not None:
        sampler.calibrate(kept_out, generator_for(seed, _CALIBRATION))
        calibrated = True
    return {**record.model_dump(mode="json"), "calibrated": calibrated}


def measure_file(
    source: Path,
    sampler: Path,
    out: Path,
    config: UncertaintyConfig,
    *,
    overwrite: bool = False,
) -> Measurement:
    """Measure the uncertainty of all slices of a scan, and draw it.

    Args:
        source: the scan; it may hold no more than the low-frequency block.
        sampler: folder of the sampler.
        out: folder to write: a picture of each slice, and the values as safetensors.
        config: how the uncertainty is found.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the scan or the sampler cannot be read, or they do not fit each other.
    """
    drawer = persistence.load(sampler)
    scan = open_scan(source)
    low_frequency = _low_frequency(scan, drawer)
    found = measure(drawer, low_frequency, config)
    slices = []
    with complete_folder(out, overwrite=overwrite) as partial:
        for index in track(range(scan.slices), "drawing"):
            one = slice(index, index + 1)
            generator = torch.Generator().manual_seed(config.seed)
            samples = drawer.sample(low_frequency[one], config.samples, generator)[:, 0]
            name = f"slice-{index:03d}.png"
            picture = uncertainty_picture(
                low_frequency.image[index], samples[:3], found.values[index]
            )
            (partial / name).write_bytes(picture)
            slices.append(
                MeasuredSlice(
                    slice_index=index,
                    known=bool(found.known[index]),
                    usable=int(found.usable[index]),
                    rejected=int(found.rejected[index]),
                    picture=out / name,
                )
            )
        values = {"uncertainty": found.values.float().contiguous(), "known": found.known}
        save_file(values, partial / "uncertainty.safetensors")
    return Measurement(
        scan=scan.name,
        sampler=sampler_fingerprint(sampler),
        slices=tuple(slices),
        values=out / "uncertainty.safetensors",
    )


def build_bank(
    files: Sequence[Path],
    sampler: Path,
    out: Path,
    positions: Positions,
    acceleration: float,
    config: BankConfig,
    uncertainty: UncertaintyConfig,
    *,
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
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: a scan or the sampler cannot be read, they do not fit each other, or there
            are too few slices.
        UsageError: the block alone takes the budget.
    """
    drawer = persistence.load(sampler)
    parts: list[UncertaintyMap] = []
    scans: list[Scan] = []
    for number, file in enumerate(track(files, "measuring")):
        scan = open_scan(file)
        # A seed for each scan: one random stream for all would need all coils in one tensor.
        own = uncertainty.model_copy(update={"seed": uncertainty.seed + number})
        parts.append(measure_training(drawer, _low_frequency(scan, drawer), own))
        scans.append(scan)
    padding = (max(s.padding[0] for s in scans), min(s.padding[1] for s in scans))
    frame = Frame.of(drawer.matrix, _low_frequency_of(drawer, positions), acceleration, padding)
    coils = tuple(sorted({scan.coils for scan in scans}))
    bank, _ = banks.build(UncertaintyMap.concatenate(parts), frame, config, coils=coils)
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
    )


def select_file(
    source: Path,
    sampler: Path,
    bank: Path,
    out: Path,
    config: UncertaintyConfig,
    *,
    overwrite: bool = False,
) -> Selection:
    """Choose the mask of every slice of a scan by the nearest centroid, and draw the choices.

    The slices of a 3-D scan (``phase_axes`` 2) share one mask, and there is one decision.

    Args:
        source: the scan; it may hold no more than the low-frequency block.
        sampler: folder of the sampler.
        bank: folder of the bank.
        out: folder to write: ``decision.json``, ``lines.txt`` and ``choice.png``, the last two
            with the number of the slice where there are several decisions.
        config: how the uncertainty is found.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the scan, the sampler or the bank cannot be read, or do not fit each other.
    """
    drawer, masks = persistence.load(sampler), banks.load(bank)
    _check_bank(masks, drawer, bank)
    scan = open_scan(source)
    identity = sampler_fingerprint(sampler)
    adaptation = Adaptation(masks, NearestCentroid(), drawer, identity, config)
    decisions = select(scan, adaptation)
    if scan.header.phase_axes == 2:
        decisions = (for_volume(decisions, masks),)
    chosen = ScanDecisions(scan=scan.name, decisions=decisions)
    endings = [""] if len(decisions) == 1 else [f"-{d.slice_index:03d}" for d in decisions]
    with complete_folder(out, overwrite=overwrite) as partial:
        write_decisions(chosen, partial / "decision.json")
        low_frequency = _low_frequency(scan, drawer)
        for decision, ending in zip(track(decisions, "drawing"), endings, strict=True):
            write_lines(masks.masks[decision.index], partial / f"lines{ending}.txt")
            picture = _picture(decision, masks, low_frequency, drawer, config)
            (partial / f"choice{ending}.png").write_bytes(picture)
    return Selection(
        decisions=chosen,
        file=out / "decision.json",
        lines=tuple(out / f"lines{ending}.txt" for ending in endings),
        pictures=tuple(out / f"choice{ending}.png" for ending in endings),
    )


def sampler_fingerprint(folder: Path) -> str:
    """Identity of a sampler: sha256 of its manifest, which lists the sha256 of its files."""
    return sha256(folder / MANIFEST)


def _picture(
    decision: Decision,
    bank: MaskBank,
    low_frequency: LowFrequency,
    sampler: PosteriorSampler,
    config: UncertaintyConfig,
) -> bytes:
    """The picture of a decision; that for a volume shows its middle slice."""
    volume = decision.slice_index is None
    index = low_frequency.batch // 2 if volume else decision.slice_index or 0
    shown = low_frequency[index : index + 1]
    values = measure(sampler, shown, config).values[0]
    return choice_picture(shown.image[0], values, bank, decision)


def _low_frequency(scan: Scan, sampler: Sampler) -> LowFrequency:
    """The sampler's block of a scan."""
    if scan.matrix != sampler.matrix:
        raise BadInputError(
            "the scan is of another matrix than the sampler",
            file=scan.name,
            field="kspace",
            got=scan.matrix,
            expected=tuple(sampler.matrix),
            hint="Train a sampler for this matrix, or crop the scan",
        )
    return acquire_scan(scan, sampler.block)


def _low_frequency_of(sampler: Sampler, positions: Positions) -> tuple[int, ...]:
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
