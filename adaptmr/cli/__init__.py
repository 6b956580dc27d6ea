"""The command line: parse, call, print."""

import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

# Read when torch is loaded. Threads that wait by spinning make everything ten times slower and more
# as soon as another process wants one of the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from adaptmr import __version__
from adaptmr.cli import (
    adaptation,
    benchmark,
    continual,
    reconstruction,
    registry,
    sampling,
    scans,
    schedule,
    training,
    workflow,
)
from adaptmr.cli.shared import complain
from adaptmr.errors import AdaptMRError

app = typer.Typer(
    name="adaptmr",
    help="Adaptive MR acquisition, and reconstruction by networks that keep learning.",
    epilog="Start with: [bold]adaptmr demo --out demo[/bold]",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for room in (scans, reconstruction, training, adaptation, sampling, benchmark, workflow):
    app.add_typer(room.commands)
app.add_typer(continual.commands, name="continual")
app.add_typer(registry.commands, name="registry")
app.add_typer(schedule.commands, name="schedule")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - a handler's shape
    typer.echo("adaptmr: interrupted; nothing incomplete is left under a final name", err=True)
    raise SystemExit(128 + number)


def main() -> None:
    """Entry point of the ``adaptmr`` command."""
    # A scheduler's SIGTERM and Ctrl-C both unwind, so that temporary files are removed.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except AdaptMRError as error:
        complain(error)
        sys.exit(error.exit_code)
