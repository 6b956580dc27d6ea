"""Training of any posterior sampler that is a module with a loss."""

import json
import logging
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from adaptmr.errors import BadInputError, UsageError
from adaptmr.sampling.pairs import Pairs

_log = logging.getLogger(__name__)
STATE = "last.ckpt"
_IDENTITY = "identity.json"
# What may differ between a run and its continuation, because it does not change what is learned.
_FREE = {"accelerator"}
# Warnings of Lightning that no user can act on.
_ADVICE = (
    "does not have many workers",
    "exists and is not empty",
    "Trying to infer",
    r"isinstance\(treespec, LeafSpec\)",  # of Lightning's own code
)


class TrainableSampler(Protocol):
    """What `fit` trains: an ``nn.Module`` with a loss that uses only the generator it is given."""

    @property
    def config(self) -> BaseModel:
        """Its architecture: a stopped training of another one is not continued."""
        ...

    def loss(self, low: Tensor, full: Tensor, generator: torch.Generator) -> Tensor:
        """Loss of a batch of low-frequency and full images, each (batch, rows, columns)."""
        ...

    def prepare(self, pairs: Pairs, generator: torch.Generator) -> None:
        """Fit what gradients do not learn, once, before the first step; may do nothing."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """As of ``nn.Module``."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """As of ``nn.Module``."""
        ...


class TrainerSettings(Protocol):
    """What a training on one device tells Lightning."""

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        ...

    @property
    def clip(self) -> float:
        """Largest norm of the gradient."""
        ...

    @property
    def accelerator(self) -> str:
        """auto, cpu or gpu."""
        ...


class SamplerTraining(BaseModel):
    """One training of a sampler."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = 100
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 1e-3
    """First learning rate of Adam; it falls to zero as a cosine over the epochs."""
    clip: PositiveFloat = 10.0
    """Largest norm of the gradient."""
    shift: NonNegativeInt = 0
    """Largest circular shift, in pixels along each axis, by which pairs are varied: a shift of the
    subject moves the image and its low-frequency image alike, exactly."""
    seed: NonNegativeInt = 0
    """Seed of the order, the shifts and the sampler's own noise."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"


class TrainingRecord(BaseModel):
    """What became of a training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    curve: tuple[dict[str, float], ...]
    """One entry per epoch: ``epoch``, ``loss``, and with validation ``validation_loss``."""
    epoch: NonNegativeInt
    """The epoch that the weights are from."""


def fit(
    sampler: TrainableSampler,
    training: Pairs,
    validation: Pairs | None,
    config: SamplerTraining,
    run: Path,
    *,
    resume: bool = True,
) -> TrainingRecord:
    """Train a sampler in place; it ends with the weights of the epoch that validates best.

    The folder ``run`` holds ``last.ckpt`` after each epoch, and ``logs`` as CSV. A training that
    was stopped continues from the last finished epoch, and ends with the weights that it would
    have had without the stop (bit by bit on one CPU). The folder can be thrown away afterwards.

    Args:
        sampler: an ``nn.Module`` that is a `TrainableSampler`, with its first weights.
        training: pairs to learn from.
        validation: pairs of other subjects; without them the last epoch is kept.
        config: how.
        run: folder of the training while it runs.
        resume: whether to continue a training that was stopped; otherwise it is thrown away.

    Raises:
        BadInputError: the loss is not a number, or ``run`` cannot be written.
        UsageError: the stopped training had another configuration, other data or another sampler.
    """
    from adaptmr.sampling.training_module import SamplerModule, SamplerPairs, trainer_for

    continued = prepare_run(run, _identity(sampler, training, validation, config), resume)
    module = SamplerModule(sampler, config)
    if not continued:
        sampler.prepare(training, generator_for(config.seed, 0, 0, 0))
    with quiet():
        trainer_for(config, run, validate=validation is not None).fit(
            module,
            datamodule=SamplerPairs(training, validation, config),
            ckpt_path=run / STATE if continued else None,
            weights_only=True,
        )
    return TrainingRecord(curve=tuple(module.curve), epoch=module.use_best())


def generator_for(*key: int) -> torch.Generator:
    """A generator of its own for each key of numbers that are not negative."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning without its advice; what goes wrong is still told."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _ADVICE:
                warnings.filterwarnings("ignore", f".*{message}")
            yield
    finally:
        logger.setLevel(level)


def _identity(
    sampler: TrainableSampler, training: Pairs, validation: Pairs | None, config: SamplerTraining
) -> dict[str, Any]:
    return {
        "config": config.model_dump(mode="json", exclude=_FREE),
        "training": training.fingerprint,
        "validation": None if validation is None else validation.fingerprint,
        "sampler": sampler.config.model_dump(mode="json"),
    }


def continuable(state: Path) -> bool:
    """Whether a training can go on from its state.

    A state that is not whole, because the disk was full or broke, is thrown away, and that is told:
    the training begins anew, and ends with the same weights.
    """
    if not state.exists():
        return False
    try:
        with zipfile.ZipFile(state) as stored:
            whole = stored.testzip() is None
    except (zipfile.BadZipFile, OSError):
        whole = False
    if not whole:
        _log.warning("%s: the state of the stopped training is damaged; it begins anew", state)
        state.unlink()
    return whole


def prepare_run(run: Path, identity: dict[str, Any], resume: bool) -> bool:
    """Make the folder of a training while it runs, or check that the stopped one in it is the same.

    Args:
        run: the folder.
        identity: all that its weights depend on, as JSON holds it.
        resume: whether a stopped training may be continued; otherwise it is thrown away.

    Returns:
        Whether there is one to continue, from ``run / STATE``.

    Raises:
        BadInputError: the folder cannot be written.
        UsageError: the stopped training was another one.
    """
    if not resume:
        shutil.rmtree(run, ignore_errors=True)
    elif continuable(run / STATE):
        before = json.loads((run / _IDENTITY).read_text())
        if differing := [part for part in identity if before.get(part) != identity[part]]:
            raise UsageError(
                "the stopped training is not the one asked for",
                file=run,
                field=", ".join(differing),
                got="something else than before",
                hint="Throw the stopped training away with --no-resume, or choose another name",
            )
        return True
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
    return False
