"""The commands that take a reconstruction bank, from scans to images, intervals and records."""

import json
import shutil
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fastmri.evaluate import evaluate as fastmri_evaluate
from made_banks import MATRIX, Parts, acquired_with, make_bank, make_parts, make_scans

from adaptmr.data.doors import open_scan
from adaptmr.data.fastmri import write_scan
from adaptmr.data.scan import Scan, Stack
from adaptmr.reconstruction.bank.persistence import fingerprint, load
from adaptmr.sampling.decision import read_decisions
from adaptmr.sampling.frame import Positions
from adaptmr.sampling.selectors import SelectorName, selector
from adaptmr.workflows import banks, selection

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("parts")
    return make_parts(folder, make_scans(folder / "scans"), Positions.LINES)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, parts: Parts) -> Path:
    return make_bank(tmp_path_factory.mktemp("made") / "bank", parts, factor=2.0)


@pytest.fixture
def scan(parts: Parts) -> Path:
    return sorted(parts.scans.iterdir())[0]


def written(scan: Scan, path: Path) -> Path:
    """The scan as a file of that name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scan(replace(scan, name=path.name), path)
    return path


def complaints(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("adaptmr:")]


def test_images_intervals_and_record(
    run: Run, tmp_path: Path, parts: Parts, bank: Path, scan: Path
) -> None:
    out = tmp_path / "out"
    code, text, _ = run("reconstruct", parts.scans, "--bank", bank, "--out", out, "--json")
    assert code == 0
    told: dict[str, Any] = json.loads(text)
    assert told["errors"] == []
    assert len(told["files"]) == 2
    done, opened = told["files"][0], load(bank)
    assert done["source"] == str(scan)
    assert sum(done["pairs"]) == done["slices"] == 4
    assert done["slices_per_second"] == pytest.approx(4 / done["seconds"])
    assert done["acceleration"] == pytest.approx(opened.masks.masks[0].acceleration)
    assert done["interval"] == "90% of a new subject's pixels, in expectation"
    assert done["why_no_interval"] is None
    decisions = read_decisions(Path(done["decision"])).decisions
    assert Path(done["decision"]).name == f"{scan.stem}.decision.json"
    expected = opened.reconstruct(open_scan(scan))
    assert [one.choice for one in decisions] == [one.choice for one in expected.decisions]
    assert done["pairs"] == [[d.index for d in decisions].count(pair) for pair in range(3)]
    with h5py.File(done["output"]) as file:
        assert set(file) == {"reconstruction", "lower", "upper"}
        for name, stack in expected.stacks.items():
            assert file[name].dtype == np.float32
            np.testing.assert_array_equal(file[name][()], stack[:].numpy())
        assert file.attrs["bank"] == fingerprint(bank)
        assert file.attrs["interval"] == done["interval"]
    # Once more, for people.
    code, text, _ = run("reconstruct", scan, "--bank", bank, "--out", tmp_path / "again")
    assert code == 0
    assert "4 slices" in text
    assert "slices/s" in text


@pytest.mark.parametrize("batch", [1, 3])
def test_batches_do_not_change_the_images(
    run: Run, tmp_path: Path, bank: Path, scan: Path, batch: int
) -> None:
    images = []
    for size in (4, batch):
        out = tmp_path / str(size)
        command = ("reconstruct", scan, "--bank", bank, "--out", out, "--batch-size", size)
        assert run(*command)[0] == 0
        with h5py.File(out / scan.name) as file:
            images.append(file["reconstruction"][()])
    np.testing.assert_allclose(*images, rtol=1e-5, atol=1e-6 * images[0].max())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fastmri
def test_a_submission(run: Run, tmp_path: Path, parts: Parts, bank: Path, scan: Path) -> None:
    out = tmp_path / "out"
    code, text, _ = run(
        "reconstruct", parts.scans, "--bank", bank, "--out", out, "--submission", "--json"
    )
    assert code == 0
    told = json.loads(text)["files"][0]
    assert (told["decision"], told["interval"], told["why_no_interval"]) == (None, None, None)
    assert {file.name for file in out.iterdir()} == {file.name for file in parts.scans.iterdir()}
    with h5py.File(out / scan.name) as file:
        assert list(file) == ["reconstruction"]
        assert not file.attrs
    given = Namespace(
        target_path=parts.scans, predictions_path=out, acquisition=None, acceleration=None
    )
    theirs = fastmri_evaluate(given, "reconstruction_rss").means()
    code, text, _ = run("evaluate", "--predictions", out, "--targets", parts.scans, "--json")
    assert code == 0
    mean = json.loads(text)["mean"]
    for name in ("nmse", "psnr", "ssim"):
        assert mean[name] == pytest.approx(np.ravel(theirs[name.upper()])[0], abs=1e-6)


def test_the_shipped_bank_is_the_default(
    run: Run, tmp_path: Path, bank: Path, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (banks, selection):
        monkeypatch.setattr(module, "default_bank", lambda: bank)
    for command, name in (
        ("reconstruct", f"{scan.stem}.decision.json"),
        ("select", "decision.json"),
    ):
        out = tmp_path / command
        assert run(command, scan, "--out", out)[0] == 0
        (decision, *_) = read_decisions(out / name).decisions
        assert decision.bank == load(bank).masks.fingerprint


def test_without_a_shipped_bank(
    run: Run, tmp_path: Path, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(banks, "files", lambda _package: tmp_path / "empty")
    for command in ("reconstruct", "select"):
        code, _, err = run(command, scan, "--out", tmp_path / "out")
        assert (code, len(complaints(err))) == (2, 1)
        assert "--bank" in err


@pytest.mark.parametrize(
    "options",
    [
        ("--method", "wavelet"),
        ("--network", "network"),
        ("--mask", "random"),
        ("--acceleration", "8"),
        ("--center-fraction", "0.1"),
        ("--seed", "1"),
    ],
)
def test_a_bank_stands_alone(
    run: Run, tmp_path: Path, bank: Path, scan: Path, options: tuple[str, str]
) -> None:
    code, _, err = run("reconstruct", scan, "--bank", bank, *options, "--out", tmp_path / "out")
    assert (code, len(complaints(err))) == (2, 1)
    assert options[0] in err
    assert not (tmp_path / "out").exists()


def test_near_to_what(run: Run, tmp_path: Path, scan: Path) -> None:
    out = ("--out", tmp_path / "out")
    code, _, err = run("reconstruct", scan, "--method", "zero-filled", "--nearest", *out)
    assert (code, len(complaints(err))) == (2, 1)
    assert "--nearest" in err


def test_a_scan_acquired_with_a_mask(run: Run, tmp_path: Path, bank: Path, scan: Path) -> None:
    opened, masks = open_scan(scan), load(bank).masks
    known = written(acquired_with(opened, masks.masks[2]), tmp_path / "scans" / "known.h5")
    code, text, _ = run("reconstruct", known, "--bank", bank, "--out", tmp_path / "known", "--json")
    assert code == 0
    (done,) = json.loads(text)["files"]
    assert (done["pairs"], done["warnings"]) == (
        [0, 0, 4],
        ["interval of all strata: stratum 'AXT2, axial': not calibrated"],
    )
    (decision,) = read_decisions(Path(done["decision"])).decisions
    assert (decision.selector, decision.index) == ("as acquired", 2)

    positions = np.roll(masks.masks[2].positions, 1)
    other = replace(masks.masks[2], positions=positions, low_frequency=(0,))
    foreign = written(acquired_with(opened, other), tmp_path / "scans" / "foreign.h5")
    command = ("reconstruct", foreign, "--bank", bank, "--out", tmp_path / "foreign")
    code, _, err = run(*command)
    assert (code, len(complaints(err))) == (3, 1)
    assert "foreign.h5" in err
    assert "--nearest" in err
    assert not list((tmp_path / "foreign").glob("*"))
    code, text, err = run(*command, "--nearest", "--json")
    assert code == 0
    (done,) = json.loads(text)["files"]
    (flag,) = done["warnings"]
    assert "a mask that the bank does not have" in flag
    assert flag in done["why_no_interval"]
    with h5py.File(done["output"]) as file:
        assert list(file) == ["reconstruction"]
        assert file.attrs["notes"] == flag
    (decision,) = read_decisions(Path(done["decision"])).decisions
    assert (decision.selector, decision.reason) == ("nearest mask", flag)


def test_the_low_frequencies_first(run: Run, tmp_path: Path, bank: Path, scan: Path) -> None:
    opened, masks = open_scan(scan), load(bank).masks
    only = acquired_with(opened, masks.masks[0].low_frequency_only())
    first = written(only, tmp_path / "first.h5")
    code, _, err = run("reconstruct", first, "--bank", bank, "--out", tmp_path / "out")
    assert (code, len(complaints(err))) == (3, 1)
    assert "adaptmr select" in err
    choice = tmp_path / "choice"
    assert run("select", first, "--bank", bank, "--out", choice)[0] == 0
    decision = read_decisions(choice / "decision.json").decisions[0]
    # The scanner acquires the lines that were listed for the first slice.
    lines = [int(line) for line in (choice / "lines-000.txt").read_text().split()]
    assert lines == masks.masks[decision.index].lines()
    acquired = acquired_with(opened, masks.masks[decision.index])
    then = written(
        replace(acquired, kspace=Stack.of(acquired.kspace[:1]), target=None),
        tmp_path / "then.h5",
    )
    code, text, _ = run("reconstruct", then, "--bank", bank, "--out", tmp_path / "out", "--json")
    assert code == 0
    assert json.loads(text)["files"][0]["pairs"][decision.index] == 1


def test_bad_scans_are_passed_over(run: Run, tmp_path: Path, bank: Path, scan: Path) -> None:
    scans = tmp_path / "scans"
    opened = open_scan(scan)
    good = written(opened, scans / "a-good.h5")
    narrow = replace(
        opened,
        kspace=Stack.of(opened.kspace[:][..., 2:-2]),
        acquired=opened.acquired[2:-2],
        padding=(0, MATRIX[1] - 4),
        target=None,
        header=opened.header.model_copy(
            update={"encoded_matrix": None, "recon_matrix": None, "phase_limits": None}
        ),
    )
    written(narrow, scans / "narrow.h5")
    # As fastMRI's challenge files would look without their mask.
    shutil.copy(good, scans / "zeros.h5")
    with h5py.File(scans / "zeros.h5", "r+") as file:
        file["kspace"][..., ::2] = 0
    code, text, err = run("reconstruct", scans, "--bank", bank, "--out", tmp_path / "out", "--json")
    assert code == 3
    assert [Path(one["source"]).name for one in json.loads(text)["files"]] == ["a-good.h5"]
    first, second = complaints(err)
    assert "narrow.h5" in first
    assert "another matrix than the bank" in first
    assert "zeros.h5" in second
    assert "not measured everywhere" in second
    assert {file.stem for file in (tmp_path / "out").iterdir()} == {"a-good", "a-good.decision"}


def test_outputs_that_exist_stay(run: Run, tmp_path: Path, bank: Path, scan: Path) -> None:
    command = ("reconstruct", scan, "--bank", bank, "--out", tmp_path / "out")
    assert run(*command)[0] == 0
    for missing in ("none", f"{scan.stem}.h5", f"{scan.stem}.decision.json"):
        (tmp_path / "out" / missing).unlink(missing_ok=True)
        code, _, err = run(*command)
        assert (code, len(complaints(err))) == (3, 1)
        assert "--overwrite" in err
        assert not (tmp_path / "out" / missing).exists()
        assert run(*command, "--overwrite")[0] == 0


def test_a_damaged_bank(run: Run, tmp_path: Path, bank: Path, scan: Path) -> None:
    damaged = tmp_path / "bank"
    shutil.copytree(bank, damaged)
    weights = damaged / "networks" / "1" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    for command in ("reconstruct", "select"):
        code, _, err = run(command, scan, "--bank", damaged, "--out", tmp_path / "out")
        assert (code, len(complaints(err))) == (3, 1)
        assert str(weights) in err
    assert not (tmp_path / "out").exists()


def test_select_takes_all_from_the_bank(
    run: Run, tmp_path: Path, parts: Parts, bank: Path, scan: Path
) -> None:
    opened = load(bank)
    expected = opened.reconstruct(open_scan(scan)).decisions
    code, text, _ = run("select", scan, "--bank", bank, "--out", tmp_path / "own", "--json")
    assert code == 0
    told = json.loads(text)
    assert told["uncertainty"] == opened.uncertainty.model_dump(mode="json")
    found = read_decisions(Path(told["file"])).decisions
    assert [one.choice for one in found] == [one.choice for one in expected]
    # What is asked for beside it goes first.
    command = ("select", scan, "--bank", bank, "--selector", "captured", "--samples", "6")
    code, text, _ = run(*command, "--out", tmp_path / "other", "--json")
    assert code == 0
    told = json.loads(text)
    assert told["uncertainty"]["samples"] == 6
    decisions = read_decisions(Path(told["file"])).decisions
    assert {one.selector for one in decisions} == {"captured variance"}
    command = ("select", scan, "--bank", bank, "--sampler", parts.sampler)
    code, _, err = run(*command, "--out", tmp_path / "none")
    assert (code, len(complaints(err))) == (2, 1)
    assert "sampler of its own" in err


def test_a_bank_without_a_sampler(run: Run, tmp_path: Path, parts: Parts, scan: Path) -> None:
    fixed = make_bank(tmp_path / "bank", parts, selector(SelectorName.FIXED))
    for command in ("reconstruct", "select"):
        assert run(command, scan, "--bank", fixed, "--out", tmp_path / command)[0] == 0
    (file,) = (tmp_path / "reconstruct").glob("*.json")
    assert {one.sampler for one in read_decisions(file).decisions} == {None}
    with h5py.File(tmp_path / "reconstruct" / scan.name) as images:
        assert images.attrs["why_no_interval"] == "the bank was not calibrated"
