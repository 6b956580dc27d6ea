"""Stages as plain functions: what they make, what they find done, what a change recomputes."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_workflows import training, values, write_ellipses, written

from adaptmr.data.fastmri import write_scan
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.bank import persistence
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.workflows.bank_training.run import train_bank
from adaptmr.workflows.orchestration.run import run_stage
from adaptmr.workflows.stages import plan
from adaptmr.workflows.stages.config import TrainBank, load_workflow
from adaptmr.workflows.stages.gathering import publish
from adaptmr.workflows.stages.ingest import SCANS
from adaptmr.workflows.stages.training_page import verdict

Run = Callable[..., tuple[int, str, str]]


def config(folder: Path, **changes: Any) -> TrainBank:
    """A training of a bank."""
    path = written(folder / "workflow.yaml", values("train-bank", folder / "incoming", **changes))
    loaded = load_workflow(path)
    assert isinstance(loaded, TrainBank)
    return loaded


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans, and ``out``: a bank that was made of them stage by stage."""
    folder = tmp_path_factory.mktemp("stages")
    write_ellipses(folder / "incoming", range(16))
    outcome = run_stage(config(folder), folder / "out", "report")
    assert outcome.computed == ("report",)
    return folder


def test_a_stage_does_what_it_needs_first(folder: Path) -> None:
    assert persistence.load(folder / "out" / "bank").calibration is not None
    done = plan.results(folder / "out")
    assert done is not None
    assert list(done) == [
        *("ingest", "split", "prepare", "validate", "sampler", "uncertainties", "masks"),
        *("network-0", "network-1", "selector", "width", "calibrate", "bank"),
        "report",
    ]
    for step in done.values():
        if (manifest := step.folder / "step.json").exists():
            told = json.loads(manifest.read_text())
            assert told["key"] == step.key
            assert {"version", "reads", "needs", "adaptmr"} <= told.keys()
    again = run_stage(config(folder), folder / "out", "bank")
    assert again.computed == ()
    with pytest.raises(UsageError, match=r"no such stage.*network-1"):
        run_stage(config(folder), folder / "out", "network-7")


def test_stages_make_the_bank_that_train_makes(folder: Path, tmp_path: Path) -> None:
    work = plan.opened(folder / "out")
    train_bank(work.config.bank_training(work.prepared.folder), tmp_path / "bank")
    assert persistence.fingerprint(tmp_path / "bank") == persistence.fingerprint(
        folder / "out" / "bank"
    )


def test_the_seed_of_one_mask_reruns_its_branch_alone(folder: Path) -> None:
    out = folder / "out"
    first = plan.results(out)
    assert first is not None
    before = persistence.fingerprint(out / "bank")
    recipe = training(masks={"masks": 2, "seeds": [1, 9]})
    changed = config(folder, training=recipe)
    fresh = [
        stage.name
        for stage in plan.opened(out).stages
        if run_stage(changed, out, stage.name).computed
    ]
    assert fresh == ["masks", "network-1", "selector", "width", "calibrate", "bank", "report"]
    assert persistence.fingerprint(out / "bank") != before
    # The page says what was found.
    told = dict(re.findall(r">([\w-]+)</th>\s*<td>(found|made)</td>", page(out)))
    found = {"sampler", "uncertainties", "network-0"}
    assert {name for name, what in told.items() if what == "found"} == found
    assert {"masks", "network-1", "bank"} < told.keys()
    # And back: nothing is computed, and the name stands for the first bank again.
    assert run_stage(config(folder), out, "report").computed == ()
    assert plan.results(out) == first
    assert persistence.fingerprint(out / "bank") == before


def page(out: Path) -> str:
    """The page of a training."""
    return (out / "report.html").read_text(encoding="utf-8")


