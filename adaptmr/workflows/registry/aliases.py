"""Aliases: which version serves. They follow from the log, and say from how much of it."""

import json
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from adaptmr.data.files import complete_file
from adaptmr.data.manifest import read_description
from adaptmr.errors import BadInputError
from adaptmr.workflows.registry.log import Entry, Event

ALIASES: Final = "aliases.json"


class Aliases(BaseModel):
    """The aliases; one small file that is replaced in one step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion: str | None
    """The version that serves."""
    challenger: str | None
    """The version that was registered last and did not serve yet."""
    previous: str | None
    """The version that a rollback brings back."""
    entries: int
    """Length of the log that they follow from."""
    head: str
    """Hash of its last entry."""

    def named(self, name: str) -> str | None:
        """The version of an alias; None for what is no alias, or for one that stands for none."""
        return {
            "champion": self.champion,
            "challenger": self.challenger,
            "previous": self.previous,
        }.get(name)


def derive(entries: tuple[Entry, ...]) -> Aliases:
    """The aliases that follow from the log."""
    served = lineage(entries)
    challenger: str | None = None
    for entry in entries:
        version = str(entry.details.get("version"))
        if entry.event is Event.REGISTERED:
            challenger = version
        elif entry.event in (Event.PROMOTED, Event.PRUNED) and version == challenger:
            challenger = None
    return Aliases(
        champion=served[-1] if served else None,
        challenger=challenger,
        previous=served[-2] if len(served) > 1 else None,
        entries=len(entries),
        head=entries[-1].hash,
    )


def lineage(entries: tuple[Entry, ...]) -> list[str]:
    """The versions that served, without those withdrawn or pruned; the last one serves now."""
    served: list[str] = []
    for entry in entries:
        version = str(entry.details.get("version"))
        if entry.event is Event.PROMOTED:
            served.append(version)
        elif entry.event is Event.ROLLED_BACK:
            served.pop()
        elif entry.event is Event.PRUNED:
            served = [one for one in served if one != version]
    return served


def write_aliases(folder: Path, aliases: Aliases) -> None:
    """Replace the aliases in one step.

    Raises:
        BadInputError: the file cannot be written; the old one stays.
    """
    with complete_file(folder / ALIASES, overwrite=True) as partial:
        partial.write_text(aliases.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_aliases(folder: Path, entries: tuple[Entry, ...]) -> Aliases | None:
    """The aliases on the disk, checked against the log; None where one entry is not in them yet.

    A process that is killed between the log and the aliases leaves just that.

    Raises:
        BadInputError: they were edited by hand, or lines were taken from the log.
    """
    path = folder / ALIASES
    if not path.is_file() and len(entries) == 1:
        return None
    found = read_description(path, Aliases, "the aliases of a registry")
    if not 0 < found.entries <= len(entries):
        raise BadInputError(
            "the audit log has lost entries",
            file=folder,
            got=f"{len(entries)} entries",
            expected=f"{found.entries} or more",
            hint="Put back the copy of a backup",
        )
    behind = len(entries) - found.entries
    if behind > 1 or found != derive(entries[: found.entries]):
        raise BadInputError(
            "the aliases were edited by hand: they do not follow from the audit log",
            file=path,
            got=json.dumps(found.model_dump(include={"champion", "challenger", "previous"})),
            hint="Call 'adaptmr registry verify --repair' to take them from the log",
        )
    return found if behind == 0 else None
