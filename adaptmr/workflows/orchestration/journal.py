"""The journal of a workflow's folder: what each stage did, one line of JSON for each event.

Stages may run in other processes and on other machines; whoever wants to know how far they are
reads along.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Final, Self

from adaptmr import errors
from adaptmr.errors import AdaptMRError, BadInputError
from adaptmr.workflows.bank_training.steps import Step
from adaptmr.workflows.stages.gathering import Gathering, Stage

JOURNAL: Final = "events.jsonl"


class What(StrEnum):
    """What happened to a stage."""

    BEGUN = "begun"
    DONE = "done"
    REUSED = "done before"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Event:
    """One line of the journal.

    Attributes:
        stage: which.
        what: what happened.
        seconds: since the stage was begun.
        key: of its result, when it is done.
        error: class of the error, when it failed.
        message: what it says.
    """

    stage: str
    what: What
    seconds: float = 0.0
    key: str = ""
    error: str = ""
    message: str = ""

    @classmethod
    def read(cls, line: bytes) -> Self:
        """From a line."""
        values = json.loads(line)
        del values["time"]
        return cls(**{**values, "what": What(values["what"])})

    def append_to(self, out: Path) -> None:
        """Write it; lines of several processes do not mix.

        Raises:
            BadInputError: the disk is full, or the folder may not be written.
        """
        values = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **self.__dict__}
        line = json.dumps(values) + "\n"
        try:
            descriptor = os.open(out / JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _unwritable(out / JOURNAL, error) from error

    @property
    def exception(self) -> AdaptMRError:
        """The error of a stage that failed, as far as a line tells it."""
        kind = getattr(errors, self.error, AdaptMRError)
        return kind(self.message) if self.error else AdaptMRError(self.message)


class Reader:
    """Reads what is written from now on.

    Args:
        out: folder of the workflow.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / JOURNAL
        self._position = self._path.stat().st_size if self._path.exists() else 0

    def read(self) -> Iterator[Event]:
        """What came since the last call; a line that is not complete yet waits."""
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._position)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                self._position += len(line)
                yield Event.read(line)


def perform(work: Gathering, stage: Stage) -> Step:
    """Run a stage, and write what happens into the journal.

    Raises:
        AdaptMRError: whatever the stage raises.
    """
    begun = time.monotonic()
    before = len(work.steps.took)
    Event(stage.name, What.BEGUN).append_to(work.out)
    try:
        with _noticing_signals():
            step = stage.run()
    except Exception as error:
        _failed(work, stage, error, time.monotonic() - begun)
        raise
    except BaseException:  # Ctrl-C, or a scheduler that wants the machine back
        seconds = round(time.monotonic() - begun, 1)
        Event(stage.name, What.STOPPED, seconds).append_to(work.out)
        raise
    fresh = [took for took in work.steps.took[before:] if not took.reused]
    seconds = round(time.monotonic() - begun, 1)
    what = What.DONE if fresh else What.REUSED
    Event(stage.name, what, seconds, step.key).append_to(work.out)
    return step


@contextmanager
def _noticing_signals() -> Iterator[None]:
    """Raise at the end what a signal raised where it was swallowed, as imports and callbacks do."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if seen:
        handle(seen[0], None)


def examine(work: Gathering, stage: Stage) -> None:
    """Check what a stage found, and write into the journal when it is not good enough.

    Raises:
        GateError: it is not.
    """
    if stage.check is None:
        return
    try:
        stage.check()
    except AdaptMRError as error:
        _failed(work, stage, error, 0.0)
        raise


def _unwritable(path: Path, error: OSError) -> BadInputError:
    return BadInputError(
        "the journal cannot be written",
        file=path,
        got=error.strerror,
        hint="Free some space; what is done is kept, and the same command continues",
    )


def _failed(work: Gathering, stage: Stage, error: Exception, seconds: float) -> None:
    ours = isinstance(error, AdaptMRError)
    name = type(error).__name__
    message = str(error) if ours else f"{name}: {error}"
    event = Event(
        stage.name, What.FAILED, round(seconds, 1), error=name if ours else "", message=message
    )
    event.append_to(work.out)
