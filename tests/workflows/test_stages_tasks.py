"""A retraining for a task that came since: the networks that serve are taught it by the learner."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_studies import make_study
from made_workflows import training, values, written
from pydantic import ValidationError

from adaptmr.data.manifest import sha256
from adaptmr.errors import GateError
from adaptmr.reconstruction.bank import persistence
from adaptmr.workflows.continual.config import TaskConfig
from adaptmr.workflows.continual.tasks import train_task
from adaptmr.workflows.gates.comparison import find
from adaptmr.workflows.gates.config import Verdict
from adaptmr.workflows.gates.result import Gate, GateReport
from adaptmr.workflows.orchestration.run import run_stage
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.stages import plan
from adaptmr.workflows.stages.config import Retrain, load_workflow

GATES: dict[str, Any] = {"metrics": {"ssim": {"margin": 0.9}}, "minimum_subjects": 2}


def retraining(
    folder: Path, *, training_epochs: int = 1, rate: float = 1e-3, **changes: Any
) -> Retrain:
    """Of a study, which is both the scans that come in and what the task is of."""
    schedule = {"epochs": 1, "accelerator": "cpu", "batch_size": 4, "learning_rate": rate}
    pairs = {"epochs": training_epochs, "accelerator": "cpu", "batch_size": 4}
    recipe = training(width=None, masks={"masks": 1}, selection_fraction=0, pairs=pairs)
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


def tissue(folder: Path, study: dict[str, Any], epochs: int) -> Path:
    """A segmentation, trained on the study."""
    task = {
        "name": "tissue",
        "study": study,
        "annotation": {"kind": "map", "classes": [[1], [2, 3, 4]]},
        "network": {
            "kind": "trained",
            "architecture": {"kind": "unet", "channels": [4, 8], "outputs": 3},
            "training": {"epochs": epochs, "batch_size": 4, "accelerator": "cpu"},
        },
    }
    train_task(TaskConfig.model_validate(task), folder / "tissue")
    return folder / "tissue"


@pytest.mark.slow
def test_a_new_task_is_learned_by_the_networks_that_serve(tmp_path: Path) -> None:
    study = {"kind": "scans", "folder": str(make_study(tmp_path / "study"))}
    first = retraining(tmp_path)
    run_stage(first, tmp_path / "out", "register")
    registry = Registry(tmp_path / "registry")
    before = registry.champion()
    assert before is not None
    task = tissue(tmp_path, study, epochs=1)
    sequence = {
        "reconstruction": {"study": study},
        "tasks": [{"task": str(task), "study": study}],
        "learner": {"steps": 2, "every": 1, "accelerator": "cpu"},
    }
    wide = {**GATES, "metrics": {**GATES["metrics"], "dice": {"margin": 0.9}}}
    asked = retraining(tmp_path, tasks=sequence, gates=wide)
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


@pytest.mark.slow
def test_a_task_that_is_forgotten_is_stopped(tmp_path: Path) -> None:
    """The images may become as bad as they like by these gates; the task may not."""
    study = {"kind": "scans", "folder": str(make_study(tmp_path / "study"))}
    task = tissue(tmp_path, study, epochs=60)

    learning = {
        "reconstruction": {"study": study},
        "tasks": [{"task": str(task), "study": study}],
        "learner": {"steps": 2, "every": 2, "accelerator": "cpu", "learning_rate": 1e-7},
    }
    first = retraining(tmp_path, tasks=learning, training_epochs=30)
    run_stage(first, tmp_path / "out", "register")
    registry = Registry(tmp_path / "registry")
    before = registry.state().aliases.champion
    assert before is not None
    known = find(registry.champion_evidence().measurements, "tissue", "dice")  # type: ignore[union-attr]
    assert known is not None
    assert len(known.values) == 2
    # A training that changes next to nothing is no worse, and serves.
    mild = retraining(tmp_path, tasks=learning, rate=1e-6)
    assert run_stage(mild, tmp_path / "out", "register").computed == ("register",)
    after = registry.state().aliases.champion
    assert after not in (None, before)
    # One that ruins what the task sees, before it is taught a little of it, does not.
    wild = retraining(tmp_path, tasks=learning, rate=0.3)
    with pytest.raises(GateError, match=r"non-inferiority \(tissue, dice"):
        run_stage(wild, tmp_path / "out", "register")
    assert registry.state().aliases.champion == after
    report = GateReport.model_validate_json((tmp_path / "out/gates/gates.json").read_bytes())
    failed = {check.metric for check in report.checks if check.verdict is Verdict.FAIL}
    assert failed == {"dice"}
    assert {check.gate for check in report.checks if check.metric == "dice"} == {
        Gate.NON_INFERIORITY,
        Gate.FORGETTING,
    }
