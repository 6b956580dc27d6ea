"""Workflows under Dagster: cached, alone, gated, stopped and continued."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_workflows import hashes, training, values, write_ellipses, written

from adaptmr.errors import AdaptMRError, BadInputError, GateError
from adaptmr.reconstruction.bank import persistence
from adaptmr.workflows.orchestration import journal
from adaptmr.workflows.orchestration import run as orchestration
from adaptmr.workflows.orchestration.journal import JOURNAL, Event, What
from adaptmr.workflows.orchestration.run import run_workflow
from adaptmr.workflows.orchestration.tree import following
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.single_flight import single_flight
from adaptmr.workflows.stages.config import load_workflow
from adaptmr.workflows.stages.gathering import Stage

Run = Callable[..., tuple[int, str, str]]
EASY: dict[str, Any] = {"metrics": {"ssim": {"margin": 0.5, "floor": 0.0}}, "minimum_subjects": 2}


def retrain(folder: Path, gates: dict[str, Any] = EASY, **changes: Any) -> Path:
    """The YAML of a retraining."""
    whole = {
        "gates": gates,
        "registry": str(folder / "registry"),
        "further": {"epochs": 1, "accelerator": "cpu", "batch_size": 4},
    }
    return written(
        folder / "retrain.yaml", values("retrain", folder / "incoming", **whole | changes)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans, and a registry with the first version that they gave."""
    folder = tmp_path_factory.mktemp("workflow")
    write_ellipses(folder / "incoming", range(16))
    outcome = run_workflow(load_workflow(retrain(folder)), folder / "out")
    assert len(outcome.computed) == len(outcome.stages) - 1  # there was no champion to find
    return folder


def serving(folder: Path) -> str | None:
    """The version that serves."""
    return Registry(folder / "registry").state().aliases.champion


def test_a_run_makes_a_version_that_serves(folder: Path) -> None:
    told = json.loads((folder / "out" / "registered.json").read_text())
    assert told == {"version": serving(folder), "verdict": "pass", "serves": True, "why_not": None}
    champion = Registry(folder / "registry").champion()
    assert champion is not None
    assert persistence.fingerprint(champion) == persistence.fingerprint(folder / "out" / "bank")
    assert (folder / "out" / "gates" / "gates.html").is_file()
    assert "enabled: false" in (folder / "out" / "dagster" / "dagster.yaml").read_text()
    events = [json.loads(line) for line in (folder / "out" / JOURNAL).read_text().splitlines()]
    assert {event["what"] for event in events} <= set(What)
    assert [event["stage"] for event in events if event["what"] == What.DONE][-1] == "register"


def test_all_that_is_done_is_found_without_dagster(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: object) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr(orchestration, "execute", never)
    again = run_workflow(load_workflow(retrain(folder)), folder / "out")
    assert again.computed == ()
    assert len(again.stages) == 16


def test_a_second_run_at_once_is_told_that_one_is_at_it(run: Run, folder: Path) -> None:
    before = (folder / "out" / JOURNAL).read_bytes()
    with single_flight(folder / "out" / ".lock", "this workflow"):
        code, out, err = run("workflow", "run", retrain(folder), "--out", folder / "out")
    assert (code, out) == (75, "")
    assert f"another process is at this workflow (got process {os.getpid()})" in err
    assert (folder / "out" / JOURNAL).read_bytes() == before


def test_a_gate_stops_what_is_not_good_enough(run: Run, folder: Path) -> None:
    before = serving(folder)
    strict = {"metrics": {"ssim": {"margin": 0.5, "floor": 0.999}}, "minimum_subjects": 2}
    path = retrain(folder, strict)
    code, out, err = run("workflow", "run", path, "--out", folder / "out")
    assert (code, out) == (4, "")
    assert "absolute floor" in err
    assert "0.999" in err
    assert "register" not in err
    assert not (folder / "out" / "registered.json").exists()
    report = json.loads((folder / "out" / "gates" / "gates.json").read_text())
    failed = [check for check in report["checks"] if check["verdict"] == "fail"]
    assert {check["limit"] for check in failed} == {0.999}
    assert all(check["spare"] == pytest.approx(check["value"] - 0.999) for check in failed)
    assert serving(folder) == before
    # Asked again it says so again, and computes nothing.
    code, _, err = run("workflow", "run", path, "--out", folder / "out")
    assert (code, err.count("...")) == (4, 0)
    # And what passed before is still there.
    assert run("workflow", "run", retrain(folder), "--out", folder / "out")[0] == 0
    assert serving(folder) == before


def test_a_stage_that_fails_ends_the_run_with_its_error(run: Run, tmp_path: Path) -> None:
    write_ellipses(tmp_path / "incoming", range(8))
    path = retrain(tmp_path, training=training(masks={"masks": 30}))
    code, out, err = run("workflow", "run", path, "--out", tmp_path / "out")
    assert (code, out) == (3, "")
    events = [json.loads(line) for line in (tmp_path / "out" / JOURNAL).read_text().splitlines()]
    failed = [event for event in events if event["what"] == What.FAILED]
    assert len(failed) == 1  # what cannot be used is not tried again
    assert failed[0]["message"] in err
    assert events[-1] == failed[0]


