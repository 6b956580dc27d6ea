"""What every training of ours keeps and tells after each epoch.

Lightning is slow to import, so this module is imported only when a training starts.
"""

import sys
import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class Trained(Protocol):
    """What has weights."""

    def state_dict(self) -> dict[str, Tensor]:
        """The weights by name."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> object:
        """Take weights over."""
        ...


class BestEpoch(LightningModule):
    """Keeps the numbers of each epoch, and the weights of the best; a resumed run has both.

    Attributes:
        curve: one entry per finished epoch.
        best: weights of the epoch with the smallest validation loss, and that loss; empty without
            validation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.curve: list[dict[str, float]] = []
        self.best: dict[str, Any] = {}

    @property
    @abstractmethod
    def trained(self) -> Trained:
        """What is trained."""

    def on_train_epoch_end(self) -> None:
        """Keep the numbers of the epoch, and its weights when they are the best so far."""
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        self.curve.append({"epoch": self.current_epoch, **metrics})
        loss = metrics.get("validation_loss")
        if loss is not None and loss < self.best.get("loss", float("inf")):
            state = self.trained.state_dict()
            weights = {name: value.detach().cpu().clone() for name, value in state.items()}
            self.best = {"epoch": self.current_epoch, "loss": loss, "weights": weights}

    def use_best(self) -> int:
        """Take the best weights over; without validation the last ones stay.

        Returns:
            The epoch they are from.
        """
        if self.best:
            self.trained.load_state_dict(self.best["weights"])
        return int(self.best["epoch"] if self.best else self.curve[-1]["epoch"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what Lightning does not know of."""
        checkpoint["adaptmr"] = {"curve": self.curve, "best": self.best}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        self.curve = checkpoint["adaptmr"]["curve"]
        self.best = checkpoint["adaptmr"]["best"]


class EpochLines(Callback):
    """One line per epoch on standard error, for logs."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, _: LightningModule) -> None:
        """Write the line."""
        if trainer.is_global_zero:
            values = ", ".join(
                f"{name.replace('_', ' ')} {float(value):.4f}"
                for name, value in trainer.callback_metrics.items()
            )
            count = f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
            sys.stderr.write(f"epoch {count}: {values}, {time.monotonic() - self.start:.0f} s\n")
