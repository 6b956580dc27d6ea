"""Which subject is for what: told by a hash of the subject alone, so that it never changes.

Subjects that are added later move nobody from one part to another: what a bank is tested on today
was never trained on before, nor will be.
"""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from adaptmr.errors import BadInputError
from adaptmr.workflows.stages.ingest import Stored

_DIGITS = 13
"""Hexadecimal digits of a hash that a number of double precision holds."""


class Part(StrEnum):
    """What a subject is for; the names of folders too."""

    TRAIN = "train"
    CALIBRATION = "calibration"
    TEST = "test"


class SplitConfig(BaseModel):
    """Shares of the subjects, on average; the rest is trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calibration: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Intervals are calibrated on them."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Sealed: gates and benchmarks look at them, nothing else does."""
    seed: NonNegativeInt = 0
    """Another one makes other parts, which must not be compared with those of this one."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.calibration + self.test >= 1:
            raise ValueError("nobody is left to train on")
        return self


def part_of(subject: str, config: SplitConfig) -> Part:
    """The part of a subject."""
    digest = hashlib.sha256(f"{config.seed}:{subject}".encode()).hexdigest()
    place = int(digest[:_DIGITS], 16) / 16**_DIGITS
    if place < config.test:
        return Part.TEST
    return Part.CALIBRATION if place < config.test + config.calibration else Part.TRAIN


def split(scans: Iterable[Stored], config: SplitConfig) -> dict[Part, tuple[Stored, ...]]:
    """The scans of each part.

    Raises:
        BadInputError: a part that is asked for has no subject.
    """
    parts: dict[Part, list[Stored]] = {part: [] for part in Part}
    for scan in scans:
        parts[part_of(scan.subject, config)].append(scan)
    wanted = {Part.TRAIN: True, Part.CALIBRATION: config.calibration > 0, Part.TEST: True}
    for part, needed in wanted.items():
        if needed and not parts[part]:
            subjects = len({scan.subject for scans in parts.values() for scan in scans})
            raise BadInputError(
                "there are too few subjects to split",
                field=f"split.{part}",
                got=f"none of {subjects} subjects",
                expected="at least one",
                hint="Add subjects; each is put by a hash of its key, so a share is met on average",
            )
    return {part: tuple(found) for part, found in parts.items()}
