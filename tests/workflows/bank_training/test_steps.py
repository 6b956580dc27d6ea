"""Steps that are computed once."""

import subprocess
import sys
from pathlib import Path

import pytest

from adaptmr.errors import BadInputError
from adaptmr.workflows.bank_training.steps import Step, Steps


def write(result: Path, _: Path) -> None:
    (result / "value").write_text("1")


def never(_: Path, __: Path) -> None:
    raise AssertionError("computed again")


def test_a_step_is_computed_once_for_each_of_its_inputs(tmp_path: Path) -> None:
    steps, need = Steps(tmp_path), Step("before", "k", tmp_path)
    first = steps.done("name", 1, {"a": 1}, [need], write)
    assert (first.folder / "value").read_text() == "1"
    assert Steps(tmp_path).done("name", 1, {"a": 1}, [need], never) == first
    others = [
        steps.done("other", 1, {"a": 1}, [need], write),
        steps.done("name", 2, {"a": 1}, [need], write),
        steps.done("name", 1, {"a": 2}, [need], write),
        steps.done("name", 1, {"a": 1}, [Step("before", "l", tmp_path)], write),
        steps.done("name", 1, {"a": 1}, [], write),
    ]
    assert len({step.key for step in [first, *others]}) == 6
    assert len({step.folder for step in [first, *others]}) == 6
    again = Steps(tmp_path)
    again.done("name", 1, {"a": 1}, [need], never)
    assert [took.reused for took in again.took] == [True]
    assert not any(took.reused for took in steps.took)


def test_a_step_that_fails_leaves_its_work_and_no_result(tmp_path: Path) -> None:
    def half(result: Path, work: Path) -> None:
        work.mkdir()
        (work / "state").write_text("half")
        write(result, work)
        raise BadInputError("power cut")

    steps = Steps(tmp_path)
    with pytest.raises(BadInputError):
        steps.done("name", 1, None, [], half)
    assert not steps.took

    def rest(result: Path, work: Path) -> None:
        (result / "value").write_text((work / "state").read_text())

    step = steps.done("name", 1, None, [], rest)
    assert (step.folder / "value").read_text() == "half"
    assert not step.folder.with_suffix(".work").exists()


def test_a_step_that_another_process_is_at_is_waited_for(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from adaptmr.workflows.bank_training.steps import Steps
def compute(result, work):
    print("begun", flush=True)
    sys.stdin.read()
    (result / "value").write_text("theirs")
Steps(Path(sys.argv[1])).done("name", 1, None, [], compute)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipe = subprocess.PIPE
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=quiet) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"begun\n"
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as second:
            assert second.stderr is not None
            assert b"waiting for another process at name" in second.stderr.readline()
            first.communicate()  # closes its input, upon which it ends
            out, _ = second.communicate(timeout=60)
            assert (second.returncode, out) == (0, b"")  # found it done
    assert first.returncode == 0
    assert (Steps(tmp_path).done("name", 1, None, [], never).folder / "value").read_text() == (
        "theirs"
    )
