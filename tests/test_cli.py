"""The command line as a user meets it: outputs, exit codes, one-line errors, nothing half done."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.main import get_command

from adaptmr import cli


def _commands(group: Any, *path: str) -> list[tuple[str, ...]]:
    """The words of every command of a group, those of the groups in it too."""
    if not hasattr(group, "commands"):
        return [path]
    return [
        each for name in group.commands for each in _commands(group.commands[name], *path, name)
    ]


COMMANDS = sorted(_commands(get_command(cli.app)))
# They serve until they are stopped, and have no result.
SERVERS = {("schedule", "serve"), ("workflow", "ui")}
CLASSICAL = ("--method", "cg-sense")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small simulated scans."""
    folder = tmp_path_factory.mktemp("cli") / "scans"
    options = ["--subjects", "2", "--slices", "2", "--matrix", "48", "40", "--coils", "3", "--out"]
    subprocess.run(
        [sys.executable, "-m", "adaptmr.cli", "simulate", *options, str(folder)],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example(run: Run, command: tuple[str, ...]) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert f"adaptmr {' '.join(command)}" in out.split("Example:")[1]


@pytest.mark.parametrize("command", sorted({*COMMANDS} - SERVERS), ids=" ".join)
def test_every_command_speaks_json(run: Run, command: tuple[str, ...]) -> None:
    assert "--json" in run(*command, "--help")[1]


def test_usage_errors_end_with_2(run: Run, tmp_path: Path, scans: Path) -> None:
    out = tmp_path / "out"
    assert run("nonsense")[0] == 2
    assert run("reconstruct", scans)[0] == 2  # --out is missing
    assert run("reconstruct", scans, "--out", out, "--method", "magic")[0] == 2
    code, _, err = run("reconstruct", scans, *CLASSICAL, "--out", out, "--device", "cuda:99")
    assert (code, err.count("\n")) == (2, 1)
    assert "cuda:99" in err
    code, _, err = run("simulate", "--out", out, "--coils", "99")
    assert (code, err.count("\n")) == (2, 1)
    assert "coils" in err
    assert not out.exists()


def test_reconstruct_then_evaluate(run: Run, tmp_path: Path, scans: Path) -> None:
    out = tmp_path / "out"
    options = ("--mask", "random", "--acceleration", "3", "--center-fraction", "0.2", "--json")
    code, text, _ = run("reconstruct", scans, "--method", "cg-sense", *options, "--out", out)
    assert code == 0
    done = json.loads(text)
    assert done["errors"] == []
    assert sorted(f.name for f in out.iterdir()) == sorted(f.name for f in scans.iterdir())
    assert all(abs(one["acceleration"] - 3) < 0.1 for one in done["files"])
    code, text, _ = run("evaluate", "--predictions", out, "--targets", scans, "--json")
    found: dict[str, Any] = json.loads(text)
    assert code == 0
    assert found["protocol"] == "fastmri-volume"
    assert {"name", "nmse", "psnr", "ssim"} <= set(found["volumes"][0])
    assert found["excluded"] == []
    assert 0 < found["mean"]["nmse"] < 0.2
    assert "fastmri-volume" in run("evaluate", "--predictions", out, "--targets", scans)[1]


def test_reconstruct_writes_a_report(run: Run, tmp_path: Path, scans: Path) -> None:
    report = tmp_path / "report.html"
    options = ("--mask", "vd-2d", "--acceleration", "3", "--report", report)
    code, _, err = run(
        "reconstruct", scans, "--method", "zero-filled", *options, "--out", tmp_path / "out"
    )
    assert code == 0
    assert "retrospect" in err  # points on a 2-D scan
    html = report.read_text()
    assert html.count("<img") > 4
    assert "SSIM" in html


def test_an_undersampled_scan_is_reconstructed_as_it_is(
    run: Run, tmp_path: Path, scans: Path
) -> None:
    code, _, _ = run(
        "simulate", "--subjects", "1", "--slices", "1", "--matrix", "48", "48",
        "--dropped-lines", "0.4", "--out", tmp_path / "scans",
    )  # fmt: skip
    assert code == 0
    code, _, err = run(
        "reconstruct", tmp_path / "scans", *CLASSICAL, "--mask", "random", "--out", tmp_path / "a"
    )
    assert (code, err.count("\n")) == (3, 1)
    assert "undersampled" in err
    report = tmp_path / "report.html"
    code, text, _ = run(
        "reconstruct",
        tmp_path / "scans",
        *CLASSICAL,
        "--out",
        tmp_path / "b",
        "--report",
        report,
        "--json",
    )
    assert code == 0
    assert json.loads(text)["files"][0]["acceleration"] > 1.2
    assert "<img" in report.read_text()


def _damaged(kind: str, good: Path, bad: Path) -> None:
    """Write a damaged copy of a scan."""
    if kind == "empty":
        bad.write_bytes(b"")
        return
    if kind == "text":
        bad.write_text("not HDF5 at all\n" * 50)
        return
    if kind == "truncated":
        bad.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
        return
    bad.write_bytes(good.read_bytes())
    with h5py.File(bad, "r+") as file:
        kspace = file["kspace"][()]
        del file["kspace"]
        if kind == "nan":
            kspace[1, 0, 3, 3] = np.nan
        if kind == "real":
            kspace = np.abs(kspace)
        if kind == "real-imag":
            kspace = np.stack([kspace.real, kspace.imag], -1)
        if kind == "rank":
            kspace = kspace[0, 0]
        if kind == "header":
            kspace = kspace[..., :-6]
        if kind == "mask":
            file["mask"] = np.ones(7, dtype=bool)
        if kind != "missing":
            file["kspace"] = kspace


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("empty", "empty"),
        ("text", "HDF5"),
        ("truncated", "damaged"),
        ("missing", "kspace"),
        ("nan", "slice 1"),
        ("real", "complex"),
        ("real-imag", "complex"),
        ("rank", "axes"),
        ("header", "header"),
        ("mask", "mask"),
    ],
)
def test_a_bad_file_is_named_and_the_others_are_done(
    run: Run, tmp_path: Path, scans: Path, kind: str, told: str
) -> None:
    good, other = sorted(scans.iterdir())
    bad = tmp_path / f"bad_{kind}.h5"
    _damaged(kind, other, bad)
    out = tmp_path / "out"
    code, text, err = run(
        "reconstruct", bad, good, "--method", "zero-filled", "--out", out, "--json"
    )
    assert code == 3
    complaint = [line for line in err.splitlines() if line.startswith("adaptmr:")]
    assert len(complaint) == 1
    assert bad.name in complaint[0]
    assert told in complaint[0]
    assert [f.name for f in out.iterdir()] == [good.name]  # nothing partial, hidden or not
    assert json.loads(text)["errors"] == [complaint[0].removeprefix("adaptmr: ")]


