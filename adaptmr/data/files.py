"""Outputs that appear complete or not at all."""

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adaptmr.errors import BadInputError


def require_absent(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists, for work that is long: what writes it checks again.

    Raises:
        BadInputError: it exists, and may not be replaced.
    """
    if path.exists() and not overwrite:
        raise BadInputError(
            "the output exists already",
            file=path,
            hint="Choose another name, or allow it to be replaced with --overwrite",
        )


def _prepare(path: Path, overwrite: bool) -> None:
    require_absent(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> BadInputError:
    return BadInputError(
        "the output cannot be written",
        file=path,
        got=error.strerror or str(error),
        hint="Choose a folder with room that you may write to",
    )


def _prefix(name: str) -> str:
    """How the names of the temporary folders of an output begin."""
    return f".{name[:40]}."


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def complete_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes the final name only if the block succeeds.

    Args:
        path: final name; its folder is made when missing.
        overwrite: whether an existing file may be replaced (in one step, at the end).

    Raises:
        BadInputError: the output exists, or cannot be written.
    """
    _prepare(path, overwrite)
    try:
        with tempfile.TemporaryDirectory(prefix=_prefix(path.name), dir=path.parent) as folder:
            partial = Path(folder) / path.name
            yield partial
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
            partial.replace(path)
            _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def complete_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it takes the final name only on success.

    Args:
        path: final name; its parent is made when missing.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the output exists, or cannot be written.
    """
    _prepare(path, overwrite)
    try:
        with tempfile.TemporaryDirectory(prefix=_prefix(path.name), dir=path.parent) as folder:
            partial = Path(folder) / "new"
            partial.mkdir()
            yield partial
            if path.exists():
                path.rename(Path(folder) / "old")
            partial.rename(path)
            _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def clear_left_over(folder: Path, name: str | None = None) -> None:
    """Remove what writers that were killed left half written in a folder.

    Args:
        folder: the folder; nobody else may be writing the same into it.
        name: of the output that was written; any when not given.
    """
    for left in folder.glob(".*.*" if name is None else f"{glob.escape(_prefix(name))}*"):
        shutil.rmtree(left, ignore_errors=True)


def require_room(folder: Path, needed: int) -> None:
    """Refuse early when a volume of ``needed`` bytes cannot fit below ``folder``.

    Raises:
        BadInputError: the file system has less room.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise BadInputError(
            "the disk has not enough room for the output",
            file=folder,
            got=f"{free:,} bytes free",
            expected=f"{needed:,} bytes",
            hint="Free some space or choose another folder",
        )
