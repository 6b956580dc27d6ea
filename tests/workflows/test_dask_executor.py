"""A workflow on a Dask cluster of processes, one of which is killed half way: the same hashes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from made_workflows import hashes, values, write_ellipses, written

from adaptmr.workflows.orchestration.journal import JOURNAL, What
from adaptmr.workflows.orchestration.run import run_stage
from adaptmr.workflows.stages.config import load_workflow

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@contextmanager
def process(name: str, *arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A part of the cluster, ended afterwards."""
    command = [sys.executable, "-m", f"distributed.cli.{name}", *arguments, "--no-dashboard"]
    with log.open("wb") as stream:
        part = subprocess.Popen(command, env=ENVIRONMENT, stdout=stream, stderr=stream)
        try:
            yield part
        finally:
            part.kill()
            part.wait(60)


def event(out: Path, stage: str, what: What) -> bool:
    """Whether something happened to a stage."""
    text = (out / JOURNAL).read_text() if (out / JOURNAL).exists() else ""
    return f'"stage": "{stage}", "what": "{what}"' in text


@pytest.mark.slow
@pytest.mark.enable_socket
def test_two_workers_one_of_them_killed(tmp_path: Path) -> None:
    incoming = write_ellipses(tmp_path / "incoming", range(16))
    path = written(tmp_path / "plain.yaml", values("train-bank", incoming))
    run_stage(load_workflow(path), tmp_path / "plain", "report")
    out, file = tmp_path / "out", tmp_path / "scheduler.json"
    with ExitStack() as cluster:
        at = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
        cluster.enter_context(process("dask_scheduler", *at, log=tmp_path / "scheduler.log"))
        while not file.exists():
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        one = ["--nthreads", "1", "--no-nanny", "--host", "127.0.0.1"]
        workers = [
            cluster.enter_context(process("dask_worker", address, *one, log=tmp_path / f"{n}.log"))
            for n in range(2)
        ]
        executor = {"kind": "dask", "scheduler": address}
        path = written(tmp_path / "dask.yaml", values("train-bank", incoming, executor=executor))
        command = [sys.executable, "-m", "adaptmr.cli", "workflow", "run", str(path)]
        running = subprocess.Popen(
            [*command, "--out", str(out)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
        )
        with running:
            while not (event(out, "network-0", What.BEGUN) and event(out, "network-1", What.BEGUN)):
                assert running.poll() is None, running.communicate()[1]
                time.sleep(0.05)
            workers[0].kill()
            _, told = running.communicate(timeout=500)
        assert running.returncode == 0, told
        assert workers[1].poll() is None
    found = hashes(out / "steps")
    assert found == hashes(tmp_path / "plain" / "steps")
    assert any(name.startswith("bank/") for name in found)


@pytest.mark.slow
def test_processes_of_this_machine(tmp_path: Path) -> None:
    incoming = write_ellipses(tmp_path / "incoming", range(16))
    executor = {"kind": "processes", "workers": 2}
    path = written(tmp_path / "workflow.yaml", values("train-bank", incoming, executor=executor))
    command = [sys.executable, "-m", "adaptmr.cli", "workflow", "run", str(path)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out"), "--json"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["computed"][-1] == "report"
