"""What a sequence of tasks is made of."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from adaptmr.continual.config import LearnerConfig
from adaptmr.continual.strategies.plain import Naive
from adaptmr.continual.strategies.registry import AnyStrategy
from adaptmr.continual.study import judgement, outputs
from adaptmr.continual.task import LOSSES, METRICS, Judgement, Loss, Metric
from adaptmr.continual.task_network import Adapter, Intensity, Layout
from adaptmr.continual.task_network_files import JudgeArchitecture
from adaptmr.continual.task_training import TaskNetworkTraining
from adaptmr.data.annotations import Annotation
from adaptmr.data.participants import Part
from adaptmr.data.simulation import SimulationConfig


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelledScans(_Config):
    """Labelled scans of one's own."""

    kind: Literal["scans"] = "scans"
    folder: Path
    """fastMRI HDF5 files with their label maps as datasets, and ``participants.tsv``."""


class SimulatedStudy(_Config):
    """Labelled scans that are simulated first; of one configuration they are always the same."""

    kind: Literal["simulated"] = "simulated"
    simulation: SimulationConfig
    """Its number of subjects does not count."""
    parts: dict[Part, PositiveInt] = Field(min_length=1)
    """Subjects of each part, in this order: the first are those of the first part."""


StudyConfig = Annotated[LabelledScans | SimulatedStudy, Field(discriminator="kind")]


class TrainedJudge(_Config):
    """A network of MONAI that is trained on the fully sampled images of the study."""

    kind: Literal["trained"] = "trained"
    architecture: JudgeArchitecture
    training: TaskNetworkTraining = TaskNetworkTraining()
    seed: NonNegativeInt = 0
    """Of its first weights."""


class GivenJudge(_Config):
    """A network that comes from elsewhere, taken as it is."""

    kind: Literal["given"] = "given"
    file: Path
    """``.pt2`` from ``torch.export.save``, or TorchScript."""
    intensity: Intensity | None = None
    """What its inputs were like in its training, where that is known."""


class TaskConfig(_Config):
    """A task: what is asked, of whom, and what answers."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    study: StudyConfig
    """Subjects of ``train_task`` and ``val_task`` train the network, no others."""
    annotation: Annotation
    network: Annotated[TrainedJudge | GivenJudge, Field(discriminator="kind")]
    adapter: Adapter = Adapter()
    loss: Loss | None = None
    """The usual one of the kind of task when not given."""
    metric: Metric | None = None
    margin: PositiveFloat = 0.01
    """Difference of the metric that matters."""

    @property
    def judgement(self) -> Judgement:
        """The kind of task."""
        return judgement(self.annotation)

    @property
    def volumes(self) -> bool:
        """Whether all slices of a scan are judged together."""
        return self.adapter.layout is Layout.VOLUMES

    @property
    def chosen_loss(self) -> Loss:
        """What is minimised."""
        return self.loss or LOSSES[self.judgement][0]

    @property
    def chosen_metric(self) -> Metric:
        """What is reported."""
        return self.metric or METRICS[self.judgement][0]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.chosen_loss not in LOSSES[self.judgement]:
            raise ValueError(f"a {self.judgement} has the loss {', '.join(LOSSES[self.judgement])}")
        if self.chosen_metric not in METRICS[self.judgement]:
            known = ", ".join(METRICS[self.judgement])
            raise ValueError(f"a {self.judgement} has the metric {known}")
        if isinstance(self.network, TrainedJudge):
            built, wanted = self.network.architecture, outputs(self.annotation)
            if built.outputs != wanted:
                raise ValueError(f"the annotation asks for {wanted} outputs, not {built.outputs}")
            if (built.dimensions == 3) != self.volumes:
                judged = self.adapter.layout
                raise ValueError(f"{built.dimensions} dimensions do not judge {judged}")
        return self


class ReconstructionTask(_Config):
    """Task 0: what the bank was trained for."""

    study: StudyConfig
    metric: Literal[Metric.SSIM, Metric.PSNR] = Metric.SSIM
    margin: PositiveFloat = 0.005


class FurtherTask(_Config):
    """A task that is learned after it."""

    task: Path
    """Folder that ``train-task`` wrote."""
    study: StudyConfig
    """Subjects of ``train``, ``val`` and ``test``."""


class SequenceConfig(_Config):
    """One sequence of tasks on one bank with one strategy."""

    bank: Path | None = None
    """Folder of the bank; the shipped one when not given."""
    reconstruction: ReconstructionTask
    tasks: tuple[FurtherTask, ...] = Field(min_length=1)
    """In the order they are learned."""
    strategy: AnyStrategy = Naive()
    learner: LearnerConfig = LearnerConfig()
