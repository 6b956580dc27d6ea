"""One training from configuration to exported network."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptmr.data.scan import Scan
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.training.config import TrainConfig
from adaptmr.reconstruction.training.data import (
    fingerprint,
    open_scans,
    split_by_subject,
    subject_of,
)
from adaptmr.sampling.training import quiet

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

    def begin(_: Sequence[Scan], __: Sequence[Scan]) -> "ReconstructionTraining":
        from adaptmr.reconstruction.training.module import ReconstructionTraining

        network = checkpoint.build(config.architecture, config.seed)
        return ReconstructionTraining(network, config)

    return run_training(config, out, begin, checkpoint.save, overwrite=overwrite, resume=resume)


def run_training(
    config: TrainConfig,
    out: Path,
    begin: Callable[[Sequence[Scan], Sequence[Scan]], "ReconstructionTraining"],
    export: Callable[..., None],
    *,
    overwrite: bool,
    resume: bool,
) -> Path:
    """Run any training that is a `ReconstructionTraining`; folders and resume as `train`.

    Args:
        config: what to train on what.
        out: folder of the result.
        begin: makes the training, with first weights, from training and validation scans.
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
    if out.exists() and not overwrite:
        raise BadInputError(
            "the output exists already",
            file=out,
            hint="Choose another name, or allow it to be replaced with --overwrite",
        )
    scans = open_scans(config.data)
    training, validation = split_by_subject(scans, config.validation_fraction, config.seed)
    data = {
        "fingerprint": fingerprint(config.data, scans),
        "training_subjects": sorted({subject_of(scan) for scan in training}),
        "validation_subjects": sorted({subject_of(scan) for scan in validation}),
        "volumes": len(scans),
        "slices": sum(scan.slices for scan in scans),
    }
    module = begin(training, validation)
    run = out.with_name(out.name + ".run")
    _prepare(run, config, data["fingerprint"], resume)

    from adaptmr.reconstruction.training.module import ReconstructionData

    with quiet():
        trainer = _trainer(config, run, validate=bool(validation))
        trainer.fit(
            module,
            datamodule=ReconstructionData(training, validation, config),
            ckpt_path=run / _STATE if (run / _STATE).exists() else None,
            weights_only=True,
        )
    if trainer.is_global_zero:
        epoch = module.use_best()
        provenance = {
            "config": config.model_dump(mode="json"),
            "data": data,
            "versions": _versions(),
            "curve": module.curve,
            "epoch": epoch,
        }
        export(module.reconstructor, out, provenance, overwrite=overwrite)
    return out


def _prepare(run: Path, config: TrainConfig, data: Any, resume: bool) -> None:
    """Make the folder of the run, or check that the stopped run in it was the same training."""
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        return  # a further device of a run that the first one has prepared
    identity = {"config": config.model_dump(mode="json", exclude=_FREE), "data": data}
    if not resume:
        shutil.rmtree(run, ignore_errors=True)
    elif (run / _STATE).exists():
        before = json.loads((run / _IDENTITY).read_text())
        differing = [
            name
            for name in identity["config"]
            if before["config"].get(name) != identity["config"][name]
        ]
        if before != identity:
            raise UsageError(
                "the stopped training is not the one asked for",
                file=run,
                field=", ".join(differing) or "data",
                got="another value than before" if differing else "other files than before",
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


def _trainer(config: TrainConfig, run: Path, *, validate: bool) -> Any:
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
        devices=config.devices,
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
