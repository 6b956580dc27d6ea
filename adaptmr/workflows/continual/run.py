"""A sequence of tasks from a configuration: stages, bank, record, pictures, report."""

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from adaptmr.continual.learner import ContinualLearner
from adaptmr.continual.study import LEARNER
from adaptmr.continual.task import LOSSES, Judgement, Metric, Task
from adaptmr.continual.task_files import load_task
from adaptmr.data.files import complete_file
from adaptmr.data.manifest import read_description
from adaptmr.reconstruction.bank import persistence as banks
from adaptmr.workflows.bank_training.steps import Steps
from adaptmr.workflows.banks import default_bank
from adaptmr.workflows.continual.config import SequenceConfig
from adaptmr.workflows.continual.slices import draw_slices
from adaptmr.workflows.continual.studies import Studies
from adaptmr.workflows.continual.summary import Trained
from adaptmr.workflows.environment import environment
from adaptmr.workflows.single_flight import single_flight

RECORD: Final = "sequence.json"
REPORT: Final = "report.html"
LOCK: Final = ".lock"
_RECONSTRUCTION: Final = "reconstruction"


class TaskFacts(BaseModel):
    """What a report says of a task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    judgement: Judgement
    metric: Metric
    margin: float


class SequenceRecord(BaseModel):
    """What a sequence left behind, beside its networks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    strategy: dict[str, JsonValue]
    learner: dict[str, JsonValue]
    tasks: tuple[TaskFacts, ...]
    pairs: tuple[Trained, ...]
    """Of each pair of mask and network of the bank."""
    environment: dict[str, str]

    @property
    def kind(self) -> str:
        """Name of the strategy."""
        return str(self.strategy["kind"])


def run_sequence(config: SequenceConfig, out: Path, *, resume: bool = True) -> SequenceRecord:
    """Learn tasks one after another with a bank.

    ``out`` holds ``<pair>/<stage>`` with the network of each stage, ``bank`` with those of the
    last, ``sequence.json``, ``pictures``, and ``data`` where scans are simulated. Called again,
    what is done is not done again: a stopped sequence continues within its stage, and tasks may be
    added at the end.

    Args:
        config: what to learn, and how.
        out: folder.
        resume: whether to continue a stage that was stopped; otherwise it is thrown away.

    Raises:
        BadInputError: data, a task or the bank cannot be used; or the loss became NaN twice.
        UsageError: ``out`` holds another sequence.
        BusyError: another process runs, or erases from, this sequence.
    """
    with single_flight(out / LOCK, "this sequence of tasks"):
        return _run(config, out, resume)


def _run(config: SequenceConfig, out: Path, resume: bool) -> SequenceRecord:
    tasks = open_tasks(config, out)
    learner = ContinualLearner(tasks, config.strategy, config.learner)
    bank = config.bank or default_bank()
    learned = learner.run_bank(bank, out, resume=resume)
    record = SequenceRecord(
        strategy=config.strategy.model_dump(mode="json"),
        learner=config.learner.model_dump(mode="json", exclude={"accelerator"}),
        tasks=tuple(
            TaskFacts(name=task.name, judgement=task.kind, metric=task.metric, margin=task.margin)
            for task in tasks
        ),
        pairs=tuple(Trained.of(each, tasks) for each in learned),
        environment=dict(environment()),
    )
    draw_slices(out, tasks, banks.load(bank).masks.masks[0], learned[0])
    with complete_file(out / RECORD, overwrite=True) as partial:
        partial.write_text(record.model_dump_json(indent=1) + "\n")
    return record


def read_record(out: Path) -> SequenceRecord:
    """The record in the folder of a sequence.

    Raises:
        BadInputError: there is none, or it cannot be read.
    """
    return read_description(out / RECORD, SequenceRecord, "a sequence of tasks")


def open_tasks(config: SequenceConfig, out: Path) -> tuple[Task, ...]:
    """The tasks of a configuration with their data, in the order they are learned.

    Raises:
        BadInputError: a task or its data cannot be used.
    """
    studies = Studies(Steps(out / "data"), LEARNER.values())
    first = config.reconstruction
    tasks = [
        Task(
            _RECONSTRUCTION,
            Judgement.RECONSTRUCTION,
            None,
            LOSSES[Judgement.RECONSTRUCTION][0],
            first.metric,
            first.margin,
            studies(first.study).examples(None, LEARNER),
        )
    ]
    for each in config.tasks:
        stored = load_task(each.task)
        volumes = stored.volumes
        annotation = stored.description.annotation
        tasks.append(stored.on(studies(each.study).examples(annotation, LEARNER, volumes=volumes)))
    return tuple(tasks)
