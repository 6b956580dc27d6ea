"""Lightning's side of the training of samplers; imported only when a training starts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adaptmr.errors import BadInputError
from adaptmr.sampling.epochs import BestEpoch, EpochLines
from adaptmr.sampling.pairs import Pairs
from adaptmr.sampling.training import (
    SamplerTraining,
    TrainableSampler,
    TrainerSettings,
    generator_for,
)

# Sets the streams of random numbers of one training seed apart; 0 is that of `fit`.
_ORDER, _SHIFT, _TRAINING, _VALIDATION = range(1, 5)

Batch = tuple[Tensor, Tensor]


class SamplerModule(BestEpoch):
    """Adam with a cosine learning rate on the loss of a `TrainableSampler`.

    Args:
        sampler: the sampler.
        config: learning rate and seed.
    """

    def __init__(self, sampler: TrainableSampler, config: SamplerTraining) -> None:
        super().__init__()
        self.sampler = sampler
        self.config = config

    @property
    def trained(self) -> TrainableSampler:
        """The sampler."""
        return self.sampler

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one batch.

        Raises:
            BadInputError: it is not a number.
        """
        generator = generator_for(self.config.seed, _TRAINING, self.current_epoch, index)
        loss = self.sampler.loss(*batch, generator)
        if not bool(torch.isfinite(loss)):
            raise BadInputError(
                "the training loss is not a number",
                field="loss",
                got=f"{loss.item()} in epoch {self.current_epoch}",
                hint="Lower the learning rate; finished epochs are kept",
            )
        self.log("loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Log the loss of one batch, with the same noise every time."""
        loss = self.sampler.loss(*batch, generator_for(self.config.seed, _VALIDATION, index))
        self.log("validation_loss", loss, batch_size=len(batch[0]))

    def configure_optimizers(self) -> tuple[list[Any], list[Any]]:
        """Adam, its learning rate falling to zero as a cosine over the epochs."""
        adam = torch.optim.Adam(self.parameters(), lr=self.config.learning_rate)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.config.epochs)
        return [adam], [cosine]


class _Batches(Dataset[Batch]):
    """Batches of pairs, each shifted circularly."""

    def __init__(self, pairs: Pairs, parts: Sequence[Tensor], shifts: Sequence[Tensor]) -> None:
        self.pairs = pairs
        self.parts = parts
        self.shifts = shifts

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> Batch:
        part, by = self.pairs[self.parts[index]], self.shifts[index].tolist()
        return _shifted(part.low, by), _shifted(part.full, by)


def _shifted(images: Tensor, by: Sequence[tuple[int, int]]) -> Tensor:
    return torch.stack(
        [image.roll(shift, (-2, -1)) for image, shift in zip(images, by, strict=True)]
    )


class SamplerPairs(LightningDataModule):
    """The batches of each epoch: order and shifts follow from ``(seed, epoch)`` alone.

    Args:
        training: pairs to train on.
        validation: pairs to validate on, if any.
        config: batch size, shifts, seed.
    """

    def __init__(self, training: Pairs, validation: Pairs | None, config: SamplerTraining) -> None:
        super().__init__()
        self.training = training
        self.validation = validation
        self.config = config

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of the current epoch."""
        config, count = self.config, len(self.training)
        epoch = 0 if self.trainer is None else self.trainer.current_epoch
        order = torch.randperm(count, generator=generator_for(config.seed, _ORDER, epoch))
        shifts = torch.randint(
            -config.shift,
            config.shift + 1,
            (count, 2),
            generator=generator_for(config.seed, _SHIFT, epoch),
        )
        return self._loader(self.training, order, shifts)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The same batches every time; none without validation."""
        pairs = self.training[:0] if self.validation is None else self.validation
        shifts = torch.zeros(len(pairs), 2, dtype=torch.long)
        return self._loader(pairs, torch.arange(len(pairs)), shifts)

    def _loader(self, pairs: Pairs, order: Tensor, shifts: Tensor) -> DataLoader[Batch]:
        starts = range(0, len(order), self.config.batch_size)
        ends = [start + self.config.batch_size for start in starts]
        batches = _Batches(
            pairs,
            [order[start:end] for start, end in zip(starts, ends, strict=True)],
            [shifts[start:end] for start, end in zip(starts, ends, strict=True)],
        )
        # A generator of its own: a loader takes a number from the global one otherwise.
        return DataLoader(batches, batch_size=None, generator=torch.Generator())


def trainer_for(config: TrainerSettings, run: Path, *, validate: bool) -> Trainer:
    """Lightning's trainer on one device, with a checkpoint after each epoch."""
    every_epoch = ModelCheckpoint(
        run, "last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    return Trainer(
        accelerator=config.accelerator,
        devices=1,
        max_epochs=config.epochs,
        gradient_clip_val=config.clip,
        reload_dataloaders_every_n_epochs=1,
        limit_val_batches=None if validate else 0,
        num_sanity_val_steps=0,
        callbacks=[EpochLines(), every_epoch],
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=CSVLogger(run, "logs"),
        log_every_n_steps=1,
    )
