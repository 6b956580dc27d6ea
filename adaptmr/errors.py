"""The exceptions of the package: what was wrong, where, and what to do about it."""

from pathlib import Path
from typing import ClassVar


class AdaptMRError(Exception):
    """An error a user can act on, told in one line.

    Args:
        what: what is wrong, as a short sentence without a full stop.
        file: the file concerned.
        slice_index: the slice concerned, counted from 0.
        field: the dataset, attribute, option or key concerned.
        got: what was found there.
        expected: what should have been there.
        hint: what to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        file: Path | str | None = None,
        slice_index: int | None = None,
        field: str | None = None,
        got: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.file = None if file is None else Path(file)
        self.slice_index = slice_index
        self.field = field
        self.got = got
        self.expected = expected
        self.hint = hint
        super().__init__(self._one_line())

    def _one_line(self) -> str:
        where = ", ".join(
            part
            for part in (
                str(self.file) if self.file is not None else "",
                f"slice {self.slice_index}" if self.slice_index is not None else "",
                f"field '{self.field}'" if self.field is not None else "",
            )
            if part
        )
        details = "; ".join(
            part
            for part in (
                f"got {self.got}" if self.got is not None else "",
                f"expected {self.expected}" if self.expected is not None else "",
            )
            if part
        )
        line = f"{where}: {self.what}" if where else self.what
        if details:
            line += f" ({details})"
        if self.hint:
            line += f". {self.hint}"
        return " ".join(line.split())


class UsageError(AdaptMRError):
    """The command or call asks for something that does not exist or does not fit together."""

    exit_code = 2


class BadInputError(AdaptMRError):
    """A file or array is not what it has to be."""

    exit_code = 3


class GateError(AdaptMRError):
    """A result did not pass a gate it has to pass."""

    exit_code = 4


class BusyError(AdaptMRError):
    """Another process is at work on the same thing."""

    exit_code = 75
