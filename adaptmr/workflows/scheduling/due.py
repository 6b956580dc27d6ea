"""What is due is run: once for all the moments that were missed, and one at a time."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict

from adaptmr.errors import BusyError
from adaptmr.workflows.registry.trigger import Trigger
from adaptmr.workflows.scheduling.schedules import Fired, Schedule, Schedules
from adaptmr.workflows.scheduling.watch import sense
from adaptmr.workflows.single_flight import single_flight

Runner = Callable[[Schedule, Trigger], int]
"""Runs the workflow of a schedule, for a reason; its exit code."""

INTERRUPTED: Final = 130
_BACK: Final = timedelta(days=1)
"""A clock that is behind by less waits; by more it was wrong before, and is believed now."""


class Ran(BaseModel):
    """What was done with one schedule."""

    model_config = ConfigDict(frozen=True)

    schedule: str
    moment: datetime | None
    """The moment that was due, UTC; null where none was."""
    trigger: Trigger | None
    """Why the workflow ran; null where it did not."""
    exit_code: int | None
    """Of the workflow, or 75 where another process is at it; null where it did not run."""
    said: tuple[str, ...]
    """What a person should know."""
    problem: str | None = None
    """What is wrong with the schedule itself."""


def run_due(
    schedules: Schedules,
    run: Runner,
    *,
    names: Sequence[str] | None = None,
    now: datetime | None = None,
) -> tuple[Ran, ...]:
    """Run what is due, one schedule after another.

    A moment is dealt with when its workflow ended, well or not. One that was killed, interrupted
    or busy is due still, and the workflow continues when this is called again.

    Args:
        schedules: the schedules.
        run: what runs a workflow.
        names: of the schedules looked at; all when not given.
        now: the time, for tests.

    Raises:
        BadInputError: a file of the schedules was edited.
        UsageError: there is no schedule of a name.
    """
    every = schedules.all() if names is None else [schedules.named(name) for name in names]
    return tuple(_run_due(schedules, one, run, now or datetime.now(UTC)) for one in every)


def pending(schedules: Schedules, now: datetime) -> tuple[str, ...]:
    """Names of the schedules that have something due and are not being run.

    Raises:
        BadInputError: a file of the schedules was edited.
    """
    found = []
    for one in schedules.all():
        try:
            with single_flight(schedules.lock(one), one.name):
                since = _since(schedules, one)
                if now < since - _BACK or one.cron.latest(since, now) is not None:
                    found.append(one.name)
        except BusyError:
            continue
    return tuple(found)


def by_command(schedule: Schedule, trigger: Trigger) -> int:
    """Run a workflow in a process of its own, as a person would.

    Returns:
        Its exit code; negative where a signal ended it.
    """
    command = [sys.executable, "-m", "adaptmr.cli", "workflow", "run", str(schedule.workflow)]
    told = ["--out", str(schedule.out), "--trigger", trigger.value]
    return subprocess.run([*command, *told], check=False, stdout=sys.stderr).returncode  # noqa: S603


def _run_due(schedules: Schedules, schedule: Schedule, run: Runner, now: datetime) -> Ran:
    try:
        with single_flight(schedules.lock(schedule), f"the schedule {schedule.name}"):
            return _run_alone(schedules, schedule, run, now)
    except BusyError as error:
        return _ran(schedule, code=BusyError.exit_code, said=(str(error),))


def _run_alone(schedules: Schedules, schedule: Schedule, run: Runner, now: datetime) -> Ran:
    since = _since(schedules, schedule)
    if now < since - _BACK:
        schedules.record(schedule, Fired(moment=now, at=now, trigger=None, exit_code=None))
        return _ran(
            schedule,
            problem=f"the clock is {since - now} behind the last moment that was dealt with"
            f" ({since.isoformat()}); moments count from now on",
        )
    moment = schedule.cron.latest(since, now)
    if moment is None:
        return _ran(schedule)
    trigger: Trigger | None = Trigger.SCHEDULE
    said: tuple[str, ...] = ()
    if schedule.watch is not None:
        seen = sense(schedule.watch, schedules.seen(schedule))
        trigger, said = seen.trigger, seen.reasons
    code = None if trigger is None else run(schedule, trigger)
    unfinished = code is not None and (code < 0 or code in (BusyError.exit_code, INTERRUPTED))
    if not unfinished:
        if code is not None and schedule.watch is not None:
            schedule.watch.settle(schedules.seen(schedule))
        fired = Fired(moment=moment, at=now, trigger=trigger, exit_code=code)
        schedules.record(schedule, fired)
    return _ran(schedule, moment, trigger, code, said)


def _since(schedules: Schedules, schedule: Schedule) -> datetime:
    """The moment up to which everything is dealt with."""
    last = schedules.fired(schedule)
    return schedule.created if last is None else last.moment


def _ran(
    schedule: Schedule,
    moment: datetime | None = None,
    trigger: Trigger | None = None,
    code: int | None = None,
    said: tuple[str, ...] = (),
    problem: str | None = None,
) -> Ran:
    return Ran(
        schedule=schedule.name,
        moment=moment,
        trigger=trigger,
        exit_code=code,
        said=said,
        problem=problem,
    )
