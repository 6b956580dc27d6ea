"""What is known of a bank when it comes to the gates: scores of every case, as values."""

import hashlib
import json
from enum import StrEnum
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA: Final = 1


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Better(StrEnum):
    """Which values of a metric are better."""

    HIGHER = "higher"
    LOWER = "lower"

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1: a value times this is larger where it is better."""
        return 1 if self is Better.HIGHER else -1


class CaseValue(_Value):
    """One number of one test case."""

    case: str
    """Key of the scan, of its content: what pairs the values of two banks."""
    subject: str
    """Pseudonymous key of the subject; a subject may have several cases."""
    strata: tuple[str, ...]
    """The groups that the case belongs to, for example its contrast and its number of coils."""
    value: float | None
    """Null where it was not finite or could not be computed."""


class Measurement(_Value):
    """A metric of a task over all cases."""

    task: str
    metric: str
    better: Better
    protocol: str | None = None
    """The definition of the metric, where it has a named one."""
    values: tuple[CaseValue, ...]


class Intervals(_Value):
    """What the intervals of a bank do on the cases of a task."""

    task: str
    nominal: float = Field(gt=0, lt=1)
    """The share of pixels that the bank promises to cover."""
    coverage: tuple[CaseValue, ...]
    """Share of pixels covered."""
    width: tuple[CaseValue, ...]
    """Mean width, as share of the mean signal."""


class Evidence(_Value):
    """All that the gates are told of one bank."""

    schema_version: Literal[1] = SCHEMA
    bank: str
    """Fingerprint of the bank."""
    data: dict[str, str]
    """sha256 of the test data of each task: candidate and champion need equal ones."""
    measurements: tuple[Measurement, ...]
    intervals: tuple[Intervals, ...] = ()
    residuals: tuple[Measurement, ...] = ()
    """Data-consistency residual, ``||M F S x - y|| / ||y||``, of each task."""
    trained_on: tuple[str, ...] = ()
    """Test subjects that the bank was made from: there should be none."""
    seconds_per_slice: float | None = None
    """Median over the cases; depends on the machine, and is no part of the identity."""

    @property
    def identity(self) -> str:
        """sha256 of everything but the time that it took."""
        told = self.model_dump(mode="json", exclude={"seconds_per_slice"})
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
