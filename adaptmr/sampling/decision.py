"""`Decision`: the record of a choice of mask, and the line list that the scanner is given."""

import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

import adaptmr
from adaptmr.data.files import complete_file
from adaptmr.data.manifest import read_description
from adaptmr.sampling.mask import Mask

SCHEMA: Final = 1


class Decision(BaseModel):
    """Which mask a slice, or a volume, got, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = SCHEMA
    slice_index: int | None = Field(ge=0)
    """The slice within its scan, from 0; null where the choice is for all slices together."""
    index: int = Field(ge=0)
    """The mask chosen, from 0."""
    selector: str
    """Name of the rule that chose."""
    scores: tuple[float | None, ...]
    """Score of every mask under that rule, larger is better; null where it had none."""
    distances: tuple[float, ...] | None
    """Euclidean distance of the slice's uncertainty from every centroid; null where the
    uncertainty was not needed or not known."""
    others: dict[str, int] = Field(default_factory=dict)
    """What other rules on the same uncertainty would have chosen."""
    fallback: bool
    """Whether the rule could not judge the slice, so that it got the bank's fixed best mask."""
    reason: str | None
    """Why it could not, or how many slices of a volume could not be judged; null otherwise."""
    samples: int | None
    """Samples that the uncertainty was taken over."""
    rejected: int | None
    """Samples that were not finite or not plausible."""
    inputs: str
    """sha256 of the low-frequency data; of the positions acquired where those decided."""
    bank: str
    """Fingerprint of the bank."""
    mask: str
    """Fingerprint of the mask chosen."""
    sampler: str | None
    """Fingerprint of the sampler; null where none was used."""
    versions: dict[str, str]
    """Versions of what computed this."""
    latency_ms: float = Field(ge=0)
    """Low-frequency data in, decision out; not reproducible, unlike everything else here."""

    @property
    def choice(self) -> dict[str, object]:
        """Everything but the latency: what the same input always gives again."""
        return self.model_dump(exclude={"latency_ms"})


class ScanDecisions(BaseModel):
    """The choices of one scan, as they stand in ``decision.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA
    scan: str
    """Name of the scan's file."""
    decisions: tuple[Decision, ...]


def write_decisions(decisions: ScanDecisions, path: Path, *, overwrite: bool = False) -> None:
    """Write the choices of a scan as JSON.

    Raises:
        BadInputError: the file exists or cannot be written.
    """
    with complete_file(path, overwrite=overwrite) as partial:
        partial.write_text(decisions.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_decisions(path: Path) -> ScanDecisions:
    """Read what `write_decisions` wrote.

    Raises:
        BadInputError: the file is missing or holds something else.
    """
    return read_description(path, ScanDecisions, "a record of decisions")


@cache
def versions() -> dict[str, str]:
    """Versions of what a decision depends on."""
    return {
        "adaptmr": adaptmr.__version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
    }


def line_list(mask: Mask) -> str:
    """The positions to acquire as text, one a line, ascending, counted from 0.

    A column for a mask of lines, ``row column`` for a mask of points.
    """
    if mask.axes == 1:
        return "".join(f"{line}\n" for line in mask.lines())
    return "".join(f"{row} {column}\n" for row, column in np.argwhere(mask.positions))


def write_lines(mask: Mask, path: Path, *, overwrite: bool = False) -> None:
    """Write `line_list` to a file.

    Raises:
        BadInputError: the file exists or cannot be written.
    """
    with complete_file(path, overwrite=overwrite) as partial:
        partial.write_text(line_list(mask), encoding="ascii")
