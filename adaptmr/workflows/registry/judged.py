"""What `adaptmr registry gate` leaves for `adaptmr registry register`: a folder of three files."""

from pathlib import Path
from typing import Final

from adaptmr.data.files import complete_folder
from adaptmr.data.manifest import read_description
from adaptmr.workflows.gates.evidence import Evidence
from adaptmr.workflows.gates.page import write_page
from adaptmr.workflows.gates.result import GateReport

_EVIDENCE: Final = "evidence.json"
_GATES: Final = "gates.json"
_PAGE: Final = "gates.html"


def write_judged(
    folder: Path, evidence: Evidence, report: GateReport, *, overwrite: bool = False
) -> None:
    """Write evidence and report, and the report as a page.

    Raises:
        BadInputError: the folder exists, or cannot be written.
    """
    with complete_folder(folder, overwrite=overwrite) as partial:
        for name, value in ((_EVIDENCE, evidence), (_GATES, report)):
            text = value.model_dump_json(indent=1) + "\n"
            (partial / name).write_text(text, encoding="utf-8")
        write_page(report, partial / _PAGE)


def read_judged(folder: Path) -> tuple[Evidence, GateReport]:
    """Read what `write_judged` wrote.

    Raises:
        BadInputError: it is missing, or something else.
    """
    return (
        read_description(folder / _EVIDENCE, Evidence, "what is known of a candidate"),
        read_description(folder / _GATES, GateReport, "a gate report"),
    )
