"""The card of a version: what a person reads before the bank is used."""

from collections.abc import Mapping

from pydantic import JsonValue

from adaptmr.workflows.gates.comparison import by_subject, numbers, strata
from adaptmr.workflows.gates.evidence import Evidence
from adaptmr.workflows.gates.result import GateReport


def card(
    name: str, gates: GateReport, evidence: Evidence, provenance: Mapping[str, JsonValue]
) -> str:
    """The text, Markdown.

    Args:
        name: of the version.
        gates: what the gates said.
        evidence: its scores.
        provenance: what it comes from.
    """
    lines = [
        f"# Bank version {name}",
        "",
        "For research use; not a medical device.",
        "",
        f"Gates: **{gates.verdict.upper()}**, compared with"
        f" {gates.champion[:16] if gates.champion else 'no earlier bank'}.",
        *(f"- {reason}" for reason in gates.reasons),
        "",
        "## Scores",
        "",
        "| task | stratum | subjects | metric | mean | protocol |",
        "|---|---|---|---|---|---|",
    ]
    for one in evidence.measurements:
        for stratum in strata(one.values):
            subjects, values = numbers(one.values, stratum)
            if values:
                means = by_subject(subjects, values)
                lines.append(
                    f"| {one.task} | {stratum} | {len(means)} | {one.metric} |"
                    f" {float(means.mean()):.4g} | {one.protocol or '-'} |"
                )
    lines += ["", "## Where it comes from", ""]
    lines += [f"- {key}: `{value}`" for key, value in sorted(provenance.items())] or ["- unknown"]
    return "\n".join(lines) + "\n"
