"""Adaptation of a bank to the scans of a new site, from files to files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from adaptmr.continual.adapt import bank as deltas
from adaptmr.continual.adapt.bank import NewMask, PairDelta
from adaptmr.continual.adapt.family import FAMILY, Strategy
from adaptmr.continual.adapt.network import AdaptationConfig
from adaptmr.continual.adapt.scans import open_scans_to_adapt_to
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.training.cohort import subjects_of
from adaptmr.reconstruction.training.run import run_folder
from adaptmr.sampling.mask import Mask
from adaptmr.workflows.banks import open_bank
from adaptmr.workflows.config import overridden
from adaptmr.workflows.progress import stage


class AdaptedPair(BaseModel):
    """What became of one network."""

    model_config = ConfigDict(frozen=True)

    pair: int
    new_mask: bool
    """Whether it is for a mask that the bank lacks."""
    trained_numbers: int
    epoch: int
    """That was kept; -1 where no epoch did better than the network as it came."""
    before: float | None
    """Validation loss of the network as it came; null without validation."""
    after: float | None
    """Validation loss of the epoch that was kept."""


class AdaptedBank(BaseModel):
    """An adaptation as it was written."""

    model_config = ConfigDict(frozen=True)

    delta: Path
    strategy: Strategy
    scans: int
    subjects: int
    bytes: int
    """Of all files of the delta."""
    pairs: tuple[AdaptedPair, ...]
    notes: tuple[str, ...]
    """What a person should know of the adapted bank."""


def adaptation_config(strategy: Strategy, given: Mapping[str, Any]) -> AdaptationConfig:
    """A configuration with the strategy's own learning rate, and what is given changed in it.

    The learning rate falls to a tenth for the last third of the epochs.

    Args:
        strategy: how weights may change.
        given: other fields of `AdaptationConfig`; those that are None were not given.

    Raises:
        UsageError: a value is out of its range.
    """
    base = AdaptationConfig(strategy=strategy, learning_rate=FAMILY[strategy].learning_rate)
    config = overridden(base, given, "the adaptation cannot be run so")
    return config.model_copy(update={"learning_rate_step": max(1, round(config.epochs * 2 / 3))})


def adapt_bank(
    bank: Path | None,
    scans: Path,
    config: AdaptationConfig,
    out: Path,
    *,
    mask: Path | None = None,
    new_mask: NewMask = NewMask.JOIN,
    overwrite: bool = False,
    resume: bool = True,
) -> AdaptedBank:
    """Adapt a bank to a folder of scans.

    Args:
        bank: folder of the bank, which stays as it is; the shipped one when not given.
        scans: folder of fastMRI files, all fully sampled or all undersampled.
        config: how.
        out: folder for the delta; ``<out>.run`` beside it keeps the trainings while they run.
        mask: file of a mask to adapt to, see `read_mask`.
        new_mask: what becomes of a network whose mask the bank lacks.
        overwrite: whether an existing ``out`` may be replaced.
        resume: whether to continue an adaptation that was stopped.

    Raises:
        BadInputError: bank, scans or mask cannot be read or do not fit each other, or ``out``
            exists.
        UsageError: as `adaptmr.continual.adapt.bank.adapt`.
    """
    opened, identity = open_bank(bank)
    cohort = open_scans_to_adapt_to(scans, config.validation_fraction, config.seed)
    wanted = None if mask is None else read_mask(mask, opened.masks.matrix)
    with stage("adapting"):
        deltas.adapt(
            opened,
            cohort,
            config,
            out,
            run_folder(out),
            mask=wanted,
            new_mask=new_mask,
            provenance={"bank": identity, "data": cohort.description},
            overwrite=overwrite,
            resume=resume,
        )
    delta = deltas.load(out)
    return AdaptedBank(
        delta=out,
        strategy=config.strategy,
        scans=len(cohort.scans),
        subjects=len(subjects_of(cohort.scans)),
        bytes=sum(file.stat().st_size for file in out.rglob("*") if file.is_file()),
        pairs=tuple(map(_told, delta.pairs)),
        notes=delta.notes,
    )


def read_mask(file: Path, matrix: tuple[int, int]) -> Mask:
    """A mask from JSON as banks hold it, or from a text file of lines, as `select` lists them.

    Raises:
        BadInputError: the file cannot be read, is no mask, or is of another matrix.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError("the mask cannot be read", file=file, got=str(error)) from error
    if text.lstrip().startswith("{"):
        mask = Mask.from_json(text)
    else:
        mask = _of_lines(text, file, matrix[1])
    if not mask.fits(matrix):
        raise BadInputError(
            "the mask is of another matrix than the bank",
            file=file,
            got=mask.positions.shape,
            expected=matrix[-mask.axes :],
        )
    return mask


def _of_lines(text: str, file: Path, columns: int) -> Mask:
    try:
        lines = [int(word) for word in text.split()]
    except ValueError as error:
        raise BadInputError("this is no list of lines", file=file, got=str(error)) from error
    if not lines or not all(0 <= line < columns for line in lines):
        raise BadInputError(
            "the lines do not fit the bank",
            file=file,
            got=f"{min(lines)} to {max(lines)}" if lines else "none",
            expected=f"0 to {columns - 1}",
        )
    positions = np.zeros(columns, dtype=np.bool_)
    positions[lines] = True
    return Mask.from_array(positions)


def _told(pair: PairDelta) -> AdaptedPair:
    history = pair.provenance
    epoch, curve = history["epoch"], {one["epoch"]: one for one in history["curve"]}
    kept = curve[epoch].get("validation_loss") if epoch in curve else history["before"]
    return AdaptedPair(
        pair=pair.pair,
        new_mask=pair.mask is not None,
        trained_numbers=history["trained_numbers"],
        epoch=epoch,
        before=history["before"],
        after=kept,
    )
