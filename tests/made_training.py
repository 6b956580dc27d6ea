"""A training of a bank that takes seconds."""

from pathlib import Path
from typing import Any

from adaptmr.data.simulation import SimulationConfig, simulate
from adaptmr.workflows.bank_training.config import BankTraining

MATRIX = (32, 24)


def make_scans(folder: Path) -> Path:
    """Scans of six subjects to train on, and of nine to calibrate on."""
    train = SimulationConfig(subjects=6, seed=1, matrix=MATRIX, slices=2, coils=2)
    held_out = SimulationConfig(subjects=9, seed=2, matrix=MATRIX, slices=1, coils=2)
    assert len(list(simulate(train, folder / "train"))) == 6
    assert len(list(simulate(held_out, folder / "calibration"))) == 9
    return folder


def values(folder: Path, **changes: Any) -> dict[str, Any]:
    """A configuration as it would stand in YAML."""
    return {
        "data": {"kind": "scans", "folder": str(folder)},
        "selection_fraction": 0.4,
        "center_fraction": 0.15,
        "acceleration": 3,
        "sampler": {"kind": "mixture", "components": 2, "factors": 3, "iterations": 5},
        "uncertainty": {"samples": 4},
        "masks": {"masks": 2},
        "architecture": {"kind": "unet", "channels": 4, "pools": 2},
        "surrogate": {"epochs": 2, "accelerator": "cpu"},
        "pairs": {"epochs": 2, "accelerator": "cpu"},
        "width": {"epochs": 1, "accelerator": "cpu"},
    } | changes


def training(folder: Path, **changes: Any) -> BankTraining:
    """The configuration, checked."""
    return BankTraining.model_validate(values(folder, **changes))
