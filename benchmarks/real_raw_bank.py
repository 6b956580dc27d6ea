"""Real raw data by banks that were trained on simulated acquisitions of real anatomy.

A bank has one matrix, the sets have many: the centre of each set's k-space is cut to the bank's
matrix. That is the same scan at lower resolution, with the coils, phase and noise that it has. The
reference is the root sum of squares of all of what was cut out; every method has the same budget.

    python benchmarks/real_raw_bank.py FOLDER --bank BANK --json FILE
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from adaptmr.data.crop import center_crop
from adaptmr.data.doors import open_scan
from adaptmr.data.scan import Scan, Stack
from adaptmr.data.target import with_target
from adaptmr.reconstruction.training.cohort import subject_of
from adaptmr.workflows.banks import open_bank
from adaptmr.workflows.benchmark.examined import METRICS, PROTOCOL
from adaptmr.workflows.demo.comparison import CHOICE, Compared, Comparison, compare
from adaptmr.workflows.environment import environment
from adaptmr.workflows.reconstruction import scan_files
from adaptmr.workflows.report import Measured

SAME_HEAD = {"brain_gre_bodycoil_2ch.h5": "brain_gre_16ch"}
"""Sets that are of another's head: no subjects of their own."""


def cropped(scan: Scan, matrix: tuple[int, int]) -> Scan:
    """The scan at lower resolution: the centre of its k-space.

    Args:
        scan: fully sampled; even rows and columns, so that the centre stays the centre.
        matrix: even (readout, phase), no larger than the scan's.
    """

    def read(start: int, stop: int) -> Tensor:
        return center_crop(scan.kspace[start:stop], matrix).clone()

    header = scan.header.model_copy(
        update={
            "encoded_matrix": None,
            "recon_matrix": None,
            "phase_limits": None,
            "subject": SAME_HEAD.get(scan.name, subject_of(scan)),
        }
    )
    smaller = replace(
        scan,
        kspace=Stack((*scan.kspace.shape[:2], *matrix), read),
        acquired=center_crop(scan.acquired.expand(scan.matrix), matrix)[0],
        padding=(0, matrix[1]),
        header=header,
        target=None,
        maximum=None,
    )
    return with_target(smaller)


def rows_of(found: Comparison) -> list[dict[str, Any]]:
    """One row for each set and method."""
    masks = found.bank.masks
    held = {one.name: _held(found, one) for one in found.examined.scans}
    return [
        {
            "scan": scan.name,
            "matrix": "x".join(map(str, masks.matrix)),
            "positions": "lines" if masks.axes == 1 else "points",
            "method": method.name,
            "masks": method.masks,
            "protocol": PROTOCOL.value,
            "n": 1,
            "acceleration": method.acceleration,
            **dict(zip(METRICS, method.metrics[position].tolist(), strict=True)),
            "interval": None,
            "pair": int(found.chosen[position]) if method.name == CHOICE else None,
            "share_in_bounds": held[scan.name] if method.name == CHOICE else None,
        }
        for position, (scan, _) in enumerate(found.examined.slices)
        for method in found.methods
    ]


def _held(found: Comparison, scan: Scan) -> float | None:
    """Share of the object's pixels between their bounds; None where the set has none."""
    number = next(n for n, one in enumerate(found.examined.scans) if one.name == scan.name)
    if found.results[number].lower is None:
        return None
    # Two sets are of one head, so slices are told apart by their order, which is that of the scans.
    bounded = [n for n, result in enumerate(found.results) if result.lower is not None]
    return 1 - float(found.judged[bounded.index(number)].missed.mean())


def gains_of(found: Comparison) -> list[dict[str, Any]]:
    """What the bank's choice gains in SSIM over every other method, 95 % over heads."""
    choice = found.method(CHOICE)
    others = [one for one in found.methods if one.name != CHOICE]
    gains = []
    for other in others:
        gain = found.estimated(choice, other)
        wins = int((choice.metrics[:, 0] > other.metrics[:, 0]).sum())
        gains.append(
            {
                "over": f"{other.name}, {other.masks}",
                "sets": len(choice.metrics),
                "heads": len({subject_of(scan) for scan in found.examined.scans}),
                "ssim": gain.value if isinstance(gain, Measured) else gain,
                "interval": [gain.low, gain.high] if isinstance(gain, Measured) else None,
                "sets_won": wins,
            }
        )
    return gains


def table(found: Comparison) -> str:
    """Sets downwards, methods across, in Markdown; NMSE decides what is bold."""

    def title(method: Compared) -> str:
        return f"{method.name}, {method.masks}"

    masks, rows = found.bank.masks, rows_of(found)
    kind = "lines" if masks.axes == 1 else "points"
    names = [title(method) for method in found.methods]
    lines = [
        f"{kind} at {masks.masks[0].acceleration:.2f}x, {' x '.join(map(str, masks.matrix))},"
        f" protocol {PROTOCOL}: SSIM / PSNR / NMSE.",
        "",
        f"| set | coils | {' | '.join(names)} | pair | in bounds |",
        "|---|---|" + "---|" * (len(names) + 2),
    ]
    for scan in found.examined.scans:
        own = [row for row in rows if row["scan"] == scan.name]
        # An oracle that knows the outcome does not compete.
        best = min(row["nmse"] for row in own if row["masks"] != "in hindsight")
        cells = [
            f"**{shown}**" if row["nmse"] == best and row["masks"] != "in hindsight" else shown
            for row in own
            for shown in [f"{row['ssim']:.3f} / {row['psnr']:.1f} / {row['nmse']:.4f}"]
        ]
        choice = next(row for row in own if row["method"] == CHOICE)
        held = choice["share_in_bounds"]
        told = "none" if held is None else f"{held:.1%}"
        lines.append(
            f"| {Path(scan.name).stem} | {scan.coils} | {' | '.join(cells)}"
            f" | {choice['pair']} | {told} |"
        )
    means = (
        "{:.3f} / {:.1f} / {:.4f}".format(*np.mean(method.metrics.numpy(), axis=0))
        for method in found.methods
    )
    lines.append(f"| mean |  | {' | '.join(means)} |  |  |")
    lines += ["", "| the bank's choice over | SSIM | sets won |", "|---|---|---|"]
    for gain in gains_of(found):
        low_high = gain["interval"] or (math.nan, math.nan)
        told = "{:+.3f} [{:+.3f}, {:+.3f}]".format(gain["ssim"], *low_high)
        lines.append(f"| {gain['over']} | {told} | {gain['sets_won']} of {gain['sets']} |")
    return "\n".join(lines)


def measured(files: Sequence[Path], bank: Path) -> Comparison:
    """Every method on every set at the matrix of the bank."""
    opened, _ = open_bank(bank)
    matrix = opened.masks.matrix
    return compare(opened, [cropped(open_scan(file), matrix) for file in files])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of fully sampled fastMRI HDF5 files")
    parser.add_argument("--bank", type=Path, nargs="+", required=True)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    files = scan_files([arguments.folder])
    rows, gains = [], {}
    for bank in arguments.bank:
        found = measured(files, bank)
        print(table(found), end="\n\n")
        rows += rows_of(found)
        gains["lines" if found.bank.masks.axes == 1 else "points"] = gains_of(found)
    if arguments.json:
        document = {
            "benchmark": "real_raw_bank",
            "rows": rows,
            "gains": gains,
            "environment": environment(),
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
