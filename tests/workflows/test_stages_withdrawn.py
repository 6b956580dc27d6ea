"""A bank that is withdrawn while a retraining goes on from it teaches nothing that serves."""

from pathlib import Path

import pytest
from made_workflows import training, values, write_ellipses, written

from adaptmr.errors import GateError
from adaptmr.reconstruction.bank.persistence import fingerprint
from adaptmr.workflows.orchestration.run import run_stage
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.registry.version import read_version
from adaptmr.workflows.stages import plan
from adaptmr.workflows.stages.config import WorkflowConfig, load_workflow
from adaptmr.workflows.stages.retrain import RetrainStages


def retraining(folder: Path, subjects: range) -> WorkflowConfig:
    """On all scans so far, and those of these subjects."""
    asked = values(
        "retrain",
        write_ellipses(folder / "incoming", subjects),
        training=training(width=None, masks={"masks": 1}, selection_fraction=0),
        split={"calibration": 0.0, "test": 0.3},
        registry=str(folder / "registry"),
        gates={"metrics": {"ssim": {"margin": 0.9}}, "minimum_subjects": 2},
        further={"epochs": 1, "accelerator": "cpu", "batch_size": 4},
    )
    return load_workflow(written(folder / "retrain.yaml", asked))


def run(config: WorkflowConfig, out: Path, last: str) -> None:
    """The stages that settle what is asked for, then that one with all that it needs."""
    for name in ("ingest", "champion", last):
        run_stage(config, out, name)


@pytest.mark.slow
def test_what_a_withdrawn_bank_taught_is_not_registered(tmp_path: Path) -> None:
    out, registry = tmp_path / "out", Registry(tmp_path / "registry", by="tester")
    run(retraining(tmp_path, range(8)), out, "register")
    first = registry.state().aliases.champion
    run(retraining(tmp_path, range(8, 10)), out, "register")
    second = registry.state().aliases.champion
    assert None not in (first, second)
    assert first != second
    # The third is trained from the second, which is withdrawn before it is registered.
    third = retraining(tmp_path, range(10, 12))
    run(third, out, "gates")
    judged = plan.opened(out)
    assert isinstance(judged, RetrainStages)
    assert judged.judged.folder.is_dir()
    registry.rollback("champion", "blurred")
    known = registry.state().versions
    for _ in range(2):
        with pytest.raises(GateError, match=r"withdrawn meanwhile.*goes on from what serves"):
            _ = judged.registered  # the process that was at it
    with pytest.raises(GateError, match="withdrawn meanwhile"):
        run_stage(third, out, "gates")
    assert registry.state().versions == known
    assert registry.state().aliases.champion == first
    # Called again from its beginning it is made anew from the bank that serves.
    assert plan.results(out) is None
    run(third, out, "register")
    after = registry.state().aliases.champion
    assert after not in (first, second)
    assert after is not None
    assert first is not None
    described = read_version(registry.version_folder(after))
    assert described.parent == fingerprint(registry.version_folder(first) / "bank")
