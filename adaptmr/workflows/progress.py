"""How far the work is, told on standard error: a bar on a terminal, plain lines in a log."""

import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

QUIET = 2.0
"""Work shorter than this, in seconds, leaves nothing on standard error."""
SHORTEST_PAUSE = 3.0
"""Seconds between two lines of a log, at least."""
LONGEST_PAUSE = 30.0
"""Seconds after which a log gets a line even when little was done."""
SHARE = 0.1
"""Share of the work after which a log gets a line."""


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """The items one by one, with the progress on standard error.

    On a terminal a bar is drawn, which goes away again when the work was short; elsewhere lines
    with the count, the elapsed and the remaining time are written, every tenth of the work but
    not more often than every few seconds. Nothing is ever written to standard output.

    Args:
        items: what is worked on.
        description: what is done with them, for example ``reconstructing``.
        total: number of items; their length when they have one.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        return _on_terminal(items, description, total)
    return _in_log(items, description, total)


def _on_terminal(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        redirect_stdout=False,  # what is printed during the work is a result, not progress
    )
    start = monotonic()
    with bar:
        try:
            yield from bar.track(items, total=total, description=description)
        finally:
            bar.live.transient = monotonic() - start < QUIET


def _in_log(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    start = told = monotonic()
    told_count = count = 0
    for count, item in enumerate(items, start=1):
        yield item
        now = monotonic()
        last = count == total
        enough = total is not None and count - told_count >= SHARE * total
        pause = SHORTEST_PAUSE if enough else LONGEST_PAUSE
        if now - start >= QUIET and (last or now - told >= pause):
            _say(_line(description, count, total, now - start))
            told, told_count = now, count
    if count != told_count and monotonic() - start >= QUIET:
        _say(_line(description, count, total, monotonic() - start))


def _line(description: str, count: int, total: int | None, elapsed: float) -> str:
    if total is None:
        return f"{description}: {count}, {_time(elapsed)}"
    share = f"{100 * count // total} %" if total else "100 %"
    line = f"{description}: {count}/{total} ({share}), {_time(elapsed)}"
    return line + (f", {_time(elapsed / count * (total - count))} left" if count < total else "")


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02} min"


@contextmanager
def stage(description: str) -> Iterator[None]:
    """Tell on standard error that a step begins, and how long it took when it ends."""
    start = monotonic()
    _say(f"{description} ...")
    try:
        yield
    except BaseException:
        _say(f"{description} ... failed after {_time(monotonic() - start)}")
        raise
    _say(f"{description} ... done in {_time(monotonic() - start)}")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
