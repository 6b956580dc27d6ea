"""What a sequence of stages leaves behind."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, JsonValue

from adaptmr.continual.task import Metric

NETWORK: Final = "network"
BUFFER: Final = "buffer"


class Scores(BaseModel):
    """How well one task is done on the subjects of one split; higher is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Metric
    value: float
    """Mean over the subjects."""
    loss: float
    """Mean loss of the task over the scans."""
    subjects: dict[str, float]
    """Of each subject: the mean over its scans."""
    outputs: dict[str, tuple[float, ...]]
    """Of each subject: the mean raw outputs of its slices or scans; none of segmentations."""
    labels: dict[str, float]
    """Of each subject: the mean class or number of its slices or scans; none of segmentations."""


class Checkpoint(BaseModel):
    """What was validated within a stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    scores: dict[str, float]
    """Validation score of each task seen."""
    loss: float
    """Validation loss of the task of the stage."""
    training_loss: float | None
    """Mean training loss since the checkpoint before."""


class StageRecord(BaseModel):
    """One finished stage of one network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int
    """0 is the network as it was given."""
    task: str
    """The task that was learned; the names of all, joined by "+", where they were together."""
    subjects: tuple[str, ...]
    """Who was trained on in the stage."""
    scores: dict[str, Scores]
    """On the test subjects, of all tasks, learned or not."""
    curve: tuple[Checkpoint, ...]
    step: int
    """The step that the weights are from."""
    seconds: float
    """Of the training, validation left out."""
    processor_seconds: float
    """The same, of this process: on a busy machine the fairer comparison of what runs on a CPU."""
    buffer_bytes: int
    provenance: dict[str, JsonValue]


@dataclass(frozen=True)
class Stage:
    """A finished stage on disk.

    Attributes:
        folder: ``network/``, ``stage.json``, and where the strategy needs them ``buffer/`` and
            ``memory.safetensors``.
        record: what became of it.
    """

    folder: Path
    record: StageRecord

    @property
    def network(self) -> Path:
        """Folder of the network, for `adaptmr.reconstruction.networks.checkpoint.load`."""
        return self.folder / NETWORK

    @property
    def buffer(self) -> Path:
        """Folder of the buffer, for `adaptmr.continual.replay_files.load`."""
        return self.folder / BUFFER


@dataclass(frozen=True)
class Learned:
    """What became of one network over all stages.

    Attributes:
        tasks: names in the order they were learned.
        stages: stage 0 and those that were run: one for each further task, or a single one of all
            tasks together.
        zero_filled: test scores of each task on zero-filled images.
        full: the same on fully sampled images.
    """

    tasks: tuple[str, ...]
    stages: tuple[Stage, ...]
    zero_filled: Mapping[str, Scores]
    full: Mapping[str, Scores]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(stages, tasks) test scores a[i][j] of task j after stage i."""
        return np.array(
            [[stage.record.scores[task].value for task in self.tasks] for stage in self.stages]
        )
