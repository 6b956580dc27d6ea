"""What Dagster's daemon is given: a sensor that asks for what is due, a job that runs it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adaptmr.workflows.registry.trigger import Trigger
from adaptmr.workflows.scheduling.cron import Cron
from adaptmr.workflows.scheduling.daemon import definitions
from adaptmr.workflows.scheduling.schedules import Schedule, Schedules
from adaptmr.workflows.single_flight import single_flight


@pytest.mark.parametrize("code", [0, 4])
def test_what_is_due_is_asked_for_and_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    import dagster

    ran: list[str] = []

    def run(schedule: Schedule, trigger: Trigger) -> int:
        ran.append(f"{schedule.name}: {trigger}")
        return code

    monkeypatch.setattr("adaptmr.workflows.scheduling.daemon.by_command", run)
    (tmp_path / "retrain.yaml").write_text("workflow: retrain\n")
    schedules = Schedules(tmp_path / "schedules")
    for name, days in (("due", 3), ("not-due", 0)):
        created = datetime.now(UTC) - timedelta(days=days)
        cron = Cron.checked("0 0 1 1 *" if days == 0 else "@daily", "UTC")
        schedules.add(tmp_path / "retrain.yaml", cron, tmp_path, name=name, now=created)
    defs = definitions(schedules.folder)
    sensor = defs.resolve_sensor_def("due")

    def asked() -> list[Any]:
        with dagster.instance_for_test() as instance:
            context = dagster.build_sensor_context(instance=instance)
            return list(sensor.evaluate_tick(context).run_requests or [])

    with single_flight(schedules.lock(schedules.named("due")), "it"):
        assert asked() == [], "it is being run"
    (request,) = asked()
    assert request.tags["schedule"] == "due"
    done = defs.resolve_job_def("schedule").execute_in_process(
        run_config=request.run_config, raise_on_error=False
    )
    assert done.success is (code == 0)
    assert ran == ["due: schedule"]
    assert asked() == []
