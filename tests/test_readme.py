"""The README is true: each of its commands is run, in its order, in one empty folder."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


def test_setting_up_is_two_commands() -> None:
    assert [command for command in COMMANDS if command.startswith("make")] == [
        "make demo",
        "make test",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("make")])
def test_command(command: str, folder: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_make_demo(tmp_path: Path) -> None:
    """`make demo` in this checkout (`make test` is what runs this test)."""
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("the tests do not run from the .venv that make made")
    done = subprocess.run(
        ["make", "--no-print-directory", "demo"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = Path(done.stdout.strip().splitlines()[-1].split()[-1])
    assert (ROOT / report).is_file()
