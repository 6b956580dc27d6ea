"""What a sequence keeps of its subjects, and how one of them is erased."""

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from adaptmr.continual import replay_files
from adaptmr.continual.erasure import erase
from adaptmr.errors import BadInputError
from adaptmr.workflows.continual.run import LOCK, RECORD, REPORT
from adaptmr.workflows.continual.slices import PICTURES
from adaptmr.workflows.single_flight import single_flight


class KeptScan(BaseModel):
    """One scan in the buffer of a stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    """Folder of the stage within that of the sequence: pair and index."""
    task: str
    subject: str
    scan: str
    slices: int
    bytes: int


class Erased(BaseModel):
    """What an erasure did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: tuple[str, ...]
    """Those that held something of the subject."""
    removed: tuple[str, ...]
    """What was drawn and reported of all subjects; running the sequence again makes it anew."""


def kept_scans(out: Path) -> tuple[KeptScan, ...]:
    """What the buffers of all stages of a sequence hold.

    Raises:
        BadInputError: there are no stages, or a buffer is damaged.
    """
    _require_stages(out)
    return tuple(
        KeptScan(
            stage=folder.parent.relative_to(out).as_posix(),
            task=entry.task,
            subject=entry.subject,
            scan=entry.scan,
            slices=entry.slices,
            bytes=entry.bytes,
        )
        for folder in sorted(out.glob("*/*/buffer"))
        for entry in replay_files.load(folder).listing()
    )


def erase_subject(out: Path, subject: str) -> Erased:
    """Erase a subject from a sequence, see `adaptmr.continual.erasure.erase`.

    The record, the pictures and the report of the sequence are removed. The scans that it was
    trained on lie elsewhere and are not touched.

    Raises:
        BadInputError: there are no stages, or one is damaged.
        BusyError: another process runs, or erases from, this sequence.
    """
    _require_stages(out)
    with single_flight(out / LOCK, "this sequence of tasks"):
        stages = erase(out, subject)
        removed = [name for name in (RECORD, REPORT) if (out / name).exists()]
        for name in removed:
            (out / name).unlink()
        if (out / PICTURES).is_dir():
            shutil.rmtree(out / PICTURES)
            removed.append(PICTURES)
    return Erased(
        stages=tuple(folder.relative_to(out).as_posix() for folder in stages),
        removed=tuple(removed),
    )


def _require_stages(out: Path) -> None:
    if not any(out.glob("*/*/stage.json")):
        raise BadInputError(
            "the folder holds no sequence of tasks",
            file=out,
            hint="Name the folder that 'adaptmr continual run' wrote",
        )
