"""One run of a workflow: alone in its folder, cached, and continued when it was stopped."""

import os
import signal
from pathlib import Path
from typing import Any, Final, NoReturn

from pydantic import BaseModel, ConfigDict

from adaptmr.data.files import complete_file
from adaptmr.errors import AdaptMRError, BadInputError
from adaptmr.workflows.orchestration.journal import Event, Reader, What, examine, perform
from adaptmr.workflows.orchestration.tree import following
from adaptmr.workflows.single_flight import single_flight
from adaptmr.workflows.stages.config import WorkflowConfig, WorkflowKind
from adaptmr.workflows.stages.gathering import Gathering
from adaptmr.workflows.stages.plan import opened, results, stage_of, write_workflow

DAGSTER: Final = "dagster"
"""Folder of Dagster's own records, within that of the workflow."""
_LOCK: Final = ".lock"
_OURS: Final = {"adaptmr/run": "command"}
_SETTINGS: Final = """\
telemetry:
  enabled: false
run_monitoring:
  enabled: true
run_retries:
  enabled: true
  max_retries: 1
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""


class Outcome(BaseModel):
    """What a run came to.

    Attributes:
        workflow: which kind.
        out: its folder.
        stages: key of the result of each.
        computed: stages of which something was computed now.
        results: what is for people and other commands, by name.
    """

    model_config = ConfigDict(frozen=True)

    workflow: WorkflowKind
    out: Path
    stages: dict[str, str]
    computed: tuple[str, ...]
    results: dict[str, Path]


def run_workflow(config: WorkflowConfig, out: Path) -> Outcome:
    """Run a workflow, or what of it is not done yet.

    A run that was stopped, by whatever, continues when it is asked for again. When all is done
    nothing is computed, and Dagster is not even loaded.

    Args:
        config: the workflow.
        out: folder of all that it makes.

    Raises:
        BadInputError: what is read cannot be used, or ``out`` cannot be written.
        GateError: a result is not good enough to go on.
        BusyError: another run is at this folder.
    """
    with single_flight(out / _LOCK, "this workflow"):
        write_workflow(config, out)
        work, reader = opened(out), Reader(out)
        with following(out, f"{config.workflow}: {out}", work.stages):
            done = results(out)
            if done is None:
                execute(work)
            else:
                for name, step in done.items():
                    Event(name, What.REUSED, key=step.key).append_to(out)
        return _outcome(work, list(reader.read()))


def run_stage(config: WorkflowConfig, out: Path, name: str) -> Outcome:
    """Run one stage without Dagster, and before it what is missing of those that it needs.

    Several processes may run stages of one folder at once; what two of them need one computes.

    Args:
        config: the workflow.
        out: folder of all that it makes.
        name: of the stage.

    Raises:
        UsageError: there is no such stage.
        BadInputError: as `run_workflow`.
        GateError: as `run_workflow`.
    """
    write_workflow(config, out)
    work = opened(out)
    stage, reader = stage_of(work, name), Reader(out)
    with following(out, name, [stage]):
        perform(work, stage)
        examine(work, stage)
    return _outcome(work, [event for event in reader.read() if event.stage == name])


def execute(work: Gathering) -> None:
    """Run all stages under Dagster.

    Raises:
        AdaptMRError: what the first stage raised that failed.
    """
    import dagster
    from sqlalchemy.exc import SQLAlchemyError

    from adaptmr.workflows.orchestration import definitions

    reader = Reader(work.out)
    job = dagster.build_reconstructable_job(
        definitions.__name__, definitions.job.__name__, reconstructable_args=(str(work.out),)
    )
    try:
        with dagster.DagsterInstance.from_config(str(home(work.out))) as instance:
            _bury(instance)
            result = dagster.execute_job(
                job,
                instance,
                run_config=definitions.run_config(work.config),
                tags=_OURS,
                raise_on_error=False,
            )
    except (OSError, SQLAlchemyError) as error:
        raise BadInputError(
            "the records of the run cannot be written",
            file=work.out / DAGSTER,
            got=str(error).splitlines()[0],
            hint="Free some space; what is done is kept, and the same command continues",
        ) from error
    if not result.success:
        _tell_why(result, list(reader.read()), work.out / DAGSTER)


def _tell_why(result: Any, events: list[Event], records: Path) -> NoReturn:
    """Raise what ended a run."""
    told = result.get_run_failure_event().job_failure_data
    interrupted = told.failure_reason and told.failure_reason.value == "UNEXPECTED_TERMINATION"
    if interrupted or any(event.what is What.STOPPED for event in events):
        signal.raise_signal(signal.SIGINT)  # as it came, now that Dagster has let go of it
    failed = [event for event in events if event.what is What.FAILED]
    if failed:
        raise failed[-1].exception
    raise AdaptMRError(
        "the run was ended by something else than a stage",
        file=records,
        hint="'adaptmr workflow ui' shows its log; the same command continues",
    )


def home(out: Path) -> Path:
    """Folder of Dagster's records of a workflow, with its settings: no telemetry."""
    folder = out / DAGSTER
    if not (folder / "dagster.yaml").exists():
        with complete_file(folder / "dagster.yaml") as partial:
            partial.write_text(_SETTINGS)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    return folder


def _bury(instance: Any) -> None:
    """Say of runs whose process was killed that they ended."""
    from dagster import DagsterRunStatus, RunsFilter

    alive = [DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.CANCELING]
    for run in instance.get_runs(filters=RunsFilter(tags=_OURS, statuses=alive)):
        instance.report_run_failed(run, "its process was killed")


def _outcome(work: Gathering, events: list[Event]) -> Outcome:
    ended = [event for event in events if event.what in (What.DONE, What.REUSED)]
    return Outcome(
        workflow=work.config.workflow,
        out=work.out,
        stages={event.stage: event.key for event in ended},
        computed=tuple(event.stage for event in ended if event.what is What.DONE),
        results={name: path for name in work.published if (path := work.out / name).exists()},
    )
