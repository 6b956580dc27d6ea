"""A bank from its configuration to its folder."""

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.bank import persistence as bank_files
from adaptmr.reconstruction.calibration import intervals
from adaptmr.reconstruction.training.run import run_folder
from adaptmr.sampling import bank as banks
from adaptmr.sampling import selector_files
from adaptmr.sampling.decision import versions
from adaptmr.workflows.bank_training.config import BankTraining, SimulatedScans
from adaptmr.workflows.bank_training.course import Course, Pairs, load_losses
from adaptmr.workflows.bank_training.data import open_data
from adaptmr.workflows.bank_training.steps import Step, Steps, Took


class TrainedBank(BaseModel):
    """A bank as it was trained."""

    model_config = ConfigDict(frozen=True)

    bank: Path
    fingerprint: str
    """sha256 of its manifest."""
    steps: tuple[Took, ...]
    """What each step took."""


class TrainedPair(BaseModel):
    """The network of one mask as it was trained."""

    model_config = ConfigDict(frozen=True)

    pair: int
    network: Path
    steps: tuple[Took, ...]
    """What each step took."""


def train_bank(
    config: BankTraining, out: Path, *, run: Path | None = None, overwrite: bool = False
) -> TrainedBank:
    """Train a reconstruction bank.

    The result of every step is kept in ``run``, and is used again whenever the step is asked for
    with the same configuration and data. A training that was stopped continues, and ends with the
    same bank (bit by bit on one CPU); trainings may share a ``run``, at the same time too.

    Args:
        config: what to train on what.
        out: folder for the bank; appears complete at the end, see `bank_files.load`.
        run: folder of the steps; ``<out>.run`` beside ``out`` when not given.
        overwrite: whether another ``out`` may be replaced; one of this very training is kept.

    Raises:
        BadInputError: the data cannot be trained on, ``out`` exists, or a loss became NaN.
        UsageError: the parts of the configuration do not fit together.
    """
    course = begin(config, Steps(run or run_folder(out)))
    request = described(course)
    if out.exists() and not overwrite:
        _require_same(out, request)
    else:
        finish(course, out, overwrite=overwrite)
    return TrainedBank(
        bank=out, fingerprint=bank_files.fingerprint(out), steps=tuple(course.steps.took)
    )


def train_pair(
    config: BankTraining, out: Path, index: int, *, run: Path | None = None
) -> TrainedPair:
    """Train the network of one mask of a bank, and before it whatever it needs that is missing.

    Several processes may train pairs of one bank at once: what all of them need one computes, and
    the others wait for. `train_bank` then finds the networks trained.

    Args:
        config: as for `train_bank`.
        out: as for `train_bank`; not written.
        index: the pair, from 0.
        run: as for `train_bank`.

    Raises:
        BadInputError: as `train_bank`.
        UsageError: as `train_bank`, or there is no such pair.
    """
    if not 0 <= index < config.masks.masks:
        raise UsageError(
            "the bank has no such pair",
            field="pair",
            got=index,
            expected=f"0 to {config.masks.masks - 1}",
        )
    course = begin(config, Steps(run or run_folder(out)))
    sampler = course.sampler()
    trained = train_pairs(course, sampler, course.uncertainties(sampler), only=index)
    return TrainedPair(
        pair=index,
        network=trained.networks[0].folder / "network",
        steps=tuple(course.steps.took),
    )


def begin(config: BankTraining, steps: Steps) -> Course:
    """Open the data of a training, as `train_bank` does."""
    usable = config.pairs.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if usable else "cpu")
    return Course(config, open_data(config, steps), steps, device)


def train_pairs(
    course: Course, sampler: Step, uncertainties: Step, only: int | None = None
) -> Pairs:
    """The pairs of the last round; with ``only``, of that round just this one."""
    surrogate = course.surrogate(sampler, uncertainties)
    masks = last_masks(course, sampler, uncertainties, surrogate)
    every = range(course.config.masks.masks)
    wanted = every if only is None else range(only, only + 1)
    return _trained(course, masks, wanted, surrogate)


def last_masks(course: Course, sampler: Step, uncertainties: Step, surrogate: Step | None) -> Step:
    """The masks of the last round; the networks of the rounds before it are trained for them."""
    masks = course.masks(sampler, uncertainties, surrogate)
    for _ in range(course.config.em_rounds):
        before = _trained(course, masks, range(course.config.masks.masks), surrogate)
        losses = course.losses("training-losses", course.data.training, before)
        masks = course.reassigned_masks(before, losses, uncertainties, surrogate)
    return masks


def _trained(course: Course, masks: Step, wanted: range, surrogate: Step | None) -> Pairs:
    return Pairs(masks, tuple(course.network(index, masks, surrogate) for index in wanted))


def finish(course: Course, out: Path, *, overwrite: bool = False) -> None:
    """Put the bank of a training together, from its steps.

    Args:
        course: the training.
        out: as of `train_bank`.
        overwrite: whether an existing ``out`` may be replaced.

    Raises:
        BadInputError: as `train_bank`.
        UsageError: as `train_bank`.
    """
    config = course.config
    sampler = course.sampler()
    pairs = train_pairs(course, sampler, course.uncertainties(sampler))
    losses = course.losses("losses", course.data.judged, pairs)
    selector = course.selector(sampler, pairs, losses)
    means = load_losses(losses).double().mean(0).tolist()
    widths = calibration = None
    if config.width is not None and course.data.calibration:
        widths = course.width(pairs, config.width)
        calibration = course.calibration(sampler, pairs, selector, widths)
    bank_files.assemble(
        out,
        masks=banks.load(selector.folder / "masks"),
        networks=[step.folder / "network" for step in pairs.networks],
        sampler=sampler.folder / "sampler",
        selector=selector_files.load(selector.folder / "selector"),
        uncertainty=config.uncertainty,
        width=None if widths is None else widths.folder / "width",
        calibration=None
        if calibration is None
        else intervals.load(calibration.folder / "calibration.json"),
        provenance={**described(course), "losses": means, "versions": dict(versions())},
        overwrite=overwrite,
    )


def described(course: Course) -> dict[str, Any]:
    """What the provenance of a bank says of its training: how, and on what."""
    return {"config": _described(course.config), "data": course.data.description}


def _described(config: BankTraining) -> dict[str, Any]:
    """The configuration without where its data lie."""
    described = config.model_dump(mode="json", exclude={"data"})
    if isinstance(config.data, SimulatedScans):
        anatomy: dict[str, Any] = {"__all__": {"anatomy"}}
        places: dict[str, Any] = {"training": anatomy, "calibration": anatomy}
    else:
        places = {"folder": True, "calibration": True}
    return {**described, "data": config.data.model_dump(mode="json", exclude=places)}


def _require_same(out: Path, request: dict[str, Any]) -> None:
    """Check that ``out`` is what the training would give.

    Raises:
        BadInputError: otherwise.
    """
    provenance = bank_files.load(out).provenance if bank_files.is_bank(out) else {}
    if any(provenance.get(part) != request[part] for part in request):
        raise BadInputError(
            "the output exists already",
            file=out,
            got="a bank of another configuration, other data, or no bank",
            hint="Choose another name, or allow it to be replaced with --overwrite",
        )
