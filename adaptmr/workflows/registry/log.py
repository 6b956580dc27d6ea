"""The audit log: one JSON object a line, each with the hash of the one before.

A changed, removed or inserted line breaks the chain. Lines cut off at the end are missed by the
chain alone; the aliases, which name the last entry that they come from, tell of them.
"""

import getpass
import hashlib
import json
import os
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from adaptmr.errors import BadInputError
from adaptmr.workflows.registry.points import Point, point

START: Final = "0" * 64
"""What the first entry names as the hash of the one before."""


class Event(StrEnum):
    """What happened."""

    CREATED = "created"
    GATES_FROZEN = "gates frozen"
    JUDGED = "judged"
    REGISTERED = "registered"
    APPROVED = "approved"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    PRUNED = "pruned"
    REPAIRED = "repaired"


class Entry(BaseModel):
    """One line of the log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    """From 0; the order of what happened, whatever the clock said."""
    time: datetime
    """What the clock said, UTC."""
    event: Event
    by: str
    """Who asked for it: a name, or the account that the process ran under."""
    details: dict[str, JsonValue]
    previous: str
    """Hash of the entry before."""
    hash: str
    """sha256 of all the other fields."""

    def text(self, name: str) -> str:
        """A detail that is text, as every event has its own."""
        return str(self.details[name])


def read_log(path: Path) -> tuple[Entry, ...]:
    """All entries, the chain checked; a last line that was cut short is left out.

    Raises:
        BadInputError: the file cannot be read, or was edited; the message names the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInputError(
            "the audit log cannot be read", file=path, got=error.strerror
        ) from error
    whole = content[: content.rfind(b"\n") + 1]
    entries: list[Entry] = []
    previous = START
    for number, line in enumerate(whole.splitlines()):
        try:
            entry = Entry.model_validate_json(line)
        except ValidationError as error:
            raise _edited(path, number, "no entry of a log") from error
        if entry.number != number or entry.previous != previous or entry.hash != _digest(entry):
            raise _edited(path, number, "an entry that does not follow from the one before")
        previous = entry.hash
        entries.append(entry)
    return tuple(entries)


def append(
    path: Path,
    entries: tuple[Entry, ...],
    event: Event,
    details: dict[str, JsonValue],
    *,
    by: str | None = None,
    now: datetime | None = None,
) -> Entry:
    """Write one more entry, on the disk when this returns; the caller keeps other writers out.

    Args:
        path: the log.
        entries: what `read_log` gave.
        event: what happened.
        details: of it; nothing of a patient.
        by: who asked for it; the account of this process when not given.
        now: the time, for tests.

    Raises:
        BadInputError: there is no room, or the file cannot be written; it is as before then.
    """
    entry = Entry(
        number=len(entries),
        time=now or datetime.now(UTC),
        event=event,
        by=by or account(),
        details=details,
        previous=entries[-1].hash if entries else START,
        hash="",
    )
    entry = entry.model_copy(update={"hash": _digest(entry)})
    line = entry.model_dump_json().encode() + b"\n"
    try:
        with path.open("ab", buffering=0) as stream:
            size = _whole(path)
            stream.truncate(size)  # of a line that was cut short
            try:
                half = len(line) // 2
                _write(stream.fileno(), line[:half])
                point(Point.HALF_LOGGED, event)
                _write(stream.fileno(), line[half:])
                os.fsync(stream.fileno())
            except OSError:
                stream.truncate(size)
                raise
    except OSError as error:
        raise BadInputError(
            "the audit log cannot be written, so nothing was changed",
            file=path,
            got=error.strerror,
            hint="Make room on the disk, then call the command again",
        ) from error
    return entry


def account() -> str:
    """The account that this process runs under."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _whole(path: Path) -> int:
    """Bytes up to the end of the last line that is complete."""
    return path.read_bytes().rfind(b"\n") + 1


def _digest(entry: Entry) -> str:
    told = entry.model_dump(mode="json", exclude={"hash"})
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _edited(path: Path, number: int, got: str) -> BadInputError:
    return BadInputError(
        "the audit log was edited by hand",
        file=path,
        field=f"line {number + 1}",
        got=got,
        hint="Put back the copy of a backup; nothing is read from an edited log",
    )
