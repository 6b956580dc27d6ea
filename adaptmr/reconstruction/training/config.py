"""What a training is made of."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from adaptmr.reconstruction.networks.checkpoint import Architecture
from adaptmr.reconstruction.training.degradations import Degradations
from adaptmr.sampling.generators import MaskSpec


class Schedule(BaseModel):
    """How a network is trained, whatever it is and whatever on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = 50
    batch_size: PositiveInt = 1
    """Slices per step, shared out over the devices; slices of one batch have one size and share one
    mask."""
    learning_rate: PositiveFloat = 1e-3
    """First learning rate of Adam."""
    learning_rate_step: PositiveInt = 40
    """Epochs after which the learning rate is multiplied by ``learning_rate_decay``."""
    learning_rate_decay: PositiveFloat = 0.1
    max_slices: PositiveInt | None = None
    """Largest number of training slices, taken at random; all when not given."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    """Precision of the networks; Fourier transforms and coil maps stay in single precision."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: PositiveInt | Literal["auto"] = 1
    """Number of devices of this machine, each with a process of its own, or all there are; of CPUs
    the number of processes. Changes no result but by rounding."""
    workers: NonNegativeInt = 0
    """Processes that read data beside the training; 0 reads in the training process."""


class SeededSchedule(Schedule):
    """A schedule with the seed of all that is random in it."""

    seed: NonNegativeInt = 0
    """Seed of the first weights, the split, the order and the masks."""


class TrainConfig(SeededSchedule):
    """One training run; read from YAML by the command line."""

    data: Path
    """Folder of fully sampled fastMRI HDF5 files."""
    architecture: Architecture
    """Which network, and how large."""
    masks: tuple[MaskSpec, ...] = Field(min_length=1)
    """Masks to train for; each training batch gets one of them at random."""
    degradations: Degradations | None = None
    """What the training batches suffer, so that the network can be adapted to more; nothing when
    not given. Validation is on scans as they are."""
    initial: Path | None = None
    """Folder of a network of the same architecture whose weights to start from."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the subjects that is kept out; the epoch that does best on them is exported. With 0
    the last epoch is exported."""
