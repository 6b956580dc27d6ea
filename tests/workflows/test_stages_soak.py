"""The short form of benchmarks/soak.py: a retraining that is killed ends as one that is not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.slow
def test_a_retraining_that_is_killed_ends_the_same(tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    moments = ["complete", "logged promoted"]
    command = [sys.executable, str(SOAK), "--kills", "1", "--moments", *moments]
    done = subprocess.run([*command, "--json", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 3
    assert [row["killed"] for row in rows[:2]] == [True, True]
    assert [row["serving_after_kill"] for row in rows[:2]] == ["first", "second"]
    assert all(row["good"] for row in rows)
