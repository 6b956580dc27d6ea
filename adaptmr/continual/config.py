"""How a network is fine-tuned for a sequence of tasks."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt


class Selection(StrEnum):
    """Which of the weights that a stage went through it ends with."""

    ALL_TASKS = "all-tasks"
    """Best mean of the normalised validation scores of all tasks seen, among those at which no old
    task is worse by more than its margin than when the stage began; best of all where none is."""
    CURRENT_TASK = "current-task"
    """Smallest validation loss of the task of the stage (the rule of MOST's released code)."""
    LAST = "last"
    """The last ones."""


class Policy(StrEnum):
    """Which subjects stay in the buffer."""

    REALLOCATION = "reallocation"
    """MOST's: before stage t each older task is cut to floor(B / t) of its subjects at random, the
    task just finished gets the rest."""
    BALANCED = "balanced"
    """Equal shares, and within a task equal shares of the classes, or an even spread of numbers."""
    RESERVOIR = "reservoir"
    """Each subject ever seen is as likely as any other (Vitter 1985, algorithm R)."""


class Store(StrEnum):
    """What of the measurement is kept in the buffer."""

    KSPACE = "kspace"
    """The acquired positions: small, but of one mask."""
    IMAGE = "image"
    """The complex image of each coil: k-space under any mask follows from it exactly."""


class BufferConfig(BaseModel):
    """A replay buffer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    capacity: PositiveInt = 4
    """In subjects, of all tasks together."""
    policy: Policy = Policy.REALLOCATION
    store: Store = Store.KSPACE
    max_bytes: PositiveInt | None = None
    """Largest size on disk; more is refused."""


class LearnerConfig(BaseModel):
    """How a sequence of stages is run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: PositiveInt = 200
    """Training steps of a stage."""
    batch_size: PositiveInt = 4
    """Slices per step; of a task that judges volumes a step has one volume."""
    replay_batch_size: PositiveInt = 4
    """Slices of a buffer batch."""
    learning_rate: PositiveFloat = 1e-4
    """Of Adam, begun anew in each stage."""
    every: PositiveInt = 25
    """Steps after which the state is kept and all tasks seen are validated."""
    selection: Selection = Selection.ALL_TASKS
    buffer: BufferConfig = BufferConfig()
    seed: NonNegativeInt = 0
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
