"""What all commands share: options, JSON, errors in one line."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel

from adaptmr.errors import AdaptMRError, BadInputError

Result = TypeVar("Result")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write into.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, ...")]


def example(command: str) -> str:
    """The last line of a command's help."""
    return f"Example: [bold]{command}[/bold]"


def print_json(value: BaseModel | dict[str, Any]) -> None:
    """Print what ``--json`` promises: one JSON object."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    typer.echo(json.dumps(plain, indent=2, allow_nan=False))


def complain(error: AdaptMRError) -> None:
    """Tell an error in one line."""
    typer.echo(f"adaptmr: {error}", err=True)


def for_each(
    paths: Iterable[Path], work: Callable[[Path], Result]
) -> tuple[list[Result], list[str]]:
    """Work on every path; a bad one is told and passed over, the others are still done."""
    done: list[Result] = []
    errors: list[str] = []
    for path in paths:
        try:
            done.append(work(path))
        except BadInputError as error:
            complain(error)
            errors.append(str(error))
    return done, errors


def finish(errors: list[str]) -> None:
    """End with the exit code of bad input if something was passed over."""
    if errors:
        raise typer.Exit(BadInputError.exit_code)