def test_events_tell_errors_as_they_were(tmp_path: Path) -> None:
    for error in (BadInputError("bad", field="x", hint="Do it"), GateError("no"), KeyError("k")):
        ours = isinstance(error, AdaptMRError)
        event = Event(
            "stage", What.FAILED, error=type(error).__name__ if ours else "", message=str(error)
        )
        event.append_to(tmp_path)
        again = Event.read((tmp_path / JOURNAL).read_bytes().splitlines()[-1]).exception
        assert type(again) is (type(error) if ours else AdaptMRError)
        assert str(again) == str(error)


def test_a_reader_waits_for_whole_lines(tmp_path: Path) -> None:
    Event("before", What.DONE).append_to(tmp_path)
    reader = journal.Reader(tmp_path)
    Event("one", What.BEGUN).append_to(tmp_path)
    whole = (tmp_path / JOURNAL).read_bytes()
    with (tmp_path / JOURNAL).open("ab") as stream:
        stream.write(whole.splitlines(keepends=True)[-1][:30])
        stream.flush()
        assert [event.stage for event in reader.read()] == ["one"]
        stream.write(whole.splitlines(keepends=True)[-1][30:])
    assert [event.stage for event in reader.read()] == ["one"]
    assert list(reader.read()) == []


def test_the_tree_shows_each_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = [Stage(name, (), lambda: None) for name in ("first", "second", "third")]  # type: ignore[arg-type, return-value]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    with following(tmp_path, "a workflow", stages):
        Event("first", What.DONE, 3.2).append_to(tmp_path)
        Event("second", What.BEGUN).append_to(tmp_path)
        sys.stderr.write("epoch 1/2: loss 0.5\n")
        Event("second", What.FAILED, message="no [bold] room").append_to(tmp_path)
    shown = capsys.readouterr().err
    for text in ("a workflow", "✓ first", "done in 3.2 s", "✗ second", "no [bold] room", "· third"):
        assert text in shown
    assert (tmp_path / "log.txt").read_text() == "epoch 1/2: loss 0.5\n"


def begun(path: Path, out: Path) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "adaptmr.cli", "workflow", "run", str(path), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(out: Path, stage: str, process: subprocess.Popen[str]) -> None:
    """Wait until a stage has begun."""
    line = f'"stage": "{stage}", "what": "{What.BEGUN}"'
    while process.poll() is None:
        if (out / JOURNAL).exists() and line in (out / JOURNAL).read_text():
            return
        time.sleep(0.05)
    raise AssertionError(process.communicate()[1])


@pytest.mark.slow
def test_stopped_and_killed_it_continues_to_the_same_hashes(folder: Path, tmp_path: Path) -> None:
    store = {"incoming": {"kind": "folders", "folders": [str(folder / "incoming")]}}
    path = retrain(tmp_path, ingest=store)
    out = tmp_path / "out"
    stopped = begun(path, out)
    until(out, "network-0", stopped)
    stopped.send_signal(signal.SIGINT)
    _, told = stopped.communicate(timeout=120)
    assert stopped.returncode == 130, told
    assert "interrupted" in told
    killed = begun(path, out)
    until(out, "network-1", killed)
    killed.kill()
    killed.communicate(timeout=60)
    assert not (out / "bank").exists()
    last = begun(path, out)
    _, told = last.communicate(timeout=300)
    assert last.returncode == 0, told
    assert hashes(out / "steps") == {
        name: value
        for name, value in hashes(folder / "out" / "steps").items()
        if name in hashes(out / "steps")
    }
    assert serving(tmp_path) == serving(folder)


@pytest.mark.slow
@pytest.mark.enable_socket
def test_the_pages_are_served_on_this_machine_alone(folder: Path) -> None:
    import socket
    from urllib.error import URLError
    from urllib.request import urlopen

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "adaptmr.cli", "workflow", "ui", str(folder / "out")]
    with subprocess.Popen(
        [*command, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            while True:
                assert server.poll() is None
                try:
                    with urlopen(f"http://127.0.0.1:{port}/server_info", timeout=30) as answer:
                        told = json.loads(answer.read())
                    break
                except (URLError, ConnectionError, TimeoutError):
                    time.sleep(0.5)
            assert told["dagster_webserver_version"]
            listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
            places = {line.split()[1] for line in listening if line.split()[3] == "0A"}
            assert {place for place in places if place.endswith(f":{port:04X}")} == {
                f"0100007F:{port:04X}"
            }
        finally:
            os.killpg(server.pid, signal.SIGTERM)


@pytest.mark.slow
def test_a_disk_that_is_full_loses_nothing(folder: Path, tmp_path: Path) -> None:
    """Real ENOSPC: the first run has room for the beginning alone, the second for all."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=1m none {disk}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    store = {"incoming": {"kind": "folders", "folders": [str(folder / "incoming")]}}
    path = retrain(tmp_path, ingest=store | {"store": str(tmp_path / "store")})
    again = f"{sys.executable} -m adaptmr.cli workflow run {path} --out {disk}/out"
    script = f"{mount}; {again}; echo $?; mount -o remount,size=200m {disk}; {again} >&2; echo $?"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["3", "0"], done.stderr
    assert "Traceback" not in done.stderr
    assert serving(tmp_path) == serving(folder)
