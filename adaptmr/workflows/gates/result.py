"""What the gates found: every check with its number, its limit and its reason."""

from enum import StrEnum
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from adaptmr.workflows.gates.config import Verdict

SCHEMA: Final = 1
ALL: Final = "all"
"""The stratum of all cases."""


class Gate(StrEnum):
    """The gates, in the order of a report."""

    INTEGRITY = "integrity"
    FLOOR = "absolute floor"
    NON_INFERIORITY = "non-inferiority"
    BENEFIT = "benefit"
    WORST_DECILE = "worst decile"
    FORGETTING = "forgetting"
    COVERAGE = "coverage"
    WIDTH = "interval width"
    RESIDUAL = "data-consistency residual"
    LATENCY = "latency"


class Check(BaseModel):
    """One check."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    gate: Gate
    verdict: Verdict
    task: str | None = None
    metric: str | None = None
    stratum: str | None = None
    subjects: int | None = None
    value: float | None = None
    """What was found."""
    limit: float | None = None
    """What it is held against."""
    spare: float | None = None
    """By how much it passes; negative: by how much it fails."""
    reason: str

    @property
    def where(self) -> str:
        """Task, metric and stratum."""
        return ", ".join(part for part in (self.task, self.metric, self.stratum) if part)


class GateReport(BaseModel):
    """The outcome of all gates for one candidate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA
    candidate: str
    """Fingerprint of the candidate bank."""
    champion: str | None
    """Fingerprint of the bank it was compared with; null where none served."""
    config: str
    """Fingerprint of the gate configuration."""
    approvals: int
    """Persons that the configuration asks for."""
    evidence: str
    """Identity of what is known of the candidate."""
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the checks; PASS needs at least one."""
        if not self.checks:
            return Verdict.FAIL
        return max((check.verdict for check in self.checks), key=lambda one: one.severity)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not PASS: the reasons of the failed checks, then of those to review."""
        worst_first = sorted(self.checks, key=lambda check: -check.verdict.severity)
        return tuple(
            f"{check.gate} ({check.where}): {check.reason}" if check.where else check.reason
            for check in worst_first
            if check.verdict is not Verdict.PASS
        )
