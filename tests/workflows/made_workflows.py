"""Workflows that take seconds: scans of ellipses, and networks of a few hundred weights."""

from pathlib import Path
from typing import Any

import torch
import yaml
from made_kspace import phantom, smooth_maps

from adaptmr.data.fastmri import write_scan
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.kernels.fourier import fourier

MATRIX = (24, 20)


def ellipses(
    subject: str, number: int, contrast: str = "AXT2", *, matrix: tuple[int, int] = MATRIX
) -> Scan:
    """Two noisy slices of ellipses, two coils."""
    maps = smooth_maps(2, matrix, torch.complex64)
    images = torch.stack([phantom(matrix, 100 * number + index) for index in range(2)])
    generator = torch.Generator().manual_seed(number)
    kspace = fourier(images[:, None].to(torch.complex64) * maps)
    kspace += 0.02 * torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
    target = images.abs().float()
    return Scan(
        name=f"{subject}-{contrast}.h5",
        kspace=Stack.of(kspace),
        acquired=torch.ones(matrix[1], dtype=torch.bool),
        padding=(0, matrix[1]),
        header=Header(acquisition=contrast, subject=subject, field_strength=3.0),
        target=Stack.of(target),
        maximum=float(target.max()),
    )


def write_ellipses(folder: Path, subjects: range, contrast: str = "AXT2") -> Path:
    """A file for each subject."""
    for number in subjects:
        scan = ellipses(f"subject-{number}", number, contrast)
        write_scan(scan, folder / scan.name)
    return folder


def values(kind: str, incoming: Path, **changes: Any) -> dict[str, Any]:
    """A workflow as it would stand in YAML."""
    return {
        "workflow": kind,
        "ingest": {"incoming": {"kind": "folders", "folders": [str(incoming)]}},
        "split": {"calibration": 0.3, "test": 0.3},
        "training": training(),
    } | changes


def training(**changes: Any) -> dict[str, Any]:
    """How its bank is trained."""
    return {
        "selection_fraction": 0.3,
        "center_fraction": 0.2,
        "acceleration": 2.5,
        "sampler": {"kind": "mixture", "components": 2, "factors": 2, "iterations": 3},
        "uncertainty": {"samples": 3},
        "masks": {"masks": 2, "seeds": [1, 2]},
        "architecture": {"kind": "unet", "channels": 4, "pools": 1},
        "pairs": {"epochs": 1, "accelerator": "cpu", "batch_size": 4},
        "width": {"epochs": 1, "accelerator": "cpu", "batch_size": 4},
    } | changes


def written(path: Path, configuration: dict[str, Any]) -> Path:
    """The YAML file."""
    path.write_text(yaml.safe_dump(configuration))
    return path


def hashes(steps: Path) -> dict[str, str]:
    """sha256 of every file that steps made; not of those that hold how long they took or where
    files lie."""
    from adaptmr.data.manifest import sha256
    from adaptmr.workflows.bank_training.steps import MANIFEST

    timed = {MANIFEST, "evidence.json", "gates.html", "report.html"}
    return {
        str(file.relative_to(steps)): sha256(file)
        for file in sorted(steps.rglob("*"))
        if file.is_file()
        and file.name not in timed
        and file.suffix != ".lock"
        and file.relative_to(steps).parts[0] not in {"hashes", "prepare"}
    }
