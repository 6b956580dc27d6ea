"""One training from configuration to exported network."""

import json
import platform
import shutil
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptmr.data.files import require_absent
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.checkpoint import Architecture
from adaptmr.reconstruction.training.cohort import open_cohort
from adaptmr.reconstruction.training.config import SeededSchedule, TrainConfig
from adaptmr.reconstruction.training.data import Material
from adaptmr.reconstruction.training.processes import process_count, side_by_side, strategy
from adaptmr.sampling.training import continuable, quiet

if TYPE_CHECKING:
    from adaptmr.reconstruction.training.module import ReconstructionTraining

_STATE = "last.ckpt"
_IDENTITY = "identity.json"
# What may differ between a run and its continuation, because it does not change what is learned.
_FREE = {"epochs", "accelerator", "devices", "workers"}


def train(config: TrainConfig, out: Path, *, overwrite: bool = False, resume: bool = True) -> Path:
    """Train a network on a folder of scans.

    While it runs, the folder ``<out>.run`` beside ``out`` holds ``last.ckpt`` after each epoch, and
    ``logs`` as CSV and for TensorBoard. A run that was stopped continues from the last finished
    epoch, and ends with the weights that it would have had without the stop (bit by bit on one
    CPU). A finished run continues when ``epochs`` is raised.

    Args:
        config: what to train on what.
        out: folder for the network; appears complete at the end, see `checkpoint.load`.
        overwrite: whether an existing ``out`` may be replaced.
        resume: whether to continue a run that was stopped; otherwise it is thrown away.

    Returns:
        ``out``.

    Raises:
        BadInputError: the data cannot be trained on, ``out`` exists, or the loss became NaN.
        UsageError: the stopped run had another configuration or other data.
    """
    return train_network(
        config.architecture,
        config,
        material_of(config),
        out,
        run_folder(out),
        overwrite=overwrite,
        resume=resume,
    )


def material_of(config: TrainConfig) -> Material:
    """What a configuration says to learn from, opened and split by subject.

    Raises:
        BadInputError: the data cannot be trained on.
    """
    cohort = open_cohort(config.data, config.validation_fraction, config.seed)
    return Material(cohort, config.masks, initial=config.initial, degradations=config.degradations)


def train_network(
    architecture: Architecture,
    config: SeededSchedule,
    material: Material,
    out: Path,
    run: Path,
    *,
    overwrite: bool = False,
    resume: bool = True,
) -> Path:
    """Train a network on scans that are open already.

    Args:
        architecture: which network, and how large.
        config: how.
        material: on what.
        out: folder for the network.
        run: folder of the training while it runs.
        overwrite: as of `train`.
        resume: as of `train`.

    Returns:
        ``out``.

    Raises:
        BadInputError: as `train`; also when the initial network is of another architecture.
        UsageError: as `train`.
    """
    begin = partial(_begin, architecture, config, material)
    return run_training(
        config, material, out, run, begin, checkpoint.save, overwrite=overwrite, resume=resume
    )


def _begin(
    architecture: Architecture, config: SeededSchedule, material: Material
) -> "ReconstructionTraining":
    from adaptmr.reconstruction.training.module import ReconstructionTraining

    network = checkpoint.begin(architecture, config.seed, material.initial)
    for part in material.frozen:
        network.get_submodule(part).requires_grad_(False)
    return ReconstructionTraining(network, config)


def run_folder(out: Path) -> Path:
    """Where the state of the training of ``out`` is kept while it runs: beside it."""
    return out.with_name(out.name + ".run")


