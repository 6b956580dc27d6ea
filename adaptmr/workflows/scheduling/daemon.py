"""Schedules served by Dagster's daemon: a sensor asks every half minute what is due."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adaptmr.errors import BusyError
from adaptmr.workflows.scheduling.due import by_command, pending, run_due
from adaptmr.workflows.scheduling.schedules import Schedules
from adaptmr.workflows.single_flight import single_flight

if TYPE_CHECKING:
    from dagster import Definitions

FOLDER: Final = "ADAPTMR_SCHEDULES"
"""Environment variable that names the folder of the schedules that a daemon serves."""
_LOADED: Final = "adaptmr.workflows.scheduling.served"
_SECONDS: Final = 30
_LOCK: Final = "daemon.lock"


def serve(folder: Path) -> int:
    """Serve the schedules of a folder until the daemon is stopped; they may change meanwhile.

    Returns:
        The exit code of the daemon.

    Raises:
        BusyError: another daemon serves them.
    """
    from adaptmr.workflows.orchestration.run import home  # loads torch; the daemon need not

    folder = folder.absolute()
    with single_flight(folder / _LOCK, "serving these schedules"):
        environment = {**os.environ, "DAGSTER_HOME": str(home(folder)), FOLDER: str(folder)}
        command = [sys.executable, "-m", "dagster._daemon", "run", "--module-name", _LOADED]
        return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603


def definitions(folder: Path) -> "Definitions":
    """One job, which runs one schedule, and the sensor that asks for it."""
    import dagster

    schedules = Schedules(folder)

    @dagster.op(name="run", config_schema={"schedule": str})
    def run(context: dagster.OpExecutionContext) -> None:
        (ran,) = run_due(schedules, by_command, names=[context.op_config["schedule"]])
        told = ran.model_dump(mode="json")
        context.log.info(f"{told}")
        if ran.problem or ran.exit_code not in (None, 0, BusyError.exit_code):
            raise dagster.Failure(ran.problem or f"exit code {ran.exit_code}", allow_retries=False)

    @dagster.job(name="schedule", executor_def=dagster.in_process_executor)
    def job() -> None:
        run()

    @dagster.sensor(
        name="due",
        job=job,
        minimum_interval_seconds=_SECONDS,
        default_status=dagster.DefaultSensorStatus.RUNNING,
    )
    def due(_context: dagster.SensorEvaluationContext) -> Any:
        for name in pending(schedules, datetime.now(UTC)):
            config = {"ops": {"run": {"config": {"schedule": name}}}}
            yield dagster.RunRequest(run_config=config, tags={"schedule": name})

    return dagster.Definitions(jobs=[job], sensors=[due])
