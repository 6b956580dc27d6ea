"""The preset `brain60` from end to end, on a thin cut of the brains it is meant for."""

import csv
from pathlib import Path

import pytest
import torch

from adaptmr.data.doors import open_scan
from adaptmr.data.simulation import SimulationConfig, simulate
from adaptmr.reconstruction.bank.persistence import load
from adaptmr.sampling.loss_aware import LossAware
from adaptmr.workflows.bank_training.config import BankTraining
from adaptmr.workflows.bank_training.preset_names import BankPreset
from adaptmr.workflows.bank_training.presets import preset
from adaptmr.workflows.bank_training.run import train_bank


def volumes(brains: Path, *splits: str) -> tuple[Path, ...]:
    """One volume of each subject of these splits."""
    with (brains / "participants.tsv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] in splits]
    sessions = {row["participant_id"]: row["session_id"] for row in reversed(rows)}
    return tuple(
        brains / f"{subject}_{session}_T1w.nii.gz" for subject, session in sorted(sessions.items())
    )


def scanned(anatomy: tuple[Path, ...], folder: Path) -> list[Path]:
    config = SimulationConfig(
        subjects=len(anatomy), anatomy=anatomy, matrix=(64, 64), slices=1, coils=4
    )
    return list(simulate(config, folder))


@pytest.mark.slow
def test_from_brains_to_bounds(shared_data: Path, tmp_path: Path) -> None:
    brains = shared_data / "brains"
    scanned(volumes(brains, "train")[:8], tmp_path / "scans" / "train")
    held_out = volumes(brains, "calibration", "test")
    scanned(held_out[:9], tmp_path / "scans" / "calibration")
    (unseen,) = scanned(held_out[9:10], tmp_path / "unseen")

    short = {"epochs": 1, "accelerator": "cpu"}
    full = preset(BankPreset.BRAIN60, tmp_path / "scans")
    assert full.surrogate is not None
    assert full.width is not None
    assert full.refinement is not None
    config = BankTraining.model_validate(
        full.model_copy(
            update={
                "surrogate": full.surrogate.model_copy(update=short),
                "pairs": full.pairs.model_copy(update=short),
                "width": full.width.model_copy(update=short),
                "refinement": full.refinement.model_copy(
                    update={"draws": 2, "evaluations": 1, "slices": 2}
                ),
            }
        )
    )
    trained = train_bank(config, tmp_path / "bank")
    bank = load(trained.bank)
    assert (len(bank), bank.masks.matrix, bank.masks.coils) == (3, (64, 64), (4,))
    assert all(mask.budget == 16 for mask in bank.masks.masks)
    assert isinstance(bank.selector, LossAware)
    assert bank.calibration is not None
    assert bank.calibration.pooled.subjects == 9

    scan = open_scan(unseen)
    done = bank.reconstruct(scan)
    (parts,) = done.slices()
    assert done.acceleration == pytest.approx(4)
    assert parts.keys() == {"reconstruction", "lower", "upper"}
    assert bool((parts["lower"] <= parts["reconstruction"]).all())
    assert bool((parts["reconstruction"] <= parts["upper"]).all())
    assert scan.target is not None
    # One epoch on a handful of slices: no more than that it is an image of this head.
    both = torch.stack((parts["reconstruction"].flatten(), scan.target[0].flatten()))
    assert float(torch.corrcoef(both)[0, 1]) > 0.8
