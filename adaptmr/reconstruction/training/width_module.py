"""Lightning's side of training widths; imported only when a training starts."""

from collections.abc import Mapping

import torch
from torch import Tensor

from adaptmr.reconstruction.bank.inference import image_and_width
from adaptmr.reconstruction.calibration.region import object_region
from adaptmr.reconstruction.networks.checkpoint import Network
from adaptmr.reconstruction.networks.width import WidthNetwork, pinball
from adaptmr.reconstruction.training.config import SeededSchedule
from adaptmr.reconstruction.training.data import Batch, common_crop
from adaptmr.reconstruction.training.module import ReconstructionTraining
from adaptmr.sampling.mask import Mask


class WidthTraining(ReconstructionTraining):
    """Trains one network of widths on the errors of all pairs of a bank, which stay as they are.

    The loss is the pinball loss within the object, over the volume's maximum.

    Args:
        width: what is trained.
        pairs: mask -> its network; every batch has one of these masks.
        config: learning rates.
        quantile: of the error, that the width is to be.
    """

    def __init__(
        self,
        width: WidthNetwork,
        pairs: Mapping[Mask, Network],
        config: SeededSchedule,
        quantile: float,
    ) -> None:
        super().__init__(width, config)
        # In a dictionary torch does not see them: they are neither trained nor stored.
        self.pairs = {mask: network.requires_grad_(False) for mask, network in pairs.items()}
        self.quantile = quantile

    def batch_loss(self, batch: Batch, _index: int) -> Tensor:
        """Mean over the slices that show an object; 0 when none does."""
        network = self.pairs[batch.mask].to(batch.kspace.device)
        image, width = image_and_width(network, self.reconstructor, batch.kspace, batch.mask)
        assert width is not None  # noqa: S101 - the network of widths was given
        image, target = common_crop(image.float(), batch.target)
        width, _ = common_crop(width.float(), batch.target)
        inside = object_region(image)
        losses = pinball((target - image).abs(), width, self.quantile)
        per_slice = torch.where(inside, losses, 0).sum((-2, -1)) / inside.sum((-2, -1)).clamp(min=1)
        return (per_slice / batch.data_range).mean()
