"""How far a workflow is, on standard error: a tree on a terminal, plain lines in a log."""

import io
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from adaptmr.workflows.orchestration.journal import Event, Reader, What
from adaptmr.workflows.stages.gathering import Stage

LOG: Final = "log.txt"
_PAUSE: Final = 0.2
_LOOKS: Final = {
    None: ("·", "dim"),
    What.BEGUN: ("▸", "bold cyan"),
    What.DONE: ("✓", "green"),
    What.REUSED: ("✓", "dim green"),
    What.FAILED: ("✗", "bold red"),
    What.STOPPED: ("✗", "bold yellow"),
}


class _Lines(io.TextIOBase):
    """What stages tell of their progress: kept in a file, the last line shown."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self.last = ""

    def write(self, text: str) -> int:
        self._file.write(text)
        self._file.flush()
        self.last = next((line for line in reversed(text.splitlines()) if line.strip()), self.last)
        return len(text)

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        self._file.close()
        super().close()


class _Follower(threading.Thread):
    """Reads the journal along, and tells each event."""

    def __init__(self, stages: Sequence[Stage], reader: Reader) -> None:
        super().__init__(daemon=True)
        self.states: dict[str, Event] = {}
        self.begun: dict[str, float] = {}
        self._stages = stages
        self._reader = reader
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(_PAUSE):
            self.look()
        self.look()

    def end(self) -> None:
        self._ended.set()
        self.join()

    def look(self) -> None:
        for event in self._reader.read():
            self.states[event.stage] = event
            if event.what is What.BEGUN:
                self.begun[event.stage] = time.monotonic()
            self.tell(event)

    def tell(self, event: Event) -> None:
        """A line for each stage that ends."""
        if event.what is not What.BEGUN:
            ended = [one for one in self.states.values() if one.what is not What.BEGUN]
            place = f"[{len(ended)}/{len(self._stages)}]"
            told = "failed" if event.what is What.FAILED else _told(event)  # why is told at the end
            sys.stderr.write(f"{place} {event.stage}: {told}\n")


class _Drawn(_Follower):
    """Draws the tree in place of lines."""

    def __init__(
        self, stages: Sequence[Stage], reader: Reader, title: str, lines: _Lines, live: Live
    ) -> None:
        super().__init__(stages, reader)
        self._title, self._lines, self._live = title, lines, live

    def tell(self, event: Event) -> None:
        """The tree shows it."""

    def look(self) -> None:
        super().look()
        self._live.update(self._tree())

    def _tree(self) -> Tree:
        tree = Tree(Text(self._title, "bold"))
        for stage in self._stages:
            event = self.states.get(stage.name)
            mark, style = _LOOKS[None if event is None else event.what]
            line = Text(f"{mark} {stage.name}", style)
            if event is not None and event.what is What.BEGUN:
                seconds = time.monotonic() - self.begun[stage.name]
                line.append(f"  {seconds:.0f} s  {self._lines.last[:100]}", "dim")
            elif event is not None:
                line.append(f"  {_told(event)}", "dim")
            tree.add(line)
        return tree


def _told(event: Event) -> str:
    if event.what is What.FAILED:
        return f"failed: {event.message}"
    return event.what if event.what is What.REUSED else f"{event.what} in {event.seconds:.1f} s"


@contextmanager
def following(out: Path, title: str, stages: Sequence[Stage]) -> Iterator[None]:
    """Show how far the stages of a folder are while the block runs.

    Args:
        out: folder of the workflow.
        title: what is run.
        stages: all of them, in order.
    """
    reader = Reader(out)
    if not sys.stderr.isatty():
        follower = _Follower(stages, reader)
        follower.start()
        try:
            yield
        finally:
            follower.end()
        return
    console = Console(file=sys.stderr)
    with (
        _Lines(out / LOG) as lines,
        Live(console=console, redirect_stdout=False, redirect_stderr=False) as live,
        redirect_stderr(lines),
    ):
        drawn = _Drawn(stages, reader, title, lines, live)
        drawn.start()
        try:
            yield
        finally:
            drawn.end()
