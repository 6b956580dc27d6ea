"""The adaptation of a bank: an adapter for each pair, and perhaps new masks, kept as a delta."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, NonNegativeInt
from torch import Tensor

from adaptmr.continual.adapt import adapter as adapters
from adaptmr.continual.adapt.adapter import Adapter
from adaptmr.continual.adapt.network import AdaptationConfig, adapt_network, adapted
from adaptmr.data.files import complete_folder, require_absent
from adaptmr.data.manifest import check_manifest, read_description, write_manifest
from adaptmr.data.scan import Scan
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.choice import overlap, with_block
from adaptmr.reconstruction.training.cohort import Cohort
from adaptmr.sampling.bank import MaskBank
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.selection import check_matrix
from adaptmr.sampling.selector import FixedBest
from adaptmr.sampling.selectors import name_of

SCHEMA: Final = 1
_DESCRIPTION = "adaptation.json"


class NewMask(StrEnum):
    """What becomes of a network that was adapted to a mask which the bank lacks."""

    JOIN = "join"
    """It joins the bank, for scans acquired with that mask: nothing chooses it."""
    REPLACE = "replace"
    """It takes the place of the pair that it was adapted from, and is chosen in its stead."""
    ALONE = "alone"
    """It is a bank of its own: for masks of another budget or low-frequency block."""


@dataclass(frozen=True, eq=False)
class PairDelta:
    """The change of one pair.

    Attributes:
        pair: which one of the bank.
        adapter: the change of its network.
        mask: the mask that the network is for, where it is not the pair's own.
        provenance: how the adapter came to be.
    """

    pair: int
    adapter: Adapter
    mask: Mask | None
    provenance: dict[str, Any]


@dataclass(frozen=True, eq=False)
class BankDelta:
    """The change of a bank.

    Attributes:
        bank: fingerprint of the masks of the bank that it is of.
        new_mask: what becomes of networks with new masks.
        pairs: one for each network that changes.
    """

    bank: str
    new_mask: NewMask
    pairs: tuple[PairDelta, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of a bank with this change."""
        notes = [
            "adapted networks: the bank's intervals were calibrated on others, so none are given"
        ]
        for each in self.pairs:
            if each.mask is None:
                continue
            mask = f"a new mask of {each.mask.acceleration:.2f}x"
            what = {
                NewMask.JOIN: f"{mask} joined from pair {each.pair}, for scans acquired with it",
                NewMask.REPLACE: f"{mask} replaces that of pair {each.pair}",
                NewMask.ALONE: f"{mask} stands alone, adapted from pair {each.pair}",
            }
            notes.append(what[self.new_mask])
        return tuple(notes)