def run_training(
    config: SeededSchedule,
    material: Material,
    out: Path,
    run: Path,
    begin: Callable[[], "ReconstructionTraining"],
    export: Callable[..., None],
    *,
    overwrite: bool,
    resume: bool,
) -> Path:
    """Run any training that is a `ReconstructionTraining`; resumes as `train`.

    Args:
        config: how.
        material: on what.
        out: folder of the result.
        run: folder of the training while it runs.
        begin: makes the training, with first weights; on several devices called by each of their
            processes, so a function that is found by its name.
        export: writes what was trained, called as ``export(reconstructor, out, provenance,
            overwrite=overwrite)``.
        overwrite: whether an existing ``out`` may be replaced.
        resume: whether to continue a run that was stopped.

    Returns:
        ``out``.

    Raises:
        BadInputError: as `train`.
        UsageError: as `train`.
    """
    require_absent(out, overwrite=overwrite)
    module, count = begin(), process_count(config)
    _prepare(run, config, material.identity, resume)
    if count == 1:
        _fit(module, config, material, out, run, export, overwrite)
    else:
        side_by_side(partial(_one, begin, config, material, out, run, export, overwrite), count)
    return out


def _one(begin: Callable[[], "ReconstructionTraining"], *others: Any) -> None:
    """What each of several processes does."""
    _fit(begin(), *others)


def _fit(
    module: "ReconstructionTraining",
    config: SeededSchedule,
    material: Material,
    out: Path,
    run: Path,
    export: Callable[..., None],
    overwrite: bool,
) -> None:
    """Train, and write what was trained."""
    from adaptmr.reconstruction.training.module import ReconstructionData

    identity = material.identity
    with quiet():
        trainer = _trainer(config, run, validate=bool(material.cohort.validation))
        trainer.fit(
            module,
            datamodule=ReconstructionData(material, config),
            ckpt_path=run / _STATE if (run / _STATE).exists() else None,
            weights_only=True,
        )
    if trainer.is_global_zero:
        epoch = module.use_best()
        provenance = {
            "config": config.model_dump(mode="json"),
            "data": material.cohort.description,
            "initial": identity["initial"],
            "frozen": identity["frozen"],
            "versions": _versions(),
            "curve": module.curve,
            "epoch": epoch,
        }
        export(module.reconstructor, out, provenance, overwrite=overwrite)


def _prepare(run: Path, config: SeededSchedule, material: dict[str, Any], resume: bool) -> None:
    """Make the folder of the run, or check that the stopped run in it was the same training."""
    identity = {"config": config.model_dump(mode="json", exclude=_FREE), **material}
    if not resume:
        shutil.rmtree(run, ignore_errors=True)
    elif continuable(run / _STATE):
        before = json.loads((run / _IDENTITY).read_text())
        options = [
            name
            for name in identity["config"]
            if before["config"].get(name) != identity["config"][name]
        ]
        if before != identity:
            raise UsageError(
                "the stopped training is not the one asked for",
                file=run,
                field=", ".join(
                    options or [part for part in material if before.get(part) != material[part]]
                ),
                got="another value than before" if options else "other files than before",
                hint="Throw the stopped training away with --no-resume, or choose another name",
            )
        return
    try:
        run.mkdir(parents=True, exist_ok=True)
        (run / _IDENTITY).write_text(json.dumps(identity, indent=1) + "\n")
    except OSError as error:
        raise BadInputError(
            "the output cannot be written",
            file=run,
            got=error.strerror,
            hint="Choose a folder with room that you may write to",
        ) from error


def _trainer(config: SeededSchedule, run: Path, *, validate: bool) -> Any:
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    from adaptmr.sampling.epochs import EpochLines

    progress = (
        RichProgressBar(console_kwargs={"stderr": True}) if sys.stderr.isatty() else EpochLines()
    )
    every_epoch = ModelCheckpoint(
        run, Path(_STATE).stem, save_on_train_epoch_end=True, enable_version_counter=False
    )
    return Trainer(
        accelerator=config.accelerator,
        devices=process_count(config),
        **strategy(process_count(config)),
        precision=config.precision,
        max_epochs=config.epochs,
        reload_dataloaders_every_n_epochs=1,
        limit_val_batches=None if validate else 0,
        num_sanity_val_steps=0,
        callbacks=[progress, every_epoch],
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        logger=[CSVLogger(run, "logs"), TensorBoardLogger(run, "tensorboard")],
        log_every_n_steps=1,
    )


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("adaptmr", "torch", "lightning", "numpy")}
    return {"python": platform.python_version(), **packages}
