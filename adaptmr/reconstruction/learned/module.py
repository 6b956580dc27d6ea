"""Lightning's side of joint training; imported only when a training starts."""

from typing import Any, cast

from torch import Tensor

from adaptmr.reconstruction.learned.joint import LearnedReconstruction
from adaptmr.reconstruction.learned.training import LearnSchedule
from adaptmr.reconstruction.training.data import Batch
from adaptmr.reconstruction.training.module import ReconstructionTraining
from adaptmr.sampling.training import generator_for

# Sets the draws of one training seed apart from its other streams of random numbers.
_DRAW = 4


class JointTraining(ReconstructionTraining):
    """Trains a network and its masks: loss 1 - SSIM, Adam with a learning rate for each.

    Args:
        learned: network and learner.
        config: learning rates and seed.
    """

    def __init__(self, learned: LearnedReconstruction, config: LearnSchedule) -> None:
        super().__init__(learned, config)
        self.mask_learning_rate = config.mask_learning_rate

    @property
    def learned(self) -> LearnedReconstruction:
        """Network and learner."""
        return cast(LearnedReconstruction, self.reconstructor)

    def image(self, batch: Batch, index: int) -> Tensor:
        """Images under drawn masks in training, under the most probable ones in validation."""
        if not self.training:
            reconstructed: Tensor = self.learned(batch.kspace)
            return reconstructed
        key = (self.config.seed, _DRAW, self.current_epoch, index, self.global_rank)
        return self.learned.training_image(batch.kspace, generator_for(*key))

    def groups(self) -> list[dict[str, Any]]:
        """The parameters of the network, and those of the learner at their own rate."""
        return [
            {"params": self.learned.network.parameters()},
            {"params": self.learned.learner.parameters(), "lr": self.mask_learning_rate},
        ]
