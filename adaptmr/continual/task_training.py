"""Training of task networks on fully sampled images."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from adaptmr.continual.measures import evaluate
from adaptmr.continual.results import Scores
from adaptmr.continual.task import Split, Task
from adaptmr.continual.task_network import Intensity
from adaptmr.errors import BadInputError
from adaptmr.sampling.training import STATE, TrainingRecord, prepare_run, quiet

# What may differ between a run and its continuation, because it does not change what is learned.
_FREE = {"accelerator"}


class TaskNetworkTraining(BaseModel):
    """One training of a task network; Adam, its learning rate falls to zero as a cosine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = 30
    batch_size: PositiveInt = 16
    """Slices, or volumes where volumes are judged."""
    learning_rate: PositiveFloat = 1e-3
    clip: PositiveFloat = 10.0
    """Largest norm of the gradient."""
    noise: NonNegativeFloat = 0.02
    """Standard deviation of the noise that varies an input, over that of the input; left and right
    change places at random as well."""
    seed: NonNegativeInt = 0
    """Of the order and the variation."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"


def train(
    task: Task, config: TaskNetworkTraining, run: Path, *, resume: bool = True
) -> TrainingRecord:
    """Train the network of a task in place; it ends with the weights that validate best, frozen.

    The folder ``run`` holds ``last.ckpt`` after each epoch. A training that was stopped continues
    from the last finished epoch, and ends with the weights that it would have had without the stop
    (bit by bit on one CPU). The folder can be thrown away afterwards.

    Args:
        task: with its training and validation examples, all of one size.
        config: how.
        run: folder of the training while it runs.
        resume: whether to continue a training that was stopped; otherwise it is thrown away.

    Raises:
        BadInputError: the images differ in size, the loss is not a number, or ``run`` cannot be
            written.
        UsageError: the stopped training had another configuration, other data or another network.
    """
    if task.network is None:
        raise ValueError(f"{task.name} has no network")
    identity = {
        "config": config.model_dump(mode="json", exclude=_FREE),
        "task": task.fingerprint,
    }
    continued = prepare_run(run, identity, resume)
    from adaptmr.continual.task_training_module import Images, JudgeModule
    from adaptmr.sampling.training_module import trainer_for

    module = JudgeModule(task, config)
    with quiet():
        trainer_for(config, run, validate=True).fit(
            module,
            datamodule=Images(task, config),
            ckpt_path=run / STATE if continued else None,
            weights_only=True,
        )
    epoch = module.use_best()
    task.network.network.cpu().requires_grad_(False)
    task.network.freeze()
    return TrainingRecord(curve=tuple(module.curve), epoch=epoch)


def scores_on_full(task: Task, split: Split) -> Scores:
    """How well the network of a task judges fully sampled images."""
    return evaluate([task], split, lambda example: example.target[:])[task.name]


def intensity(task: Task) -> Intensity:
    """What the inputs of a task's network are like in its training examples."""
    if task.network is None:
        raise ValueError(f"{task.name} has no network")
    adapter = task.network.adapter
    values = [adapter(example.target[:]).flatten() for example in task.of(Split.TRAINING)]
    return Intensity.of(torch.cat(values))


def require_one_size(task: Task) -> None:
    """Refuse examples that cannot be put into one batch.

    Raises:
        BadInputError: their inputs differ in size.
    """
    sizes: dict[tuple[int, ...], str] = {}
    for example in task:
        if task.network is not None:
            shape = task.network.adapter(example.target[:]).shape
            sizes.setdefault(tuple(shape[2:]), example.scan.name)
    if len(sizes) > 1:
        (first, one), (second, other) = list(sizes.items())[:2]
        raise BadInputError(
            "the images of a task network differ in size",
            file=other,
            got=second,
            expected=f"{first} as in {one}",
            hint="Give the adapter a size: images are cut or zeros are put around them",
        )
