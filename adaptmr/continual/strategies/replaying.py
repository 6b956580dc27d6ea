"""Strategies that replay a buffer every few steps."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from adaptmr.continual.measures import image_loss
from adaptmr.continual.replay import TaskBatch
from adaptmr.continual.strategies.base import (
    StageWork,
    Strategy,
    Update,
    guided_loss,
    recorded_logits_loss,
    task_loss,
)
from adaptmr.continual.task import Judgement, Task

PAPER_RATE = 1e-4
"""The learning rate to which MOST's released code scales the loss of the buffer."""


class Mode(StrEnum):
    """How the losses of the task at hand and of the buffer come together."""

    JOINT = "joint"
    """One step on their sum."""
    PAPER = "paper"
    """As MOST's released code: a step on each in turn, on one Adam, and the loss of the buffer
    scaled by 1e-4 over the learning rate. That scaling changes the mixture, not the rate."""


class Replaying(Strategy):
    """A loss of the task at hand, and every few steps one of the buffer, its tasks in turn."""

    replays: ClassVar[bool] = True

    every: PositiveInt = 3
    """Steps from one buffer batch to the next."""
    mode: Mode = Mode.JOINT
    weight: PositiveFloat = 1.0
    """Of the loss of the buffer."""

    def current_loss(self, task: Task, image: Tensor, batch: TaskBatch) -> Tensor:
        """Of the task at hand: its own, unless a strategy adds to it."""
        return task_loss(task, image, batch)

    @abstractmethod
    def buffer_loss(self, stage: StageWork, task: Task, draw: Callable[[int], TaskBatch]) -> Tensor:
        """Of a task that was finished before.

        Args:
            stage: the stage at work.
            task: the finished task.
            draw: number -> a buffer batch of it; each number is a draw of its own.
        """

    def updates(self, stage: StageWork, step: int) -> Iterator[Update]:
        """One step, or two where the buffer is replayed by a step of its own."""
        batch = stage.current(step)
        loss = self.current_loss(stage.task, stage.image(batch), batch)
        count = step + 1
        replayed = stage.tasks[count // self.every % (len(stage.tasks) - 1)]
        due = count % self.every == 0 and bool(stage.buffer.of_task(replayed.name))

        def draw(number: int) -> TaskBatch:
            drawn = stage.replay(replayed, step, number)
            if drawn is None:
                raise ValueError("the buffer changed within a stage")
            return drawn

        if not due:
            yield Update(loss)
        elif self.mode is Mode.JOINT:
            yield Update(loss + self.weight * self.buffer_loss(stage, replayed, draw))
        else:
            yield Update(loss)
            factor = self.weight * PAPER_RATE / stage.config.learning_rate
            yield Update(factor * self.buffer_loss(stage, replayed, draw))


class ExperienceReplay(Replaying):
    """True labels of the buffer, and the fully sampled image for the reconstruction."""

    kind: Literal["experience-replay"] = "experience-replay"

    def buffer_loss(self, stage: StageWork, task: Task, draw: Callable[[int], TaskBatch]) -> Tensor:
        """The task's own."""
        batch = draw(0)
        return task_loss(task, stage.image(batch), batch)


class LogitReplay(Replaying):
    """What the task's network said of the buffer when the task was finished."""

    kind: Literal["logit-replay"] = "logit-replay"

    def buffer_loss(self, stage: StageWork, task: Task, draw: Callable[[int], TaskBatch]) -> Tensor:
        """Squared difference of the raw outputs."""
        batch = draw(0)
        return recorded_logits_loss(task, stage.image(batch), batch)


class Most(Replaying):
    """Image-guided loss, replay of raw outputs, and of the reconstruction itself.

    Source: Jeong, Chun, Lee, MOST, MICCAI 2025, arXiv:2409.10394.
    """

    kind: Literal["most"] = "most"

    def current_loss(self, task: Task, image: Tensor, batch: TaskBatch) -> Tensor:
        """The task's own, guided by the image where it is a segmentation."""
        return guided_loss(task, image, batch)

    def buffer_loss(self, stage: StageWork, task: Task, draw: Callable[[int], TaskBatch]) -> Tensor:
        """See `most_buffer_loss`."""
        batch = draw(0)
        return most_buffer_loss(task, stage.image(batch), batch)


class DarkExperienceReplay(Replaying):
    """DER++: raw outputs of one buffer batch and true labels of another.

    Source: Buzzega et al., Dark experience for general continual learning, NeurIPS 2020, eq. 6.
    """

    kind: Literal["der++"] = "der++"

    outputs_weight: NonNegativeFloat = 0.5
    labels_weight: NonNegativeFloat = 0.5

    def buffer_loss(self, stage: StageWork, task: Task, draw: Callable[[int], TaskBatch]) -> Tensor:
        """Weighted sum of both."""
        first, second = draw(0), draw(1)
        said = recorded_logits_loss(task, stage.image(first), first)
        true = task_loss(task, stage.image(second), second)
        return self.outputs_weight * said + self.labels_weight * true


def most_buffer_loss(task: Task, image: Tensor, batch: TaskBatch) -> Tensor:
    """1 - SSIM to the recorded reconstruction, and the squared difference of raw outputs."""
    loss = recorded_logits_loss(task, image, batch)
    if task.kind is not Judgement.RECONSTRUCTION and batch.recorded is not None:
        loss = loss + image_loss(image, batch.recorded.reconstruction, batch.data_range)
    return loss
