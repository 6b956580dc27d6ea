"""The gate report as a page for people."""

from pathlib import Path

from adaptmr.workflows.gates.config import Verdict
from adaptmr.workflows.gates.result import Gate, GateReport
from adaptmr.workflows.report import Column, Report, Row, Section, Table, Text, facts, write_report

_SAID = {
    Verdict.PASS: "The candidate passes all gates.",
    Verdict.REVIEW: "A person has to review the candidate.",
    Verdict.FAIL: "The candidate fails; the bank that serves stays.",
}


def write_page(found: GateReport, path: Path, *, overwrite: bool = False) -> None:
    """Write a gate report as one HTML file.

    Raises:
        BadInputError: the file exists, or cannot be written.
    """
    write_report(_page(found), path, overwrite=overwrite)


def _page(found: GateReport) -> Report:
    columns = (
        Column("Verdict"),
        Column("Where"),
        Column("Subjects"),
        Column("Found", digits=4),
        Column("Limit", digits=4),
        Column("To spare", digits=4),
        Column("Reason"),
    )
    sections = []
    for gate in Gate:
        mine = [check for check in found.checks if check.gate is gate]
        if not mine:
            continue
        rows = tuple(
            Row(
                (
                    check.verdict.upper(),
                    check.where,
                    check.subjects,
                    check.value,
                    check.limit,
                    check.spare,
                    check.reason,
                )
            )
            for check in sorted(mine, key=lambda check: -check.verdict.severity)
        )
        sections.append(Section(gate.capitalize(), (Table("", columns, rows),)))
    reasons = found.reasons
    if reasons:
        sections.insert(0, Section("Why", (Text("", reasons),)))
    identity = {
        "candidate": found.candidate,
        "champion": found.champion or "none served",
        "gate configuration": found.config,
        "evidence": found.evidence,
    }
    verdict = f"{found.verdict.upper()}. {_SAID[found.verdict]}"
    if found.approvals and found.verdict is not Verdict.FAIL:
        verdict += f" {found.approvals} persons have to approve it before it serves."
    return Report("Gates", verdict, (*sections, facts("Identity (sha256)", identity)))
