"""All gates at once: evidence in, report out."""

from collections.abc import Sequence

from adaptmr.workflows.gates import checks
from adaptmr.workflows.gates.config import GateConfig, Verdict
from adaptmr.workflows.gates.evidence import Evidence
from adaptmr.workflows.gates.integrity import integrity
from adaptmr.workflows.gates.result import Check, GateReport


def judge(
    config: GateConfig,
    candidate: Evidence,
    champion: Evidence | None,
    history: Sequence[Evidence] = (),
) -> GateReport:
    """Whether a candidate may take the champion's place.

    Where no bank serves yet, only what needs no comparison is checked. Nothing is compared when
    the integrity fails: the numbers would mean nothing.

    Args:
        config: what has to hold.
        candidate: what is known of the candidate.
        champion: the same of the bank that serves, on the same cases; None where none does.
        history: of the banks that served before, for what was forgotten step by step.
    """
    found: list[Check] = [*integrity(config, candidate, champion)]
    if all(check.verdict is Verdict.PASS for check in found):
        found += checks.floors(config, candidate)
        if champion is not None:
            found += checks.non_inferiority(config, candidate, champion)
            found += checks.benefit(config, candidate, champion)
            found += checks.worst_deciles(config, candidate, champion)
            found += checks.residuals(config, candidate, champion)
        found += checks.forgetting(config, candidate, history)
        found += checks.intervals(config, candidate, champion)
        found += checks.latency(config, candidate)
    return GateReport(
        candidate=candidate.bank,
        champion=None if champion is None else champion.bank,
        config=config.fingerprint,
        approvals=config.approvals,
        evidence=candidate.identity,
        checks=tuple(found),
    )