class _Pair(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    pair: NonNegativeInt
    new_mask: bool


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA
    kind: Literal["adaptation"] = "adaptation"
    bank: str
    new_mask: NewMask
    pairs: tuple[_Pair, ...]
    provenance: dict[str, JsonValue]


@dataclass(frozen=True)
class _Job:
    """One network to adapt."""

    pair: int
    mask: Mask
    new: bool
    cohort: Cohort


def adapt(
    bank: ReconstructionBank,
    cohort: Cohort,
    config: AdaptationConfig,
    out: Path,
    run: Path,
    *,
    mask: Mask | None = None,
    new_mask: NewMask = NewMask.JOIN,
    provenance: Mapping[str, Any],
    overwrite: bool = False,
    resume: bool = True,
) -> Path:
    """Adapt a bank to scans.

    Fully sampled scans adapt every pair, each under its own mask; with ``mask`` the one pair of
    that mask, or of the mask nearest to it. Undersampled scans adapt the pairs whose masks they
    were acquired with (the nearest where the bank lacks theirs) from what was acquired alone.

    Args:
        bank: stays as it is.
        cohort: scans of the bank's matrix, all fully sampled or none.
        config: how.
        out: folder for the delta, see `load`.
        run: folder of the trainings while they run.
        mask: to adapt to; fully sampled scans only.
        new_mask: what becomes of a network whose mask the bank lacks.
        provenance: how the scans and the bank came to be.
        overwrite: whether an existing ``out`` may be replaced.
        resume: whether to continue an adaptation that was stopped.

    Returns:
        ``out``.

    Raises:
        BadInputError: the scans do not fit the bank, a new mask cannot join it, ``out`` exists, or
            a loss became NaN.
        UsageError: as `adapt_network`; or a mask is given with undersampled scans.
    """
    require_absent(out, overwrite=overwrite)
    for scan in cohort.scans:
        check_matrix(scan, bank.masks)
    complete = cohort.scans[0].fully_sampled
    if mask is not None and not complete:
        raise UsageError(
            "undersampled scans have masks of their own", field="mask", hint="Leave --mask out"
        )
    jobs = (
        [_job(bank, cohort, mask)]
        if mask is not None
        else _jobs_of_pairs(bank, cohort)
        if complete
        else _jobs_of_acquired(bank, cohort)
    )
    _require_fitting(bank.masks, [job.mask for job in jobs if job.new], new_mask)
    if not resume:
        shutil.rmtree(run, ignore_errors=True)
    trained = [
        adapt_network(
            bank.networks[job.pair],
            job.cohort,
            job.mask,
            config,
            run / f"{number}" / "adapter",
            run / f"{number}",
            acquired=not complete,
            overwrite=True,
        )
        for number, job in enumerate(jobs)
    ]
    description = _Description(
        bank=bank.masks.fingerprint,
        new_mask=new_mask,
        pairs=tuple(_Pair(pair=job.pair, new_mask=job.new) for job in jobs),
        provenance=dict(provenance),
    )
    with complete_folder(out, overwrite=overwrite) as partial:
        (partial / _DESCRIPTION).write_text(description.model_dump_json(indent=1) + "\n")
        for number, (job, folder) in enumerate(zip(jobs, trained, strict=True)):
            shutil.copytree(folder, partial / f"{number}", copy_function=shutil.copyfile)
            if job.new:
                _mask_file(partial, number).write_text(job.mask.to_json() + "\n")
        write_manifest(partial)
    return out


def load(folder: Path) -> BankDelta:
    """Read a delta that `adapt` wrote, on the CPU.

    Raises:
        BadInputError: the folder is missing, incomplete, altered, or of a newer version.
    """
    check_manifest(folder)
    description = read_description(folder / _DESCRIPTION, _Description, "an adaptation of a bank")
    pairs = [
        PairDelta(
            each.pair,
            adapters.load(folder / f"{number}"),
            Mask.from_json(_mask_file(folder, number).read_bytes()) if each.new_mask else None,
            adapters.provenance(folder / f"{number}"),
        )
        for number, each in enumerate(description.pairs)
    ]
    return BankDelta(description.bank, description.new_mask, tuple(pairs))


def adapted_bank(bank: ReconstructionBank, delta: BankDelta) -> ReconstructionBank:
    """The bank with a delta merged into it; it gives no intervals.

    A selector that was fitted on the masks as they were gives way to the fixed best mask.

    Raises:
        BadInputError: the delta is of another bank, or its masks do not fit in.
    """
    if delta.bank != bank.masks.fingerprint:
        raise BadInputError(
            "the adaptation is of another bank",
            field="bank",
            got=bank.masks.fingerprint[:16],
            expected=delta.bank[:16],
            hint="Name the bank that was adapted, or adapt this one",
        )
    new = [each.mask for each in delta.pairs if each.mask is not None]
    _require_fitting(bank.masks, new, delta.new_mask)
    before = [_Row.of(bank.masks, index) for index in range(len(bank))]
    rows, networks = list(before), list(bank.networks)
    if new and delta.new_mask is NewMask.ALONE:
        rows, networks = [], []
    for each in delta.pairs:
        network = adapted(bank.networks[each.pair], each.adapter)
        if each.mask is None and rows:
            networks[each.pair] = network
        elif each.mask is not None and delta.new_mask is NewMask.REPLACE:
            rows[each.pair] = replace(before[each.pair], mask=each.mask)
            networks[each.pair] = network
        elif each.mask is not None:
            rows.append(replace(before[each.pair], mask=each.mask, population=0))
            networks.append(network)
    alone = len(rows) == len(new) and delta.new_mask is NewMask.ALONE
    masks = bank.masks if not new else _bank_of(rows, bank.masks, best=0 if alone else None)
    fitted_on_others = bool(new) and name_of(bank.selector) is None
    return replace(
        bank,
        masks=masks,
        networks=networks,
        selector=FixedBest() if alone or fitted_on_others else bank.selector,
        sampler=None if alone else bank.sampler,
        sampler_fingerprint=None if alone else bank.sampler_fingerprint,
        width=None,
        calibration=None,
        provenance={**bank.provenance, "adaptation": list(delta.notes)},
    )


@dataclass(frozen=True, eq=False)
class _Row:
    """A mask of a bank with what belongs to it."""

    mask: Mask
    centroid: Tensor
    population: int

    @classmethod
    def of(cls, bank: MaskBank, index: int) -> "_Row":
        return cls(bank.masks[index], bank.centroids[index], bank.populations[index])


def _bank_of(rows: Sequence[_Row], before: MaskBank, best: int | None) -> MaskBank:
    return replace(
        before,
        masks=tuple(row.mask for row in rows),
        centroids=torch.stack([row.centroid for row in rows]),
        populations=tuple(row.population for row in rows),
        best=before.best if best is None else best,
    )


def _jobs_of_pairs(bank: ReconstructionBank, cohort: Cohort) -> list[_Job]:
    return [_Job(pair, mask, False, cohort) for pair, mask in enumerate(bank.masks.masks)]


def _jobs_of_acquired(bank: ReconstructionBank, cohort: Cohort) -> list[_Job]:
    """One for each mask that scans to learn from were acquired with."""
    acquired = {scan.name: Mask.of_acquired(scan.acquired & scan.encoded) for scan in cohort.scans}

    def of(mask: Mask, scans: Sequence[Scan]) -> tuple[Scan, ...]:
        return tuple(scan for scan in scans if acquired[scan.name] == mask)

    return [
        _job(
            bank,
            replace(
                cohort, training=of(mask, cohort.training), validation=of(mask, cohort.validation)
            ),
            mask,
        )
        for mask in dict.fromkeys(acquired[scan.name] for scan in cohort.training)
    ]


def _job(bank: ReconstructionBank, cohort: Cohort, mask: Mask) -> _Job:
    """The pair of a mask, or that of the nearest mask."""
    shared = [overlap(mask, own, bank.masks.matrix) for own in bank.masks.masks]
    pair = max(range(len(shared)), key=shared.__getitem__)
    if shared[pair] == 1:
        return _Job(pair, bank.masks.masks[pair], False, cohort)
    return _Job(pair, with_block(mask, bank.masks, cohort.training[0]), True, cohort)


def _require_fitting(bank: MaskBank, masks: Sequence[Mask], new_mask: NewMask) -> None:
    """Refuse masks that a bank cannot take in beside its own."""
    if new_mask is NewMask.ALONE:
        return
    for mask in masks:
        if mask.budget != bank.masks[0].budget or mask.low_frequency != bank.masks[0].low_frequency:
            raise BadInputError(
                "the mask cannot be one of the bank's: it differs in budget or block",
                field="mask",
                got=f"{mask.budget} positions, block {mask.low_frequency}",
                expected=f"{bank.masks[0].budget} positions, block {bank.masks[0].low_frequency}",
                hint="Let it be a bank of its own with --new-mask alone",
            )


def _mask_file(folder: Path, number: int) -> Path:
    return folder / f"{number}.mask.json"