@pytest.mark.parametrize("kind", ["empty", "truncated", "missing", "nan", "real", "mask"])
def test_inspect_says_what_would_be_refused(
    run: Run, tmp_path: Path, scans: Path, kind: str
) -> None:
    good, other = sorted(scans.iterdir())
    bad = tmp_path / "bad.h5"
    _damaged(kind, other, bad)
    code, text, _ = run("inspect", bad, good, "--json")
    assert code == 3
    found = json.loads(text)
    assert found["errors"] or found["files"][0]["refusals"]
    assert found["files"][-1]["refusals"] == []
    assert found["files"][-1]["shape"] == [2, 3, 48, 40]
    assert run("inspect", good)[0] == 0


def test_outputs_that_exist_stay(run: Run, tmp_path: Path, scans: Path) -> None:
    out = tmp_path / "out"
    one = ("reconstruct", scans, "--method", "zero-filled", "--out", out)
    assert run(*one)[0] == 0
    before = {f: f.stat().st_mtime_ns for f in out.iterdir()}
    code, _, err = run(*one)
    assert code == 3
    assert "--overwrite" in err
    assert {f: f.stat().st_mtime_ns for f in out.iterdir()} == before
    assert run(*one, "--overwrite")[0] == 0


def test_an_unwritable_output(run: Run, tmp_path: Path, scans: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, _, err = run("reconstruct", scans, *CLASSICAL, "--out", tmp_path / "file" / "out")
    assert code == 3
    assert "cannot be written" in err


def test_maps_without_a_low_frequency_block(run: Run, tmp_path: Path, scans: Path) -> None:
    code, _, err = run(
        "reconstruct",
        scans,
        *CLASSICAL,
        "--mask",
        "random",
        "--center-fraction",
        "0",
        "--out",
        tmp_path / "o",
    )
    assert code == 3
    assert "low-frequency" in err
    assert not any((tmp_path / "o").iterdir())


def test_convert_there_and_back(run: Run, tmp_path: Path, scans: Path) -> None:
    good = sorted(scans.iterdir())[0]
    assert run("convert", good, tmp_path / "scan.mrd")[0] == 0
    code, text, _ = run("convert", tmp_path / "scan.mrd", tmp_path / "scan.h5", "--json")
    assert code == 0
    assert Path(json.loads(text)["destination"]).is_file()
    with h5py.File(good) as first, h5py.File(tmp_path / "scan.h5") as second:
        np.testing.assert_array_equal(first["kspace"][()], second["kspace"][()])


def test_a_misspelt_key_of_a_training(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("data: scans\nepoch: 3\n")
    code, _, err = run("train", config, "--only", "network", "--out", tmp_path / "network")
    assert code == 3
    assert err.count("\n") == 1
    assert "epochs" in err or "architecture" in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_incomplete(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "scans"
    process = subprocess.Popen(
        [sys.executable, "-m", "adaptmr.cli", "simulate", "--subjects", "500", "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(out.glob("sim_*.h5")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "interrupted" in err
    assert [f.name for f in out.iterdir() if not f.name.startswith("sim_")] == []
    for file in out.iterdir():
        with h5py.File(file) as opened:
            assert opened["kspace"].shape[0] == 8
