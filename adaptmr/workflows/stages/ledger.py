"""The ledger of a store of scans: what was looked at, what was taken in, what was not and why.

One line of JSON for each file that was looked at, appended when that file is done; so an ingest
that is stopped loses at most the file it was at. Names of source files may name persons: the
ledger holds only a hash of where a file lies.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from adaptmr.errors import BadInputError

LEDGER: Final = "ledger.jsonl"


class Looked(BaseModel):
    """What became of one file.

    Attributes:
        source: sha256 of where it lies.
        size: bytes.
        modified: time of its last change, in nanoseconds.
        sha256: of its content; empty where it could not be read.
        file: its name in the store; None when it was not taken in.
        stored: sha256 of the file in the store.
        subject: pseudonymous key of whom it is.
        strata: what tells kinds of scans apart: acquisition, matrix, coils.
        reason: why it was not taken in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    source: str
    size: int
    modified: int
    sha256: str = ""
    file: str | None = None
    stored: str | None = None
    subject: str | None = None
    strata: dict[str, str] = {}
    reason: str | None = None

    @classmethod
    def of(cls, path: Path) -> Self:
        """A file that was not looked at yet."""
        state = path.stat()
        source = hashlib.sha256(str(path.absolute()).encode()).hexdigest()
        return cls(source=source, size=state.st_size, modified=state.st_mtime_ns)

    @property
    def state(self) -> tuple[str, int, int]:
        """Changes when the file does, or lies elsewhere."""
        return self.source, self.size, self.modified


def read_ledger(store: Path) -> Iterator[Looked]:
    """The entries of a store, in the order of time; none where there is no store yet.

    A last line that is not complete is of an ingest that was killed, and does not count.

    Raises:
        BadInputError: another line cannot be read: the ledger was edited or damaged.
    """
    path = store / LEDGER
    if not path.exists():
        return
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith("\n"):
                return
            try:
                yield Looked.model_validate_json(line)
            except ValidationError as error:
                raise BadInputError(
                    "a line of the ledger cannot be read",
                    file=path,
                    field=f"line {number}",
                    got=error.errors()[0]["msg"],
                    hint="It was edited or damaged: restore it, or ingest into a new store",
                ) from error


def append(store: Path, looked: Looked) -> None:
    """Add an entry; it is on the disk when this returns.

    Raises:
        BadInputError: the disk is full or the store may not be written.
    """
    path = store / LEDGER
    line = json.dumps(looked.model_dump(mode="json"), sort_keys=True) + "\n"
    try:
        with path.open("a+b") as stream:
            _drop_torn_line(stream.fileno())
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise BadInputError(
            "the ledger cannot be written",
            file=path,
            got=error.strerror,
            hint="Free some space, or let the store be written to",
        ) from error


def _drop_torn_line(descriptor: int) -> None:
    """Cut off what a writer that was killed left behind the last whole line."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, 1 << 16, max(0, size - (1 << 16)))
    whole = tail.rfind(b"\n") + 1
    if tail and whole < len(tail):
        os.ftruncate(descriptor, size - (len(tail) - whole))
