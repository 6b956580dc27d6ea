"""Named moments of a change of the registry, at which tests pull the plug."""

import os
import signal
from enum import StrEnum
from typing import Final

VARIABLE: Final = "ADAPTMR_KILL_AT"
"""Environment variable that names the moment at which the process kills itself."""


class Point(StrEnum):
    """The moments, in their order."""

    LOCKED = "locked"
    """The lock is held; nothing is written."""
    COPIED = "copied"
    """All files of a version lie in a temporary folder."""
    COMPLETE = "complete"
    """The version has its final name; the log does not know it."""
    HALF_LOGGED = "half-logged"
    """Half a line of the log is written."""
    LOGGED = "logged"
    """The log has the change; the aliases are those from before."""
    ALIASED = "aliased"
    """The aliases have changed; the command has not told so."""
    PRUNING = "pruning"
    """The log has the removal; the files of the bank are there."""


def point(name: Point, of: str = "") -> None:
    """Kill this process without warning, if the environment asks for it at this moment.

    Args:
        name: the moment.
        of: what is written to the log, where that is what happens: the variable holds both then,
            as in ``logged promoted``.
    """
    if os.environ.get(VARIABLE) == f"{name} {of}".rstrip():
        os.kill(os.getpid(), signal.SIGKILL)
