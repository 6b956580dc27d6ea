"""The signature of all strategies, and the stage that they work in."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adaptmr.continual.config import LearnerConfig
from adaptmr.continual.draws import FISHER, REPLAY, TRAINING, Draws, seed_of
from adaptmr.continual.measures import image_loss, label_loss, logits_of
from adaptmr.continual.replay import ReplayBuffer, TaskBatch
from adaptmr.continual.task import Example, Judgement, Task
from adaptmr.sampling.mask import Mask


class Order(Enum):
    """How a strategy goes through the tasks."""

    SEQUENTIAL = auto()
    """One stage for each task, from the weights of the one before."""
    APART = auto()
    """One stage for each task, from the weights of stage 0."""
    TOGETHER = auto()
    """A single stage of all tasks, as many steps as the stages would have together."""


@dataclass(frozen=True, eq=False)
class Update:
    """One step of the optimiser.

    Attributes:
        loss: what it descends.
        parameters: which parameters it moves; all when not given.
    """

    loss: Tensor
    parameters: tuple[nn.Parameter, ...] | None = None


@dataclass(frozen=True, eq=False)
class StageWork:
    """A stage at work: what a strategy may use.

    Attributes:
        index: of the stage; 0 is what came before the first.
        tasks: those seen so far, the one at hand last.
        network: what is trained.
        mask: that it is used with.
        buffer: of the tasks before; empty for a strategy that does not replay.
        config: batch sizes and seed.
        steps: of the stage.
        device: where the network is.
        memory: what the strategy remembers, by name; stored with the state of a stopped stage and
            handed on to the next stage.
    """

    index: int
    tasks: tuple[Task, ...]
    network: nn.Module
    mask: Mask
    buffer: ReplayBuffer
    config: LearnerConfig
    steps: int
    device: torch.device
    memory: dict[str, Tensor]
    _draws: dict[str, Draws] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The task at hand."""
        return self.tasks[-1]

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        named = self.network.named_parameters()
        return {name: value for name, value in named if value.requires_grad}

    def current(self, step: int, task: Task | None = None) -> TaskBatch:
        """The training batch of a step, of the task at hand unless told."""
        of = task or self.task
        if of.name not in self._draws:
            seed = seed_of(self.config.seed, TRAINING, self.index, self.tasks.index(of))
            self._draws[of.name] = Draws(of, self.mask, self.config.batch_size, seed)
        return self._draws[of.name].batch(step).to(self.device)

    def single(self, count: int) -> Iterator[TaskBatch]:
        """At most ``count`` training slices (or volumes) of the task at hand, one at a time."""
        draws = Draws(self.task, self.mask, 1, seed_of(self.config.seed, FISHER, self.index))
        return (draws.batch(index).to(self.device) for index in range(min(count, len(draws))))

    def replay(self, task: Task, *key: int) -> TaskBatch | None:
        """A buffer batch of a task, drawn by a key; None where nothing of it was kept."""
        generator = np.random.default_rng((self.config.seed, REPLAY, self.index, *key))
        batch = self.buffer.batch(task, self.config.replay_batch_size, self.mask, generator)
        return None if batch is None else batch.to(self.device)

    def image(self, batch: TaskBatch) -> Tensor:
        """(slices, readout, phase) reconstructions, with gradients.

        Of more slices than a batch has, activations are computed again when they are needed: a
        volume's would not fit in memory.
        """
        size = max(self.config.batch_size, self.config.replay_batch_size)
        chunks = torch.split(batch.kspace, size)
        if len(chunks) == 1:
            image: Tensor = self.network(batch.kspace, self.mask)
            return image
        return torch.cat(
            [
                checkpoint(
                    self.network, chunk, self.mask, use_reentrant=False, preserve_rng_state=False
                )
                for chunk in chunks
            ]
        )


class Strategy(BaseModel, ABC):
    """What is done in a stage; an immutable value whose fields are its settings.

    What it remembers is in ``stage.memory``. It draws nothing at random but by the stage's methods,
    so that a stage that was stopped continues as it would have gone on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    order: ClassVar[Order] = Order.SEQUENTIAL
    replays: ClassVar[bool] = False
    """Whether it needs a buffer."""

    def before(self, stage: StageWork) -> None:
        """Called once, before the first step of a stage."""

    @abstractmethod
    def updates(self, stage: StageWork, step: int) -> Iterator[Update]:
        """The optimiser's steps of one training step.

        Each is taken before the next is asked for.

        Args:
            stage: the stage at work.
            step: counted from 0.
        """

    def after(self, stage: StageWork) -> None:
        """Called once, with the weights that the stage ends with; of stage 0 too."""


def reconstruction_of(stage: StageWork) -> Callable[[Example], Tensor]:
    """What reconstructs a whole scan with the network of a stage, without gradients."""

    def reconstruct(example: Example) -> Tensor:
        scan, size = example.scan, stage.config.batch_size
        with torch.no_grad():
            return torch.cat(
                [
                    stage.network(scan.kspace[start : start + size].to(stage.device), stage.mask)
                    for start in range(0, scan.slices, size)
                ]
            )

    return reconstruct


def task_loss(task: Task, image: Tensor, batch: TaskBatch) -> Tensor:
    """The loss of a task, by its labels or by the fully sampled image."""
    if task.kind is Judgement.RECONSTRUCTION or batch.label is None:
        return image_loss(image, batch.target, batch.data_range)
    size = (batch.target.shape[-2], batch.target.shape[-1])
    return label_loss(task, logits_of(task, image, size), batch.label)


def guided_loss(task: Task, image: Tensor, batch: TaskBatch) -> Tensor:
    """The loss of a task, and of a segmentation 1 - SSIM to the fully sampled image as well."""
    loss = task_loss(task, image, batch)
    if task.kind is Judgement.SEGMENTATION:
        loss = loss + image_loss(image, batch.target, batch.data_range)
    return loss


def recorded_logits_loss(task: Task, image: Tensor, batch: TaskBatch) -> Tensor:
    """Squared difference to what the task's network said when the task was finished.

    Of the reconstruction, which has no such network, 1 - SSIM to the image at that time.
    """
    recorded = batch.recorded
    if recorded is None:
        raise ValueError("only batches of a buffer were recorded")
    if recorded.logits is None:
        return image_loss(image, recorded.reconstruction, batch.data_range)
    size = (batch.target.shape[-2], batch.target.shape[-1])
    return (logits_of(task, image, size) - recorded.logits).square().mean()
