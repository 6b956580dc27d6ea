"""Lightning's view of a training: the steps, the data per epoch, the progress as plain lines.

Lightning is slow to import, so this module is imported only when a training starts.
"""

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from adaptmr.errors import BadInputError
from adaptmr.reconstruction.similarity import ssim
from adaptmr.reconstruction.training.config import SeededSchedule
from adaptmr.reconstruction.training.data import (
    Batch,
    Batches,
    Material,
    common_crop,
    training_plans,
    training_slices,
    validation_plans,
)
from adaptmr.sampling.epochs import BestEpoch


class ReconstructionTraining(BestEpoch):
    """Trains any `Reconstructor` that is a module: loss 1 - SSIM, Adam, stepwise learning rate.

    Args:
        reconstructor: called as ``reconstructor(kspace, mask)``.
        config: learning rates.
    """

    def __init__(self, reconstructor: nn.Module, config: SeededSchedule) -> None:
        super().__init__()
        self.reconstructor = reconstructor
        self.config = config

    @property
    def trained(self) -> nn.Module:
        """The reconstructor."""
        return self.reconstructor

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one batch.

        Raises:
            BadInputError: it is not a number.
        """
        loss = self.batch_loss(batch, index)
        if not bool(torch.isfinite(loss)):
            raise BadInputError(
                "the training loss is not a number",
                file=batch.sources[0][0],
                slice_index=batch.sources[0][1],
                field="loss",
                got=f"{loss.item()} in epoch {self.current_epoch}",
                hint="Lower the learning rate, or use precision 32-true; finished epochs are kept",
            )
        loss = loss * batch.weight
        size = batch.whole or len(batch.target)
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Log the loss of one batch."""
        loss = self.batch_loss(batch, index)
        self.log("validation_loss", loss, batch_size=len(batch.target), sync_dist=True)

    def image(self, batch: Batch, _index: int) -> Tensor:
        """(batch, readout, phase) reconstructions of one batch, the ``_index``-th of its epoch."""
        image: Tensor = self.reconstructor(batch.kspace, batch.mask)
        return image

    def groups(self) -> list[dict[str, Any]]:
        """The parameters, in groups that may have learning rates of their own."""
        return [{"params": self.parameters()}]

    def batch_loss(self, batch: Batch, index: int) -> Tensor:
        """The loss of one batch, the ``index``-th of its epoch."""
        image, target = common_crop(self.image(batch, index), batch.target)
        return (1 - ssim(image.float(), target, batch.data_range)).mean()

    def configure_optimizers(self) -> tuple[list[Any], list[Any]]:
        """Adam, its learning rate multiplied after every ``learning_rate_step`` epochs."""
        adam = torch.optim.Adam(self.groups(), lr=self.config.learning_rate)
        steps = torch.optim.lr_scheduler.StepLR(
            adam, self.config.learning_rate_step, self.config.learning_rate_decay
        )
        return [adam], [steps]


class ReconstructionData(LightningDataModule):
    """The batches of each epoch.

    Args:
        material: scans, masks, and which slices come more often.
        config: batch size, seed, readers.
    """

    def __init__(self, material: Material, config: SeededSchedule) -> None:
        super().__init__()
        self.material = material
        self.slices = training_slices(material.cohort.training, config.max_slices, config.seed)
        self.config = config

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of the current epoch."""
        config, emphasis = self.config, self.material.emphasis
        epoch = 0 if self.trainer is None else self.trainer.current_epoch
        slices = emphasis.epoch(self.slices, config.seed, epoch) if emphasis else self.slices
        plans = training_plans(slices, self.material.masks, config.batch_size, config.seed, epoch)
        if self.trainer is not None and self.trainer.world_size > 1:
            rank, count = self.trainer.global_rank, self.trainer.world_size
            plans = tuple(plan.share(rank, count) for plan in plans)
        return self._loader(Batches(plans, self.material.degradations))

    def val_dataloader(self) -> DataLoader[Batch]:
        """The same batches every time, on every device; none without validation."""
        scans = self.material.cohort.validation
        plans = validation_plans(scans, self.material.masks, self.config.batch_size)
        return self._loader(Batches(plans))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        """Lightning cannot move frozen values by itself."""
        return batch.to(device)

    def _loader(self, batches: Batches) -> DataLoader[Batch]:
        return DataLoader(batches, batch_size=None, num_workers=self.config.workers)
