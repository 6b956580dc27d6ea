"""Strategies that do nothing against forgetting, and the bounds."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from adaptmr.continual.strategies.base import (
    Order,
    StageWork,
    Strategy,
    Update,
    guided_loss,
    task_loss,
)


class Naive(Strategy):
    """The loss of the task at hand."""

    kind: Literal["naive"] = "naive"

    def updates(self, stage: StageWork, step: int) -> Iterator[Update]:
        """One step."""
        batch = stage.current(step)
        yield Update(task_loss(stage.task, stage.image(batch), batch))


class ImageGuided(Strategy):
    """The same with 1 - SSIM to the fully sampled image where the task is a segmentation."""

    kind: Literal["image-guided"] = "image-guided"

    def updates(self, stage: StageWork, step: int) -> Iterator[Update]:
        """One step."""
        batch = stage.current(step)
        yield Update(guided_loss(stage.task, stage.image(batch), batch))


class PerTask(Strategy):
    """A network of its own for each task: how well each can be learned."""

    kind: Literal["per-task"] = "per-task"
    order: ClassVar[Order] = Order.APART

    def updates(self, stage: StageWork, step: int) -> Iterator[Update]:
        """One step, the naive one."""
        return Naive().updates(stage, step)


class Joint(Strategy):
    """All data of all tasks at once, in turn: what could be had if no data were ever gone."""

    kind: Literal["joint"] = "joint"
    order: ClassVar[Order] = Order.TOGETHER

    def updates(self, stage: StageWork, step: int) -> Iterator[Update]:
        """One step for one of the tasks."""
        turn, index = divmod(step, len(stage.tasks))
        task = stage.tasks[index]
        batch = stage.current(turn, task)
        yield Update(guided_loss(task, stage.image(batch), batch))
