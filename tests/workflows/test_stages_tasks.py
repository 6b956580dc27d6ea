"""A retraining for a task that came since: the networks that serve are taught it by the learner."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_studies import make_study
from made_workflows import training, values, written
from pydantic import ValidationError

from adaptmr.data.manifest import sha256
from adaptmr.reconstruction.bank import persistence
from adaptmr.workflows.continual.config import TaskConfig
from adaptmr.workflows.continual.tasks import train_task
from adaptmr.workflows.orchestration.run import run_stage
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.stages import plan
from adaptmr.workflows.stages.config import Retrain, load_workflow

GATES = {"metrics": {"ssim": {"margin": 0.9}}, "minimum_subjects": 2}


def retraining(folder: Path, **changes: Any) -> Retrain:
    """Of a study, which is both the scans that come in and what the task is of."""
    schedule = {"epochs": 1, "accelerator": "cpu", "batch_size": 4}
    recipe = training(width=None, masks={"masks": 1}, selection_fraction=0)
    whole = {
        "registry": str(folder / "registry"),
        "gates": GATES,
        "further": schedule,
        "split": {"calibration": 0.0, "test": 0.4},
    }
    found = values("retrain", folder / "study", training=recipe, **whole | changes)
    loaded = load_workflow(written(folder / "retrain.yaml", found))
    assert isinstance(loaded, Retrain)
    return loaded


@pytest.mark.slow
def test_a_new_task_is_learned_by_the_networks_that_serve(tmp_path: Path) -> None:
    study = {"kind": "scans", "folder": str(make_study(tmp_path / "study"))}
    first = retraining(tmp_path)
    run_stage(first, tmp_path / "out", "register")
    registry = Registry(tmp_path / "registry")
    before = registry.champion()
    assert before is not None
    task = {
        "name": "tissue",
        "study": study,
        "annotation": {"kind": "map", "classes": [[1], [2, 3, 4]]},
        "network": {
            "kind": "trained",
            "architecture": {"kind": "unet", "channels": [4, 8], "outputs": 3},
            "training": {"epochs": 1, "batch_size": 4, "accelerator": "cpu"},
        },
    }
    train_task(TaskConfig.model_validate(task), tmp_path / "tissue")
    sequence = {
        "reconstruction": {"study": study},
        "tasks": [{"task": str(tmp_path / "tissue"), "study": study}],
        "learner": {"steps": 2, "every": 1, "accelerator": "cpu"},
    }
    asked = retraining(tmp_path, tasks=sequence)
    outcome = run_stage(asked, tmp_path / "out", "register")
    assert outcome.computed == ("register",)
    after = registry.champion()
    assert after is not None
    assert after != before
    networks = [folder / "networks" / "0" / "weights.safetensors" for folder in (before, after)]
    assert sha256(networks[0]) != sha256(networks[1])
    assert persistence.load(after).masks.fingerprint == persistence.load(before).masks.fingerprint
    told = json.loads((tmp_path / "out" / "registered.json").read_text())
    assert told["serves"]
    # Asked again nothing is computed, and so it is when the first thing is asked for again.
    assert plan.results(tmp_path / "out") is not None
    with pytest.raises(ValidationError, match=r"leave tasks\.bank out"):
        Retrain.model_validate(
            {**asked.model_dump(), "tasks": {**sequence, "bank": str(tmp_path / "bank")}}
        )
