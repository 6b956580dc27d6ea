"""Lightning's side of the training of task networks; imported only when a training starts."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from adaptmr.continual.measures import label_loss, placed
from adaptmr.continual.task import Split, Task
from adaptmr.continual.task_network import TaskNetwork
from adaptmr.continual.task_training import TaskNetworkTraining
from adaptmr.errors import BadInputError
from adaptmr.sampling.epochs import BestEpoch
from adaptmr.sampling.training import generator_for

# Sets the streams of random numbers of one training seed apart.
_ORDER, _VARIATION = 1, 2

Batch = tuple[Tensor, Tensor]
"""(items, 1, ...) inputs and (items, ...) labels."""


class JudgeModule(BestEpoch):
    """Trains the network of a task for the task's own loss.

    Args:
        task: its network is trained in place.
        config: learning rate, noise and seed.
    """

    def __init__(self, task: Task, config: TaskNetworkTraining) -> None:
        super().__init__()
        self.task = task
        self.config = config
        self.judge = network_of(task).network.requires_grad_(True).train()

    @property
    def trained(self) -> nn.Module:
        """The network."""
        return self.judge

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one batch, its images varied.

        Raises:
            BadInputError: it is not a number.
        """
        generator = generator_for(self.config.seed, _VARIATION, self.current_epoch, index)
        loss = self._loss(varied(batch, self.config.noise, generator))
        if not bool(torch.isfinite(loss)):
            raise BadInputError(
                "the training loss is not a number",
                field="loss",
                got=f"{loss.item()} in epoch {self.current_epoch}",
                hint="Lower the learning rate; finished epochs are kept",
            )
        self.log("loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Log the loss of one batch."""
        self.log("validation_loss", self._loss(batch), batch_size=len(batch[0]))

    def configure_optimizers(self) -> tuple[list[Any], list[Any]]:
        """Adam, its learning rate falling to zero as a cosine over the epochs."""
        adam = torch.optim.Adam(self.judge.parameters(), lr=self.config.learning_rate)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.config.epochs)
        return [adam], [cosine]

    def _loss(self, batch: Batch) -> Tensor:
        logits = self.judge(batch[0])
        if not self.task.volumes:
            return label_loss(self.task, logits, batch[1])
        losses = [
            label_loss(self.task, logits[i : i + 1], label) for i, label in enumerate(batch[1])
        ]
        return torch.stack(losses).mean()


class Images(LightningDataModule):
    """All inputs of a task's network in memory; the order follows from ``(seed, epoch)`` alone.

    Args:
        task: whose examples.
        config: batch size and seed.
    """

    def __init__(self, task: Task, config: TaskNetworkTraining) -> None:
        super().__init__()
        self.config = config
        self.training = _items(task, Split.TRAINING)
        self.validation = _items(task, Split.VALIDATION)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of the current epoch."""
        epoch = 0 if self.trainer is None else self.trainer.current_epoch
        generator = generator_for(self.config.seed, _ORDER, epoch)
        return self._loader(
            self.training, torch.randperm(len(self.training[0]), generator=generator)
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """The same batches every time."""
        return self._loader(self.validation, torch.arange(len(self.validation[0])))

    def _loader(self, items: Batch, order: Tensor) -> DataLoader[Batch]:
        size = self.config.batch_size
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        if len(parts) > 1 and len(parts[-1]) == 1:  # no statistics of a batch of one
            parts[-2:] = [torch.cat(parts[-2:])]
        batches: Sequence[Batch] = [(items[0][part], items[1][part]) for part in parts]
        # A generator of its own: a loader takes a number from the global one otherwise.
        return DataLoader(batches, batch_size=None, generator=torch.Generator())  # type: ignore[arg-type]


def varied(batch: Batch, noise: float, generator: torch.Generator) -> Batch:
    """Images with noise, half of them seen in a mirror with their label maps.

    Args:
        batch: inputs (items, 1, ..., rows, columns), labels (items, ...).
        noise: standard deviation over that of each input.
        generator: draws both.
    """
    inputs, labels = batch
    turned = torch.rand(len(inputs), generator=generator).to(inputs.device) < 0.5
    inputs = torch.where(_like(turned, inputs), inputs.flip(-1), inputs)
    if labels.ndim > 1:
        labels = torch.where(_like(turned, labels), labels.flip(-1), labels)
    drawn = torch.randn(inputs.shape, generator=generator).to(inputs)
    deviation = inputs.std(tuple(range(1, inputs.ndim)), keepdim=True)
    return inputs + noise * deviation * drawn, labels


def _like(values: Tensor, other: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (other.ndim - 1))


def network_of(task: Task) -> TaskNetwork:
    """The network of a task that has one."""
    if task.network is None:
        raise ValueError(f"{task.name} has no network")
    return task.network


def _items(task: Task, split: Split) -> Batch:
    adapter = network_of(task).adapter
    inputs, labels = [], []
    for example in task.of(split):
        if example.label is None:
            raise ValueError(f"{example.scan.name} has no label")
        inputs.append(adapter(example.target[:]))
        labels.append(placed(task, example.label))
    return torch.cat(inputs), torch.cat(labels)
