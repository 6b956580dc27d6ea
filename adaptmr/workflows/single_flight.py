"""One at a time: the second process that wants to do the same thing is told so at once."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adaptmr.errors import BadInputError, BusyError


@contextmanager
def single_flight(lock: Path, what: str) -> Iterator[None]:
    """Keep other processes out while the block runs; a process that is killed leaves it free.

    Args:
        lock: file that stands for the work; made when missing, and never removed, since a name
            that comes and goes could be locked twice.
        what: what is done, for the message: "a retraining".

    Raises:
        BusyError: another process is at it.
        BadInputError: the file cannot be made.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        stream = lock.open("a+")
    except OSError as error:
        raise BadInputError("the lock cannot be made", file=lock, got=error.strerror) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise BusyError(
                f"another process is at {what}",
                file=lock,
                got=f"process {stream.read().strip() or 'unknown'}",
                hint="Wait until it is done; nothing was changed",
            ) from error
        # Who holds it is told as far as there is room; the lock itself needs none.
        try:
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
        except OSError:
            pass
        yield
