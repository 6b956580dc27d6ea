import json
from collections.abc import Callable
from pathlib import Path

import pytest
from made_tasks import made_mask, made_network, made_tasks

from adaptmr.continual.config import LearnerConfig
from adaptmr.continual.learner import ContinualLearner
from adaptmr.continual.strategies.replaying import Most
from adaptmr.workflows.continual.run import RECORD, REPORT
from adaptmr.workflows.continual.slices import PICTURES

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    """One pair after one stage, with files in which subjects may be named."""
    config = LearnerConfig(steps=1, every=1, batch_size=2, accelerator="cpu")
    learner = ContinualLearner(made_tasks()[:2], Most(), config)
    learner.run(made_network(), made_mask(), tmp_path / "run" / "0")
    for name in (RECORD, REPORT):
        (tmp_path / "run" / name).write_text("training-0 test-0")
    (tmp_path / "run" / PICTURES).mkdir()
    return tmp_path / "run"


def test_a_buffer_is_listed_and_a_subject_erased(sequence: Path, run: Run) -> None:
    code, out, _ = run("continual", "buffer", sequence, "--json")
    scans = json.loads(out)["scans"]
    assert code == 0
    assert {each["stage"] for each in scans} == {"0/0", "0/1"}
    assert len([each for each in scans if each["stage"] == "0/1"]) == 4
    subject = scans[0]["subject"]
    code, out, _ = run("continual", "erase", sequence, "--subject", subject, "--json")
    assert code == 0
    assert json.loads(out) == {"stages": ["0/0", "0/1"], "removed": [RECORD, REPORT, PICTURES]}
    for file in (path for path in sequence.rglob("*") if path.is_file()):
        assert subject.encode() not in file.read_bytes()
    code, out, _ = run("continual", "buffer", sequence)
    assert code == 0
    assert subject not in out
    assert "of 2 subjects" in out.splitlines()[-1]
    code, out, _ = run("continual", "erase", sequence, "--subject", "nobody")
    assert "Erased from 0 stages" in out


def test_a_folder_without_a_sequence_is_refused(tmp_path: Path, run: Run) -> None:
    for arguments in (["buffer", tmp_path], ["erase", tmp_path, "--subject", "a"]):
        code, out, err = run("continual", *arguments)
        assert code == 3
        assert "no sequence of tasks" in err
        assert not out
