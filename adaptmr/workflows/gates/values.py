"""Numbers of test cases as they stand in evidence: by hashes, so that nobody is named."""

import hashlib
import json
from collections.abc import Sequence
from typing import Final

from adaptmr.data.scan import Scan
from adaptmr.reconstruction.bank.inference import stratum
from adaptmr.reconstruction.training.cohort import subject_of
from adaptmr.workflows.gates.evidence import CaseValue

LENGTH: Final = 12
"""Characters of a hash that stand for a scan or a subject."""


def case_value(scan: Scan, case: str, value: float | None) -> CaseValue:
    """A number of a scan, in the strata that the scan is of."""
    field = scan.header.field_strength
    return CaseValue(
        case=case,
        subject=key(subject_of(scan)),
        strata=(
            stratum(scan.header),
            f"{scan.coils} coils",
            *(() if field is None else (f"{field:g} T",)),
        ),
        value=value,
    )


def key(name: str) -> str:
    """A name as it may stand in records: a file may be named after a person."""
    return hashlib.sha256(name.encode()).hexdigest()[:LENGTH]


def digest(cases: Sequence[str]) -> str:
    """sha256 of all that scores are of, in whatever order."""
    return hashlib.sha256(json.dumps(sorted(cases)).encode()).hexdigest()
