"""Lightning's side of a stage; imported only when one starts.

Lightning's epochs are the blocks of steps after which the state is kept and the tasks seen are
validated. Strategies take several steps on one optimiser, so the optimisation is manual.
"""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

from adaptmr.continual.clock import Clock
from adaptmr.continual.measures import NotFiniteError, evaluate
from adaptmr.continual.results import Checkpoint
from adaptmr.continual.selection import Chooser
from adaptmr.continual.strategies.base import StageWork, Strategy, reconstruction_of
from adaptmr.continual.task import Split
from adaptmr.errors import BadInputError
from adaptmr.sampling.epochs import EpochLines
from adaptmr.sampling.training import STATE


class _Numbers(Dataset[int]):
    def __init__(self, numbers: range) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> int:
        return self._numbers[index]


class StageTraining(LightningModule):
    """Runs a strategy through one stage; a stopped one continues from its last block.

    Args:
        work: the stage.
        strategy: what is done in it.
        chooser: ranks the weights at the end of each block.

    Attributes:
        curve: what was validated.
        best: weights of the best checkpoint, its rank and step.
        halved: the step at which a loss was not a number and the rate was halved; -1 for never.
        clock: how long the training took, validation left out.
    """

    def __init__(self, work: StageWork, strategy: Strategy, chooser: Chooser) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = work.network.train()
        self.work = work
        self.strategy = strategy
        self.chooser = chooser
        self.curve: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.halved = -1
        self.clock = Clock()
        self._losses: list[float] = []
        self._good: dict[str, Any] = {}

    def on_fit_start(self) -> None:
        """Move what is used here to the device; before the first step, prepare and validate."""
        memory = {name: value.to(self.device) for name, value in self.work.memory.items()}
        self.work.memory.update(memory)
        self.work = replace(self.work, device=self.device)
        for task in self.work.tasks:
            if task.network is not None:
                task.network.network.to(self.device)
        if not self.curve:
            self.clock.start()
            self.strategy.before(self.work)
            self.clock.stop()
            self._validate(0)

    def train_dataloader(self) -> DataLoader[int]:
        """The numbers of the steps of a block: all else follows from them."""
        every, steps = self.work.config.every, self.work.steps
        first = self.current_epoch * every
        # A generator of its own: a loader takes a number from the global one otherwise.
        return DataLoader(
            _Numbers(range(first, min(first + every, steps))),
            batch_size=None,
            generator=torch.Generator(),
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam as torch has it."""
        return torch.optim.Adam(
            list(self.work.parameters.values()), lr=self.work.config.learning_rate
        )

    def on_train_epoch_start(self) -> None:
        """Keep what a loss that is not a number is rolled back to."""
        self.clock.start()
        self._losses = []
        self._good = {
            "network": copy.deepcopy(self.network.state_dict()),
            "optimiser": copy.deepcopy(self._adam().state_dict()),
            "memory": dict(self.work.memory),
        }

    def training_step(self, step: int, _: int) -> None:
        """Take the steps of the optimiser that the strategy asks for.

        Raises:
            BadInputError: a loss is not a number, for the second time.
        """
        optimiser: Any = self.optimizers()
        try:
            for update in self.strategy.updates(self.work, step):
                if not bool(torch.isfinite(update.loss)):
                    raise NotFiniteError(
                        "the loss is not a number", field="loss", got=float(update.loss.detach())
                    )
                optimiser.zero_grad()
                only = {} if update.parameters is None else {"inputs": list(update.parameters)}
                self.manual_backward(update.loss, **only)
                optimiser.step()
                self._losses.append(float(update.loss.detach()))
        except NotFiniteError as error:
            self._roll_back(step, error)
        if self._losses:
            self.log("loss", self._losses[-1], on_step=False, on_epoch=True, batch_size=1)

    def on_train_epoch_end(self) -> None:
        """Validate, and keep the weights if they are the best so far."""
        self.clock.stop()
        step = min((self.current_epoch + 1) * self.work.config.every, self.work.steps)
        try:
            self._validate(step)
        except NotFiniteError as error:
            self._roll_back(step, error)
            self._validate(step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what Lightning does not know of."""
        checkpoint["adaptmr"] = {
            "curve": self.curve,
            "best": self.best,
            "halved": self.halved,
            "seconds": (self.clock.wall, self.clock.processor),
            "memory": dict(self.work.memory),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        kept = checkpoint["adaptmr"]
        self.curve, self.best = kept["curve"], kept["best"]
        self.halved, self.clock = kept["halved"], Clock(*kept["seconds"])
        self.work.memory.clear()
        self.work.memory.update(kept["memory"])

    def use_best(self) -> int:
        """Take the best weights over.

        Returns:
            The step they are from.
        """
        self.network.load_state_dict(self.best["weights"])
        return int(self.best["step"])

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The curve."""
        return tuple(Checkpoint.model_validate(each) for each in self.curve)

    def _validate(self, step: int) -> None:
        work = self.work
        self.network.eval()
        scores = evaluate(work.tasks, Split.VALIDATION, reconstruction_of(work))
        self.network.train()
        checkpoint = Checkpoint(
            step=step,
            scores={name: of.value for name, of in scores.items()},
            loss=scores[work.task.name].loss,
            training_loss=sum(self._losses) / len(self._losses) if self._losses else None,
        )
        self.curve.append(checkpoint.model_dump())
        rank = list(self.chooser.rank(self.checkpoints[0], checkpoint))
        if not self.best or rank > self.best["rank"]:
            state = self.network.state_dict()
            weights = {name: value.detach().cpu().clone() for name, value in state.items()}
            self.best = {"rank": rank, "step": step, "weights": weights}

    def _roll_back(self, step: int, error: BadInputError) -> None:
        """Once: the weights of the last block, and half the rate. Then stop."""
        if self.halved >= 0:
            raise BadInputError(
                f"{error.what}, for the second time in this stage",
                field="loss",
                got=f"{error.got or 'NaN'} in step {step}, before in step {self.halved}",
                hint="Lower the learning rate; the last good state is kept",
            ) from error
        self.halved = step
        adam = self._adam()
        self.network.load_state_dict(self._good["network"])
        adam.load_state_dict(copy.deepcopy(self._good["optimiser"]))
        self.work.memory.clear()
        self.work.memory.update(self._good["memory"])
        for group in adam.param_groups:
            group["lr"] /= 2

    def _adam(self) -> torch.optim.Optimizer:
        adam = self.optimizers(use_pl_optimizer=False)
        assert isinstance(adam, torch.optim.Optimizer)  # noqa: S101 - there is one
        return adam


def fit(training: StageTraining, run: Path, *, resume: bool) -> None:
    """Run the stage, or what is left of it.

    Raises:
        BadInputError: as `StageTraining.training_step`.
    """
    config = training.work.config
    every_block = ModelCheckpoint(
        run, Path(STATE).stem, save_on_train_epoch_end=True, enable_version_counter=False
    )
    Trainer(
        accelerator=config.accelerator,
        devices=1,
        max_epochs=-(-training.work.steps // config.every),
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        callbacks=[EpochLines(), every_block],
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
    ).fit(training, ckpt_path=run / STATE if resume else None, weights_only=True)
