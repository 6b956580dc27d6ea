"""``participants.tsv``: which subject is for what, and what is known of each (as BIDS has it)."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from adaptmr.data.files import complete_file
from adaptmr.data.hdf5 import require_file
from adaptmr.errors import BadInputError

PARTICIPANTS: Final = "participants.tsv"
_SUBJECT, _SPLIT = "participant_id", "split"
_UNKNOWN: Final = "n/a"


class Part(StrEnum):
    """What a subject is for. Task networks never see the subjects of the continual training."""

    TASK_TRAINING = "train_task"
    TASK_VALIDATION = "val_task"
    TRAINING = "train"
    VALIDATION = "val"
    TEST = "test"


@dataclass(frozen=True)
class Participants:
    """The table.

    Attributes:
        parts: subject -> what it is for.
        values: column -> subject -> text; a subject whose entry is ``n/a`` is left out.
        file: where it was read.
    """

    parts: Mapping[str, Part]
    values: Mapping[str, Mapping[str, str]]
    file: Path

    def part(self, subject: str) -> Part:
        """What a subject is for.

        Raises:
            BadInputError: the table does not name it.
        """
        if subject not in self.parts:
            raise BadInputError(
                "the table of participants lacks a subject that was scanned",
                file=self.file,
                field=_SUBJECT,
                got=subject,
                hint="Add a line for it, or move its scans out of the folder",
            )
        return self.parts[subject]

    def value(self, column: str, subject: str) -> str:
        """What a column says of a subject.

        Raises:
            BadInputError: there is no such column, or the subject's entry is missing.
        """
        if column not in self.values:
            raise BadInputError(
                "the table of participants lacks a column",
                file=self.file,
                field=column,
                got=", ".join(self.values) or "no further column",
            )
        if subject not in self.values[column]:
            raise BadInputError(
                "the table of participants does not know this of a subject",
                file=self.file,
                field=column,
                got=f"{_UNKNOWN} for {subject}",
                hint="Fill it in, or move the subject's scans out of the folder",
            )
        return self.values[column][subject]


def read_participants(folder: Path) -> Participants:
    """Read the table of a folder: tab-separated, ``participant_id``, ``split``, further columns.

    Raises:
        BadInputError: it is missing, lacks a column, names an unknown split, or has one subject in
            two splits.
    """
    path = folder / PARTICIPANTS
    require_file(path)
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInputError("the table cannot be read", file=path, got=error) from error
    names = rows[0]
    missing = [name for name in (_SUBJECT, _SPLIT) if name not in names]
    if missing:
        raise BadInputError(
            "the table of participants lacks a column",
            file=path,
            field=missing[0],
            got=", ".join(names),
            hint="Columns are separated by tabs",
        )
    parts: dict[str, Part] = {}
    values: dict[str, dict[str, str]] = {
        name: {} for name in names if name not in (_SUBJECT, _SPLIT)
    }
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise BadInputError(
                "a line of the table has another number of columns",
                file=path,
                field=f"line {number}",
                got=len(row),
                expected=len(names),
            )
        entry = dict(zip(names, row, strict=True))
        subject, part = entry[_SUBJECT], _part(path, entry[_SPLIT])
        if parts.setdefault(subject, part) is not part:
            raise BadInputError(
                "a subject is in two splits",
                file=path,
                field=_SPLIT,
                got=f"{subject}: {parts[subject]} and {part}",
                hint="All scans of a subject belong to one split",
            )
        for name, known in values.items():
            if entry[name] not in ("", _UNKNOWN):
                known[subject] = entry[name]
    return Participants(parts, values, path)


def write_participants(
    folder: Path,
    rows: Sequence[tuple[str, Part, Mapping[str, object]]],
    *,
    overwrite: bool = False,
) -> Path:
    """Write the table of a folder.

    Args:
        folder: of the scans.
        rows: subject, split, and further columns; the same ones in every row.
        overwrite: whether an existing table may be replaced.

    Raises:
        BadInputError: it exists, or cannot be written.
    """
    columns = list(rows[0][2]) if rows else []
    lines = [[_SUBJECT, _SPLIT, *columns]]
    lines += [[subject, part, *(str(more[c]) for c in columns)] for subject, part, more in rows]
    with complete_file(folder / PARTICIPANTS, overwrite=overwrite) as partial:
        partial.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    return folder / PARTICIPANTS


def _part(path: Path, text: str) -> Part:
    try:
        return Part(text)
    except ValueError as error:
        raise BadInputError(
            "there is no such split",
            file=path,
            field=_SPLIT,
            got=text,
            expected=", ".join(Part),
        ) from error
