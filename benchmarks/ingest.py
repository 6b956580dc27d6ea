"""How memory goes while many volumes are ingested, and what is left out.

Volumes of simulated heads are written, copies of a few with noise of their own; of every twenty one
is damaged: truncated, with a value that is not finite, undersampled, or no scan at all. One ingest
takes them in; the resident memory of the process is read after every volume.

    OMP_NUM_THREADS=1 python benchmarks/ingest.py --volumes 1000 --json FILE
"""

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from adaptmr.data.fastmri import write_scan
from adaptmr.data.scan import Scan, Stack
from adaptmr.data.simulation import SimulationConfig, simulate_scan
from adaptmr.workflows.environment import environment
from adaptmr.workflows.stages import ingest as stage
from adaptmr.workflows.stages import ledger

MIB = 2**20
CONFIG = SimulationConfig(subjects=4, seed=5, matrix=(96, 96), slices=8, coils=4)
BAD_OF = 20
"""One of so many files is bad."""
WARM = 0.1
"""Share of the volumes after which memory is to be flat."""


def resident() -> float:
    """Resident memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def noisy(scan: Scan, number: int) -> Scan:
    """A volume of its own, of a subject of its own."""
    generator = torch.Generator().manual_seed(number)
    kspace = scan.kspace[:]
    noise = torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
    header = scan.header.model_copy(update={"subject": f"subject-{number}"})
    changed = kspace + 0.01 * kspace.abs().mean() * noise
    return replace(scan, kspace=Stack.of(changed), header=header)


def damage(file: Path, kind: int) -> None:
    """Make a file bad, in one of four ways."""
    if kind == 0:
        with file.open("r+b") as stream:
            stream.truncate(file.stat().st_size // 2)
    elif kind == 1:
        with h5py.File(file, "a") as opened:
            opened["kspace"][3, 1, 5, 7] = np.inf
    elif kind == 2:
        with h5py.File(file, "a") as opened:
            opened["mask"] = np.arange(CONFIG.matrix[1]) % 2 == 0
    else:
        file.write_bytes(b"a letter, not a scan")


def written(folder: Path, volumes: int) -> int:
    """Write the volumes; how many of them are bad."""
    scans = [simulate_scan(CONFIG, number)[0] for number in range(CONFIG.subjects)]
    bad = 0
    for number in range(volumes):
        file = folder / f"{number:05}.h5"
        write_scan(noisy(scans[number % len(scans)], number), file)
        if number % BAD_OF == BAD_OF - 1:
            damage(file, bad % 4)
            bad += 1
    return bad


def measured(folder: Path, store: Path) -> dict[str, Any]:
    """One ingest, with the memory after every volume."""
    levels: list[float] = []
    append = ledger.append

    def watched(*given: Any) -> None:
        append(*given)
        levels.append(resident())

    stage.append = watched  # type: ignore[attr-defined]
    begun = time.monotonic()
    found = stage.ingest([folder], store)
    seconds = time.monotonic() - begun
    again = time.monotonic()
    looked_at = stage.ingest([folder], store).new
    listed = json.loads((store / stage.QUARANTINE).read_text())
    warm = levels[int(WARM * len(levels)) :]
    slope = float(np.polyfit(np.arange(len(warm)), warm, 1)[0])
    return {
        "volumes": len(levels),
        "volume_mib": round(8 * np.prod((CONFIG.slices, CONFIG.coils, *CONFIG.matrix)) / MIB, 2),
        "taken_in": len(found.scans),
        "quarantined": found.quarantined,
        "reasons": dict(Counter(one["reason"].split(" (")[0] for one in listed).most_common()),
        "resident_mib": {
            "after_the_first": round(levels[0], 1),
            "after_warm_up": round(warm[0], 1),
            "peak": round(max(levels), 1),
            "last": round(levels[-1], 1),
            "grown_per_100_volumes": round(100 * slope, 3),
        },
        "seconds": round(seconds, 1),
        "seconds_of_a_second_ingest": round(time.monotonic() - again, 1),
        "looked_at_by_a_second_ingest": looked_at,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingest.") as name:
        folder = Path(name)
        bad = written(folder / "incoming", options.volumes)
        row = {**measured(folder / "incoming", folder / "store"), "bad": bad}
    print(json.dumps(row, indent=1))
    if options.json:
        found = {"benchmark": "ingest", "rows": [row], "environment": environment()}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
