"""The demonstration: scans in, one report out."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from adaptmr.data.files import complete_folder
from adaptmr.data.scan import Scan
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.workflows.banks import open_bank
from adaptmr.workflows.demo.classical import classical_part
from adaptmr.workflows.demo.comparison import compare
from adaptmr.workflows.demo.part import DemoRow, Part
from adaptmr.workflows.demo.report import bank_part
from adaptmr.workflows.demo.scans import described, opened_scans, simulated_scans, unfit
from adaptmr.workflows.environment import environment
from adaptmr.workflows.reconstruction import scan_files
from adaptmr.workflows.report import Report, data_section, facts, write_report

REPORT = "report.html"


class DemoResult(BaseModel):
    """What the demonstration found, and where its report is."""

    model_config = ConfigDict(frozen=True)

    report: Path
    verdict: str
    rows: tuple[DemoRow, ...]


def run_demo(
    out: Path,
    *,
    scans: Sequence[Path] = (),
    seed: int = 0,
    bank: Path | None = None,
    overwrite: bool = False,
) -> DemoResult:
    """Let a bank choose masks and reconstruct, and compare it with what does without.

    Args:
        out: folder for ``report.html``, and ``scans`` where they are simulated; appears complete
            at the end.
        scans: fully sampled scans; simulated ones of unseen subjects when none. Those that the
            bank does not fit are reconstructed by classical methods.
        seed: of the simulation.
        bank: folder of the bank; the shipped one when not given.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: a scan or the bank cannot be used, or the output exists or cannot be written.
        UsageError: no bank is named, and none is shipped.
    """
    opened, fingerprint = open_bank(bank)
    files = scan_files(scans) if scans else []
    with complete_folder(out, overwrite=overwrite) as folder:
        shown = (
            opened_scans(files) if files else simulated_scans(folder / "scans", opened.masks, seed)
        )
        origin = "your own" if files else "simulated, which the bank has not seen"
        parts = _parts(opened, fingerprint, shown, origin)
        verdict = " ".join(part.verdict for part in parts)
        report = Report(
            "adaptmr demonstration",
            verdict,
            (
                *(section for part in parts for section in part.sections),
                data_section(described(shown, origin), []),
                facts("Software and hardware", environment()),
            ),
        )
        write_report(report, folder / REPORT)
    rows = tuple(row for part in parts for row in part.rows)
    return DemoResult(report=out / REPORT, verdict=verdict, rows=rows)


def _parts(
    bank: ReconstructionBank, fingerprint: str, scans: Sequence[Scan], origin: str
) -> list[Part]:
    """One for the scans that the bank fits, one for the others."""
    why = {scan.name: reason for scan in scans if (reason := unfit(scan, bank.masks)) is not None}
    fit = [scan for scan in scans if scan.name not in why]
    others = [scan for scan in scans if scan.name in why]
    parts = [bank_part(compare(bank, fit), fingerprint, origin)] if fit else []
    return parts + ([classical_part(why, others)] if others else [])
