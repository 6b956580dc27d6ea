"""Classical reconstruction of real raw data: every scan, mask and method, one metric protocol.

The masks hide part of fully sampled scans; the reference is the root sum of squares of all of it.
The methods run with their defaults, which were chosen on the same scans at other seeds and
accelerations: these rows compare methods, they are no held-out estimate.
"""

import argparse
import json
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from adaptmr.reconstruction.methods import Method, reconstructor
from adaptmr.reconstruction.metrics import ProtocolName
from adaptmr.sampling.generators import MaskKind, MaskSpec
from adaptmr.workflows.environment import environment
from adaptmr.workflows.evaluation import evaluate
from adaptmr.workflows.progress import track
from adaptmr.workflows.reconstruction import Settings, reconstruct_file, scan_files

PROTOCOL = ProtocolName.FASTMRI_VOLUME
KINDS = (MaskKind.VARIABLE_DENSITY_2D, MaskKind.POISSON, MaskKind.VARIABLE_DENSITY_1D)


def measured(scans: list[Path], spec: MaskSpec, method: Method) -> list[dict[str, Any]]:
    """The rows of one mask and method, one per scan."""
    settings = Settings(reconstructor(method), spec)
    with tempfile.TemporaryDirectory() as name:
        done = {scan.name: reconstruct_file(scan, Path(name), settings) for scan in scans}
        evaluation = evaluate(Path(name), scans[0].parent, PROTOCOL)
    return [
        {
            "scan": volume.name,
            "mask": spec.kind.value,
            "method": method.value,
            "protocol": PROTOCOL.value,
            "n": 1,
            "acceleration": done[volume.name].acceleration,
            "nmse": volume.nmse,
            "psnr": volume.psnr,
            "ssim": volume.ssim,
            "interval": None,
        }
        for volume in evaluation.volumes
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """NMSE and SSIM: scans and masks downwards, methods across, in Markdown."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = [
        f"Protocol {PROTOCOL}: NMSE / SSIM.",
        "",
        "| scan | mask | R measured | " + " | ".join(methods) + " |",
        "|---|---|---|" + "---|" * len(methods),
    ]
    for scan, mask in sorted({(row["scan"], row["mask"]) for row in rows}):
        found = {row["method"]: row for row in rows if (row["scan"], row["mask"]) == (scan, mask)}
        best = min(found.values(), key=lambda row: row["nmse"])["method"]
        cells = [
            f"**{shown}**" if method == best else shown
            for method in methods
            for shown in [f"{found[method]['nmse']:.4f} / {found[method]['ssim']:.3f}"]
        ]
        acceleration = found[best]["acceleration"]
        lines.append(f"| {scan} | {mask} | {acceleration:.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of fully sampled fastMRI HDF5 files")
    parser.add_argument("--acceleration", type=float, default=4.0)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    scans = scan_files([arguments.folder])
    work = list(product(KINDS, Method))
    rows = [
        row
        for kind, method in track(work, "reconstructing")
        for row in measured(scans, MaskSpec(kind=kind, acceleration=arguments.acceleration), method)
    ]
    print(table(rows))
    if arguments.json:
        described = environment() | {"seed": "file names"}
        document = {"benchmark": "real_raw", "rows": rows, "environment": described}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
