"""How fast a bank reconstructs many slices, and whether memory stays flat meanwhile.

One scan of as many slices as asked for goes through `ReconstructionBank.reconstruct` of the shipped
bank: the choice for all slices first, then images and bounds, read slice by slice. Its k-space lies
in simulated files of unseen subjects, which another process wrote, and is read as it is asked for.
Resident memory is sampled at every such read and after every slice.

    OMP_NUM_THREADS=1 python benchmarks/bank_throughput.py --json FILE
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaptmr.data.doors import open_scan
from adaptmr.data.scan import Scan, Stack
from adaptmr.sampling.bank import MaskBank
from adaptmr.workflows.banks import open_bank
from adaptmr.workflows.demo.scans import UNSEEN
from adaptmr.workflows.environment import environment
from adaptmr.workflows.progress import track
from adaptmr.workflows.reconstruction import scan_files

MIB = 2**20
PER_SUBJECT = 20
"""Slices of one simulated subject."""
WARM = 0.25
"""Share of the samples of the choice, and of the reconstruction, after which memory is flat."""


def resident() -> float:
    """Resident memory of this process in MiB; Linux only."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def growth(samples: Sequence[float]) -> float:
    """By how much the peak of samples of memory exceeds that of the first of them."""
    return max(samples) - max(samples[: max(1, round(WARM * len(samples)))])


def simulated(folder: Path, masks: MaskBank, subjects: int) -> list[Path]:
    """Files of unseen subjects, written by another process: its memory is not ours."""
    rows, columns = masks.matrix
    options = {
        "--subjects": subjects,
        "--slices": PER_SUBJECT,
        "--seed": UNSEEN,
        "--coils": min(masks.coils, default=4),
        "--contrast": "T2",
        "--out": folder,
    }
    given = [str(part) for option in options.items() for part in option]
    command = [sys.executable, "-m", "adaptmr.cli", "simulate", *given, "--matrix"]
    command += [str(rows), str(columns)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - this package
    return scan_files([folder])


def joined(scans: Sequence[Scan], slices: int, memory: list[float]) -> Scan:
    """The slices of scans one after another, again from the first where they end, as one scan.

    Each is read from its file when it is asked for, and memory is sampled then.
    """
    places = [(scan, index) for scan in scans for index in range(scan.slices)]

    def read(start: int, stop: int) -> Tensor:
        memory.append(resident())
        asked = [places[index % len(places)] for index in range(start, stop)]
        return torch.stack([scan.kspace[index] for scan, index in asked])

    kspace = Stack((slices, *scans[0].kspace.shape[1:]), read)
    return replace(scans[0], kspace=kspace, target=None)


def measured(slices: int, subjects: int, batch_size: int) -> dict[str, Any]:
    """The one row."""
    bank, _ = open_bank()
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        files = simulated(Path(name), bank.masks, subjects)
        scan = joined([open_scan(file) for file in files], slices, memory)
        before = resident()
        begun, busy = time.perf_counter(), time.process_time()
        done = bank.reconstruct(scan, batch_size=batch_size)
        chosen, samples = time.perf_counter(), len(memory)
        shown = 0
        for parts in track(done.slices(), "reconstructing", slices):
            shown += bool(parts["reconstruction"].max() > 0)
            memory.append(resident())
        ended, busy = time.perf_counter(), time.process_time() - busy
    size = scan.kspace.shape[1:]
    return {
        "case": f"shipped bank, batches of {batch_size}",
        "size": f"{slices} slices of {'x'.join(map(str, size))}",
        "device": "cpu",
        "n": slices,
        "subjects": subjects,
        "slices_with_image": shown,
        "bounds": done.why_no_interval or "lower and upper",
        "seconds_choosing": chosen - begun,
        "seconds_reconstructing": ended - chosen,
        "processor_seconds": busy,
        "slices_per_second": slices / (ended - begun),
        "slices_per_processor_second": slices / busy,
        "kspace_mib": slices * math.prod(size) * torch.complex64.itemsize / MIB,
        "resident_mib": {
            "before": before,
            "peak": max(memory),
            "after": resident(),
            "grown_after_warm_up": max(growth(memory[:samples]), growth(memory[samples:])),
            "along_the_way": memory[:: max(1, len(memory) // 40)],
        },
    }


def table(row: dict[str, Any]) -> str:
    """The row as Markdown."""
    memory = row["resident_mib"]
    names = ("before", "peak", "after", "grown_after_warm_up")
    rates = ("slices_per_processor_second", "slices_per_second")
    times = (row[name] for name in (*rates, "seconds_choosing", "seconds_reconstructing"))
    return "\n".join(
        (
            "| case | size | slices/processor s | slices/s | s choosing | s reconstructing"
            " | k-space, MiB | resident before | peak | after | grown after warm-up |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
            f"| {row['case']} | {row['size']} | {' | '.join(f'{value:.1f}' for value in times)}"
            f" | {row['kspace_mib']:.0f} | {' | '.join(f'{memory[name]:.1f}' for name in names)} |",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slices", type=int, default=1000)
    parser.add_argument("--subjects", type=int, default=50, help="simulated, of 20 slices each")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the row to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    row = measured(arguments.slices, arguments.subjects, arguments.batch_size)
    print(table(row))
    if arguments.json:
        document = {"benchmark": "bank_throughput", "rows": [row], "environment": environment()}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