def test_the_page_says_what_the_bank_is(folder: Path) -> None:
    text, bank = page(folder / "out"), persistence.load(folder / "out" / "bank")
    assert persistence.fingerprint(folder / "out" / "bank") in text
    assert all(mask.fingerprint[:12] in text for mask in bank.masks.masks)
    assert bank.calibration is not None
    assert f"It gives no intervals: {bank.calibration.pooled.reason}." in text
    losses = bank.provenance["losses"]
    assert isinstance(losses, list)
    assert all(f"{loss:.4f}" in text for loss in losses)
    # Training and validation of the networks, and of the widths; the masks.
    assert text.count("<img") >= 2 + 2 + len(bank)
    curve = checkpoint.provenance(folder / "out" / "bank" / "networks" / "0")["curve"]
    assert f"network-0 {curve[-1]['validation_loss']:.4f}" in text
    work = plan.opened(folder / "out")
    for part, scans in work.scans.items():
        count = len({scan.subject for scan in scans})
        assert re.search(rf">{part}</th>\s*<td[^>]*>{count}</td>", text)
    pooled = bank.calibration.pooled.model_copy(update={"factor": 2.0, "subjects": 12})
    calibration = bank.calibration.model_copy(update={"pooled": pooled})
    said = verdict(replace(bank, calibration=calibration), torch.tensor([[0.5, 0.2]]), work.summary)
    assert "mask 0, loses 0.5000" in said or "mask 1, loses 0.2000" in said
    assert "rightly would lose 0.2000" in said
    assert "miss 10% of its pixels or less, on average: calibrated on 12 subjects" in said


def test_a_scan_that_was_altered_is_named(folder: Path) -> None:
    scan = next((folder / "out" / "store" / SCANS).iterdir())
    content, state = scan.read_bytes(), scan.stat()
    try:
        scan.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(BadInputError, match=rf"{scan.name}.*altered after it was taken in"):
            run_stage(config(folder), folder / "out", "validate")
    finally:
        scan.write_bytes(content)
    assert state.st_size == len(content)
    assert run_stage(config(folder), folder / "out", "bank").stages


def test_new_scans_are_noticed(folder: Path, tmp_path: Path) -> None:
    from made_workflows import ellipses

    scan = ellipses("subject-99", 99)
    extra = folder / "incoming" / "extra.h5"
    assert plan.results(folder / "out") is not None
    write_scan(scan, extra)
    try:
        assert plan.results(folder / "out") is None
    finally:
        extra.unlink()
    assert plan.results(folder / "out") is not None


def test_a_name_stands_for_one_result_at_a_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        publish(tmp_path / name, tmp_path / "result")
        assert (tmp_path / "result").resolve() == (tmp_path / name).resolve()
        publish(tmp_path / name, tmp_path / "result")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "result", "two"]


def test_files_that_are_wrong(run: Run, folder: Path, tmp_path: Path) -> None:
    incoming = folder / "incoming"

    def told(name: str = "train-bank", **changes: Any) -> str:
        path = written(tmp_path / "wrong.yaml", values(name, incoming, **changes))
        code, out, err = run("stage", "ingest", path, "--out", tmp_path / "out")
        assert (code, out) == (3, "")
        return err.splitlines()[-1]

    assert "Did you mean 'split'?" in told(splt={"test": 0.2})
    assert "Did you mean 'epochs'?" in told(training=training(pairs={"epoch": 1}))
    assert "nobody is left to train on" in told(split={"calibration": 0.6, "test": 0.4})
    assert "'benchmark', 'train-bank' or 'retrain'" in told("train")
    missing = {"incoming": {"kind": "folders", "folders": [str(tmp_path / "none")]}}
    assert "a source of scans is missing" in told(ingest=missing)
    secret = tmp_path / "secret"
    secret.write_text("short")
    folders = {"kind": "folders", "folders": [str(incoming)]}
    assert "too short" in told(ingest={"incoming": folders, "secret": str(secret)})
    assert "secret cannot be read" in told(
        ingest={"incoming": folders, "secret": str(tmp_path / "no")}
    )
    few = {"calibration": 0.0, "test": 0.001}
    path = written(tmp_path / "few.yaml", values("train-bank", incoming, split=few))
    code, _, err = run("stage", "split", path, "--out", tmp_path / "few")
    assert code == 3
    assert "too few subjects to split" in err


def test_json_of_a_stage(run: Run, folder: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "bank.yaml", values("train-bank", folder / "incoming"))
    code, text, _ = run("stage", "bank", path, "--out", folder / "out", "--json")
    assert code == 0
    told: dict[str, Any] = json.loads(text)
    assert told["workflow"] == "train-bank"
    assert list(told["stages"]) == ["bank"]
    out = folder / "out"
    assert told["results"] == {"bank": str(out / "bank"), "report.html": str(out / "report.html")}
