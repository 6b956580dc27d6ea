"""Lightning's side of adaptation; imported only when a training starts."""

from torch import Tensor, nn

from adaptmr.continual.adapt.adapter import Adapter
from adaptmr.continual.adapt.family import FAMILY
from adaptmr.continual.adapt.held_out import held_out_loss
from adaptmr.reconstruction.networks.varnet import VarNet
from adaptmr.reconstruction.training.config import SeededSchedule
from adaptmr.reconstruction.training.data import Batch
from adaptmr.reconstruction.training.module import ReconstructionTraining
from adaptmr.sampling.mask import Mask


class AdaptationTraining(ReconstructionTraining):
    """Trains the adapter that is on a network.

    Args:
        network: with the adapter on it.
        adapter: the adapter.
        config: learning rates.
        acquired: the mask that all scans were acquired with, when they are undersampled: the loss
            is then on what each batch's mask leaves out of it.
    """

    def __init__(
        self, network: nn.Module, adapter: Adapter, config: SeededSchedule, acquired: Mask | None
    ) -> None:
        super().__init__(network, config)
        # In a list torch does not see it twice: its weights belong to the network.
        self._adapters = [adapter]
        self.acquired = acquired

    def batch_loss(self, batch: Batch, index: int) -> Tensor:
        """The loss of one batch; in training with the strategy's penalty."""
        loss = self._loss(batch, index)
        if self.training:
            (adapter,) = self._adapters
            loss = loss + FAMILY[adapter.strategy].loss(adapter)
        return loss

    def keep_as_best(self, loss: float) -> None:
        """Make the network as it is the one to beat.

        Args:
            loss: its validation loss.
        """
        state = self.trained.state_dict()
        weights = {name: value.detach().clone() for name, value in state.items()}
        self.best = {"epoch": -1, "loss": loss, "weights": weights}

    def _loss(self, batch: Batch, index: int) -> Tensor:
        if self.acquired is None:
            return super().batch_loss(batch, index)
        network = self.reconstructor
        assert isinstance(network, VarNet)  # noqa: S101 - as asked before
        return held_out_loss(network, batch.kspace, batch.mask, self.acquired).mean()
