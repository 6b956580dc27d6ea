"""What a workflow is made of: one YAML file for each, told apart by ``workflow``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    model_validator,
)

from adaptmr.data.simulation import SimulationConfig
from adaptmr.reconstruction.training.config import Schedule
from adaptmr.workflows.bank_training.config import BankRecipe, BankTraining
from adaptmr.workflows.benchmark.config import BenchmarkChoices, BenchmarkConfig
from adaptmr.workflows.config import load_config
from adaptmr.workflows.continual.config import SequenceConfig
from adaptmr.workflows.gates.config import GateConfig
from adaptmr.workflows.registry.export import MlflowConfig
from adaptmr.workflows.registry.trigger import Trigger
from adaptmr.workflows.stages.split import SplitConfig

Place = Annotated[Path, AfterValidator(Path.absolute)]
"""A path; another process may have another working directory."""


class WorkflowKind(StrEnum):
    """What there is."""

    BENCHMARK = "benchmark"
    TRAIN_BANK = "train-bank"
    RETRAIN = "retrain"


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IncomingFolders(_Config):
    """Folders that scans are put into, by whatever brings them."""

    kind: Literal["folders"] = "folders"
    folders: Annotated[tuple[Place, ...], Field(min_length=1)]


class IncomingSimulated(_Config):
    """Scans that are simulated first."""

    kind: Literal["simulated"] = "simulated"
    scans: Annotated[tuple[SimulationConfig, ...], Field(min_length=1)]


class IngestConfig(_Config):
    """Where scans come from, and where they are kept."""

    incoming: Annotated[IncomingFolders | IncomingSimulated, Field(discriminator="kind")]
    store: Place | None = None
    """Folder of the scans that were taken in, shared by workflows that go on from each other; one
    within the output when not given."""
    secret: Place | None = None
    """File with the secret of the site, of which the keys of subjects are made; keep it apart."""
    matrix: tuple[PositiveInt, PositiveInt] | None = None
    """(readout, phase) that scans have to have; others are not taken in."""


class InProcess(_Config):
    """One stage after another, in the process of the command."""

    kind: Literal["in-process"] = "in-process"


class Processes(_Config):
    """Stages that do not need each other at the same time, as processes of this machine."""

    kind: Literal["processes"] = "processes"
    workers: PositiveInt = 2


class Dask(_Config):
    """Stages on the workers of a Dask cluster, which see the same folders."""

    kind: Literal["dask"] = "dask"
    scheduler: str
    """Address of the scheduler, for example ``tcp://node1:8786``."""


class WorkflowConfig(_Config):
    """What all workflows have."""

    workflow: WorkflowKind
    """Which workflow the file is of."""
    ingest: IngestConfig
    split: SplitConfig = SplitConfig()
    training: BankRecipe
    """How a bank is trained, as for ``adaptmr train`` but for its data."""
    executor: Annotated[InProcess | Processes | Dask, Field(discriminator="kind")] = InProcess()
    """Where stages run; changes no result."""

    def bank_training(self, folder: Path) -> BankTraining:
        """The training on a folder with ``train`` and, perhaps, ``calibration``."""
        data = {"kind": "scans", "folder": folder}
        return BankTraining.model_validate(
            {**dict(self.training), "data": data, "calibration_fraction": 0.0}
        )


class TrainBank(WorkflowConfig):
    """Raw scans to a bank."""

    workflow: Literal[WorkflowKind.TRAIN_BANK]


class Benchmark(WorkflowConfig, BenchmarkChoices):
    """Raw scans to the answer whether adaptive selection pays."""

    workflow: Literal[WorkflowKind.BENCHMARK]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.benchmark(Path())
        return self

    def benchmark(self, folder: Path) -> BenchmarkConfig:
        """The benchmark on a folder with ``train``, ``calibration`` and ``test``."""
        choices: dict[str, Any] = {
            name: getattr(self, name) for name in BenchmarkChoices.model_fields
        }
        return BenchmarkConfig.model_validate(
            {**choices, "training": self.bank_training(folder), "test": folder / "test"}
        )


class Retrain(WorkflowConfig):
    """New scans to a better bank, or to the reason why the one that serves stays."""

    workflow: Literal[WorkflowKind.RETRAIN]
    registry: Place
    """Folder of the versions of the bank; made by the first."""
    gates: GateConfig
    """What a candidate has to fulfil; fixed before it is trained."""
    further: Schedule = Schedule()
    """How the networks of the bank that serves are trained further. Where none serves yet, a bank
    is trained as ``training`` says, which otherwise gives sizes, selector, widths and seed."""
    trigger: Trigger = Trigger.HAND
    """What asked for it: `adaptmr schedule run-due` says so. What a drift alarm asked for is
    registered, and waits for a person."""
    mlflow: MlflowConfig | None = None
    """Where the registry is copied to after each retraining; nowhere when not given."""
    tasks: SequenceConfig | None = None
    """Tasks that those networks are taught after that, one after another. Gates judge the images
    and the score of each task, also of one that was learned long ago: leave none out later."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.tasks is not None and self.tasks.bank is not None:
            raise ValueError("the bank that serves is taught: leave tasks.bank out")
        return self


class _Kind(BaseModel):
    workflow: WorkflowKind


_KINDS: dict[WorkflowKind, type[WorkflowConfig]] = {
    WorkflowKind.TRAIN_BANK: TrainBank,
    WorkflowKind.BENCHMARK: Benchmark,
    WorkflowKind.RETRAIN: Retrain,
}


def load_workflow(path: Path) -> WorkflowConfig:
    """Read the YAML file of a workflow.

    Raises:
        BadInputError: as `load_config`.
    """
    return load_config(path, _KINDS[load_config(path, _Kind).workflow])


def asked_by(config: WorkflowConfig, trigger: Trigger | None) -> WorkflowConfig:
    """The workflow as a retraining that something asked for; others are the same whoever asks."""
    if trigger is None or not isinstance(config, Retrain):
        return config
    return config.model_copy(update={"trigger": trigger})
