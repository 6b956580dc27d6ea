"""Rows of `varnet_ratio.py`: how one is printed; those of the shipped bank and of memory."""

import gc
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaptmr.efficiency.accelerate import accelerate
from adaptmr.efficiency.varnet import plan
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.workflows.banks import open_bank
from adaptmr.workflows.demo.scans import simulated_scans

GATE = 3e-5
BANK_SCANS = 6


def relative(found: Tensor, exact: Tensor) -> float:
    """Relative error, as of all images together."""
    return float(torch.linalg.vector_norm(found - exact) / torch.linalg.vector_norm(exact))


def line(row: dict[str, Any]) -> str:
    """A row of the table."""

    def number(name: str, form: str) -> str:
        value = row.get(name)
        return "" if value is None else format(value, form)

    cells = [row["case"], row["size"], number("batch", "d"), row.get("device", ""),
             row.get("baseline", ""), number("ratio", ".2f") or "none",
             f"{number('least_ratio', '.2f')} to {number('most_ratio', '.2f')}",
             number("seconds", ".3f"), number("baseline_seconds", ".3f"),
             number("error", ".1e"), number("baseline_error", ".1e"), number("n", "d")]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def bank_rows(
    repeats: int, seconds: Callable[[Callable[[], Tensor], torch.device], float]
) -> list[dict[str, Any]]:
    """The shipped bank as it is and accelerated; and what bfloat16 costs on its trained weights."""
    bank, _ = open_bank()
    fast = accelerate(bank)
    with tempfile.TemporaryDirectory() as folder:
        scans = simulated_scans(Path(folder), bank.masks, 0)[:BANK_SCANS]
        kspace = torch.cat([scan.kspace[0:1] for scan in scans])
        targets = torch.cat([scan.target[0:1] for scan in scans if scan.target is not None])

        def images(which: ReconstructionBank) -> Tensor:
            return torch.cat([which.reconstruct(scan).image[0:1] for scan in scans])

        expected = images(bank)
        cpu, error = torch.device("cpu"), relative(images(fast), expected)
        turns = [
            [seconds(partial(images, one), cpu) for one in (bank, fast)] for _ in range(repeats)
        ]
    rows: list[dict[str, Any]] = [
        {
            "case": f"bank call with selection, {len(scans)} scans of a slice",
            "size": "x".join(map(str, kspace.shape[1:])),
            "batch": 1,
            "device": "cpu",
            "baseline": "the bank, not accelerated",
            "ratio": statistics.median(a / b for a, b in turns) if error <= GATE else None,
            "seconds": statistics.median(b for _, b in turns),
            "baseline_seconds": statistics.median(a for a, _ in turns),
            "error": error,
            "n": repeats,
        }
    ]
    half, mask = plan(bank.networks[0], torch.bfloat16), bank.masks.masks[0]
    measured_kspace = mask.apply(kspace)
    low = mask.low_frequency_only().tensor()
    psnr = [
        [float(v) for v in map(peak_ratio, found, targets)]
        for found in (
            bank.networks[0](measured_kspace, mask),
            half(measured_kspace.clone(), mask.tensor(), low),
        )
    ]
    rows.append(
        {
            "case": "bfloat16 on the shipped bank's weights",
            "size": "x".join(map(str, kspace.shape[1:])),
            "n": len(targets),
            "psnr": statistics.mean(psnr[0]),
            "psnr_bfloat16": statistics.mean(psnr[1]),
            "psnr_loss": statistics.mean(a - b for a, b in zip(*psnr, strict=True)),
            "most_psnr_loss": max(a - b for a, b in zip(*psnr, strict=True)),
        }
    )
    return rows


def peak_ratio(image: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB of one slice, against its largest value."""
    error = (image - target).square().mean()
    return 10 * torch.log10(target.max().square() / error)


def peak_bytes(run: Callable[[], object]) -> int:
    """What a call adds to the resident memory of this process; Linux."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    before = memory("VmRSS")
    run()
    return memory("VmHWM") - before


def memory(name: str) -> int:
    """A line of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(found) * 1024


def peak_row(script: Path, size: tuple[int, int, int]) -> dict[str, Any]:
    """Peak memory of both, each in a process of its own."""
    text = "x".join(map(str, size))
    command = [sys.executable, str(script), "--size", text, "--peak"]
    baseline, ours = (
        int(subprocess.run([*command, which], check=True, capture_output=True).stdout)  # noqa: S603
        for which in ("fastmri", "adaptmr")
    )
    return {
        "case": "peak memory of a call",
        "size": text,
        "batch": 1,
        "device": "cpu",
        "baseline": "fastmri",
        "bytes": ours,
        "baseline_bytes": baseline,
        "share": ours / baseline,
    }
