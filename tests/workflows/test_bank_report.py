"""The report of files that a bank reconstructed: what it says is what was written."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from browser import probe
from made_banks import Parts, acquired_with, make_bank, make_parts, make_scans

from adaptmr.data.doors import open_scan
from adaptmr.data.fastmri import write_scan
from adaptmr.data.scan import Scan
from adaptmr.data.simulation import SimulationConfig, simulate
from adaptmr.reconstruction.bank.persistence import load
from adaptmr.reconstruction.calibration.region import object_region
from adaptmr.sampling.frame import Positions
from adaptmr.workflows.slice_pictures import various

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("parts")
    return make_parts(folder, make_scans(folder / "scans"), Positions.LINES)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, parts: Parts) -> Path:
    return make_bank(tmp_path_factory.mktemp("made") / "bank", parts, factor=2.0)


def written(scan: Scan, path: Path) -> Path:
    """The scan as a file of that name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scan(replace(scan, name=path.name), path)
    return path


def verdict(page: str) -> str:
    found = re.search(r'<p class="verdict">(.*?)</p>', page, re.DOTALL)
    assert found is not None
    return " ".join(found.group(1).replace("&#39;", "'").split())


def share_between_bounds(source: Path, images: Path) -> float:
    """Of the object's pixels, mean over slices; from the files alone."""
    with h5py.File(source) as scan, h5py.File(images) as file:
        target = scan["reconstruction_rss"][()]
        image, lower, upper = (file[name][()] for name in ("reconstruction", "lower", "upper"))
    region = object_region(torch.from_numpy(image)).numpy()
    inside = (lower <= target) & (target <= upper)
    return float(np.mean([each[where].mean() for each, where in zip(inside, region, strict=True)]))


def test_choices_bounds_and_refusals(run: Run, tmp_path: Path, parts: Parts, bank: Path) -> None:
    sources = sorted(parts.scans.iterdir())
    config = SimulationConfig(subjects=1, seed=9, matrix=(24, 20), slices=1, coils=2)
    (narrow,) = simulate(config, tmp_path / "scans")
    out, report = tmp_path / "out", tmp_path / "report.html"
    code, text, _ = run(
        "reconstruct", *sources, narrow, "--bank", bank, "--out", out, "--report", report, "--json"
    )
    assert code == 3
    files, page = json.loads(text)["files"], report.read_text(encoding="utf-8")
    used = np.sum([one["pairs"] for one in files], axis=0)
    told = ", ".join(f"mask {pair} for {count}" for pair, count in enumerate(used) if count)
    assert f"8 slices of 2 scans reconstructed at {files[0]['acceleration']:.2f}x" in verdict(page)
    assert f"with a choice of 3 masks: {told}." in verdict(page)
    assert f"Promised between the bounds: {files[0]['interval']}." in verdict(page)
    shares = [share_between_bounds(one, out / one.name) for one in sources]
    assert all(0 < share < 1 for share in shares)
    assert f"known in full: {np.mean(shares):.1%}." in verdict(page)
    assert "1 file refused" in verdict(page)
    assert re.search(rf"{re.escape(narrow.name)}.*another matrix than the bank", page, re.DOTALL)
    assert page.count('class="framed"') == 4  # the chosen mask of each slice shown
    for column in ("Low frequencies", "Uncertainty", "Mask 2", "Image", "Interval, ±", "Error"):
        assert f">{column}<" in page
    for share in shares:
        assert f">{share:.3f}<" in re.sub(r"\s+", "", page)


def test_scans_acquired_with_a_mask_show_no_evidence_and_no_error(
    run: Run, tmp_path: Path, parts: Parts, bank: Path
) -> None:
    scan, mask = open_scan(sorted(parts.scans.iterdir())[0]), load(bank).masks.masks[1]
    known = written(acquired_with(scan, mask), tmp_path / "known.h5")
    rolled = replace(mask, positions=np.roll(mask.positions, 1), low_frequency=(0,))
    other = written(acquired_with(scan, rolled), tmp_path / "other.h5")
    out, report = ("--out", tmp_path / "out"), tmp_path / "report.html"
    code, _, _ = run(
        "reconstruct", known, other, "--bank", bank, "--nearest", *out, "--report", report
    )
    assert code == 0
    page = report.read_text(encoding="utf-8")
    assert "known in full" not in page
    assert "1 scan without bounds: the calibration is of other scans" in verdict(page)
    for column in ("Low frequencies", "Uncertainty", "Error"):
        assert f">{column}<" not in page
    assert "The mask that was used is framed" in page
    assert "a mask that the bank does not have" in page


def test_nothing_was_good(run: Run, tmp_path: Path, bank: Path) -> None:
    (tmp_path / "broken.h5").write_bytes(b"nothing")
    report = tmp_path / "report.html"
    command = ("reconstruct", tmp_path / "broken.h5", "--bank", bank, "--out", tmp_path / "out")
    assert run(*command, "--report", report)[0] == 3
    page = report.read_text(encoding="utf-8")
    assert verdict(page) == "1 file refused: see Data for the reasons."
    assert "broken.h5" in page


def test_a_submission_has_nothing_to_report(
    run: Run, tmp_path: Path, parts: Parts, bank: Path
) -> None:
    command = ("reconstruct", parts.scans, "--bank", bank, "--out", tmp_path / "out")
    code, _, err = run(*command, "--submission", "--report", tmp_path / "report.html")
    assert code == 2
    assert "--report and --submission" in err
    assert list(tmp_path.iterdir()) == []


def test_slices_of_various_traits() -> None:
    traits = [("a", 1), ("a", 1), ("a", 2), ("b", 1), ("b", 3)]
    assert various(traits, 2) == [0, 4]
    assert various(traits, 3) == [0, 2, 4]
    assert various(traits, 9) == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_the_report_in_a_browser(run: Run, tmp_path: Path, parts: Parts, bank: Path) -> None:
    page = tmp_path / "report.html"
    run("reconstruct", parts.scans, "--bank", bank, "--out", tmp_path / "out", "--report", page)
    wide = probe(page, tmp_path, "--window-size=1300,1600")
    assert (wide["broken"], wide["outside"]) == (0, [])
    assert probe(page, tmp_path, "--window-size=500,800", width=340)["outside"] == []
