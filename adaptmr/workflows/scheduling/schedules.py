"""Schedules: files that say what runs when, and how far they have got."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from adaptmr.data.files import complete_file
from adaptmr.data.manifest import read_description
from adaptmr.errors import BadInputError, UsageError
from adaptmr.workflows.registry.trigger import Trigger
from adaptmr.workflows.scheduling.cron import Cron
from adaptmr.workflows.scheduling.watch import Watch

SCHEMA: Final = 1
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Schedule(BaseModel):
    """What runs when."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA
    name: str
    workflow: Path
    """The YAML file, absolute."""
    out: Path
    """The folder that the workflow writes into, absolute."""
    cron: Cron
    watch: Watch | None = None
    """What has to be seen for a moment to count; every moment does without it."""
    created: datetime


class Fired(BaseModel):
    """The last moment that was dealt with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    moment: datetime
    """When it was due, UTC; earlier ones that were missed went with it."""
    at: datetime
    """What the clock said when it was begun."""
    trigger: Trigger | None
    """Why it ran; null where nothing was seen that asked for it."""
    exit_code: int | None
    """Of the workflow; null where it did not run."""


class Schedules:
    """The schedules of a folder: ``NAME.json``, and ``NAME.state`` of those that have fired.

    Args:
        folder: the folder; made by the first schedule.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> tuple[Schedule, ...]:
        """All schedules, by name.

        Raises:
            BadInputError: a file is no schedule.
        """
        files = sorted(self.folder.glob("*.json"))
        return tuple(read_description(file, Schedule, "a schedule") for file in files)

    def named(self, name: str) -> Schedule:
        """The schedule of that name.

        Raises:
            UsageError: there is none.
        """
        found = {one.name: one for one in self.all()}
        if name not in found:
            there = ", ".join(found) or "none"
            raise UsageError("there is no such schedule", field="name", got=name, expected=there)
        return found[name]

    def add(
        self,
        workflow: Path,
        cron: Cron,
        out: Path,
        *,
        name: str | None = None,
        watch: Watch | None = None,
        now: datetime | None = None,
    ) -> Schedule:
        """Write a schedule; it fires at the first moment from now on.

        Args:
            workflow: YAML file of the workflow.
            cron: the moments.
            out: folder that the workflow writes into.
            name: of the schedule; that of the file when not given.
            watch: what has to be seen for a moment to count.
            now: the time, for tests.

        Raises:
            UsageError: the name cannot be that of a file.
            BadInputError: the workflow's file is missing, or there is a schedule of this name.
        """
        called = workflow.stem if name is None else name
        if not _NAME.fullmatch(called):
            raise UsageError(
                "this cannot name a schedule",
                field="name",
                got=called,
                expected="letters, digits, - and _",
            )
        if not workflow.is_file():
            raise BadInputError("there is no such workflow", file=workflow, hint="Check the path")
        schedule = Schedule(
            name=called,
            workflow=workflow.absolute(),
            out=out.absolute(),
            cron=cron,
            watch=watch,
            created=now or datetime.now(UTC),
        )
        with complete_file(self._file(called)) as partial:
            partial.write_text(schedule.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return schedule

    def remove(self, name: str) -> None:
        """Remove a schedule; what its workflow made stays.

        Raises:
            UsageError: there is none of this name.
        """
        schedule = self.named(name)
        self._file(name).unlink()
        for file in (self._state(schedule), self.seen(schedule)):
            file.unlink(missing_ok=True)

    def fired(self, schedule: Schedule) -> Fired | None:
        """The last moment that was dealt with; None where none was.

        Raises:
            BadInputError: the file was edited.
        """
        file = self._state(schedule)
        return read_description(file, Fired, "the state of a schedule") if file.exists() else None

    def record(self, schedule: Schedule, fired: Fired) -> None:
        """Note that a moment was dealt with.

        Raises:
            BadInputError: it cannot be written.
        """
        with complete_file(self._state(schedule), overwrite=True) as partial:
            partial.write_text(fired.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def lock(self, schedule: Schedule) -> Path:
        """The file that is locked while the schedule runs."""
        return self.folder / f"{schedule.name}.lock"

    def seen(self, schedule: Schedule) -> Path:
        """The file of what was seen of the scans that it watches."""
        return self.folder / f"{schedule.name}.seen"

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _state(self, schedule: Schedule) -> Path:
        return self.folder / f"{schedule.name}.state"
