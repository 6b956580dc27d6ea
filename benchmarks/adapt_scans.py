"""The scans of `adapt.py`: of one source, and of what it shifts to; no subject is in two parts."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from cohorts import participants

from adaptmr.data.anatomy.signal import Contrast
from adaptmr.data.fastmri import read_scan, write_scan
from adaptmr.data.scan import Scan
from adaptmr.data.simulation import SimulationConfig, simulate_scan

SIZE, SLICES = 48, 2


class Kind(StrEnum):
    """Where scans are from."""

    SOURCE = "source"
    SITE = "site"
    CONTRAST = "contrast"


SCANNERS: dict[Kind, dict[str, Any]] = {
    Kind.SOURCE: {"coils": 4, "snr": 30.0, "field_strength": 3.0},
    Kind.SITE: {"coils": 8, "snr": 10.0, "field_strength": 1.5},
    Kind.CONTRAST: {"coils": 4, "snr": 30.0, "field_strength": 3.0},
}


def volumes(data: Path, part: str) -> list[tuple[str, str]]:
    """(subject, first part of file names): half of the training subjects, the others, or tests."""
    if part == "test":
        return list(participants(data / "brains", "test"))
    entries = list(participants(data / "brains", "train"))
    names = list(dict.fromkeys(subject for subject, _ in entries))
    source = set(names[: len(names) // 2])
    if part == "source":
        return [entry for entry in entries if entry[0] in source]
    others = [entry for entry in entries if entry[0] not in source]
    return others + list(participants(data / "brains", "calibration"))


def simulated(data: Path, work: Path, kind: Kind, part: str, count: int | None) -> list[Scan]:
    """Scans of a part, subjects in turn, so that few scans are of as many subjects as can be."""
    folder = work / "scans" / f"{kind}-{part}"
    entries = volumes(data, part)
    by_subject: dict[str, list[str]] = {}
    for subject, stem in entries:
        by_subject.setdefault(subject, []).append(stem)
    turns = [
        (subject, stems[turn % len(stems)])
        for turn in range(-(-(count or 0) // len(by_subject)))
        for subject, stems in by_subject.items()
    ]
    suffix = "tissue" if kind is Kind.CONTRAST else "T1w"
    contrast = Contrast.T2 if kind is Kind.CONTRAST else None
    found = []
    for number, (subject, stem) in enumerate(turns[:count] if count else entries):
        file = folder / f"{number:03d}_{subject}.h5"
        if not file.exists():
            config = SimulationConfig(
                seed=list(Kind).index(kind) + 10 * len(part),
                anatomy=(data / "brains" / f"{stem}_{suffix}.nii.gz",),
                matrix=(SIZE, SIZE),
                slices=SLICES,
                **SCANNERS[kind],
            )
            scan, _ = simulate_scan(config, number, contrast)
            header = scan.header.model_copy(update={"subject": subject})
            write_scan(replace(scan, name=file.name, header=header), file, overwrite=True)
        found.append(read_scan(file))
    return found
