"""The demonstration: honest comparisons on simulated scans and on one's own."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from browser import probe
from made_banks import (
    COILS,
    MATRIX,
    Parts,
    acquired_with,
    make_bank,
    make_parts,
    make_scans,
    scan_of,
)

from adaptmr.data.fastmri import write_scan
from adaptmr.data.simulation import SimulationConfig, simulate
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.persistence import load
from adaptmr.reconstruction.metrics import ProtocolName
from adaptmr.sampling.frame import Positions
from adaptmr.sampling.selectors import SelectorName, selector
from adaptmr.workflows import banks
from adaptmr.workflows.bank_training.config import SimulatedScans
from adaptmr.workflows.bank_training.preset_names import BankPreset
from adaptmr.workflows.bank_training.presets import preset
from adaptmr.workflows.demo import scans as shown
from adaptmr.workflows.demo.comparison import BEST, CHOICE, ORACLE, UNIFORM, Comparison, compare
from adaptmr.workflows.demo.pictures import way_of_a_scan
from adaptmr.workflows.demo.report import bank_part
from adaptmr.workflows.demo.run import REPORT, DemoResult, run_demo
from adaptmr.workflows.demo.scans import CELLS, UNSEEN, opened_scans
from adaptmr.workflows.report import Report, render_report

CLASSICAL = ("zero-filled", "cg-sense", "wavelet")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("parts")
    return make_parts(folder, make_scans(folder / "scans"), Positions.LINES)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, parts: Parts) -> Path:
    return make_bank(tmp_path_factory.mktemp("made") / "bank", parts, factor=2.0)


@pytest.fixture(scope="module")
def opened(bank: Path) -> ReconstructionBank:
    return load(bank)


@pytest.fixture(scope="module")
def found(opened: ReconstructionBank, parts: Parts) -> Comparison:
    return compare(opened, opened_scans(sorted(parts.scans.iterdir())))


def foreign(folder: Path, matrix: tuple[int, int], coils: int) -> Path:
    config = SimulationConfig(subjects=1, seed=9, matrix=matrix, slices=2, coils=coils)
    (file,) = simulate(config, folder)
    return file


def test_all_methods_see_the_same_slices_at_one_acceleration(found: Comparison) -> None:
    assert {method.metrics.shape for method in found.methods} == {(8, 3)}
    budget = found.bank.masks.masks[0].acceleration
    for method in found.methods:
        assert method.acceleration == pytest.approx(budget)


def test_ways_to_use_the_pairs(found: Comparison, parts: Parts) -> None:
    decisions = [
        decision.index
        for scan in found.examined.scans
        for decision in found.bank.reconstruct(scan).decisions
    ]
    assert found.chosen.tolist() == decisions
    ssim = {name: found.method(name).metrics[:, 0] for name in (UNIFORM, BEST, CHOICE, ORACLE)}
    torch.testing.assert_close(ssim[UNIFORM], found.pairs[..., 0].mean(1))
    assert torch.equal(ssim[BEST], found.pairs[:, found.bank.masks.best, 0])
    assert torch.equal(ssim[ORACLE], found.pairs[..., 0].amax(1))
    assert torch.equal(ssim[CHOICE], found.pairs[torch.arange(8), found.chosen, 0])


def chosen_as(found: Comparison, gains: list[float]) -> Comparison:
    """The comparison as if pair 1 had always been chosen, and gained so much over the best."""
    pairs = found.pairs.clone()
    pairs[..., 0] = 0.5
    pairs[:, 1, 0] += torch.tensor(gains, dtype=torch.float64)
    best = replace(found.bank, masks=replace(found.bank.masks, best=0))
    return replace(found, bank=best, pairs=pairs, chosen=torch.ones(8, dtype=torch.int64))


@pytest.mark.parametrize(
    ("gains", "told"),
    [
        ([0.02] * 8, "pays here"),
        ([-0.02] * 8, "costs here"),
        ([0.03] * 4 + [-0.01] * 4, "no sure difference"),
        ([0.0] * 8, "no sure difference"),
    ],
)
def test_the_verdict_follows_from_the_numbers(
    found: Comparison, gains: list[float], told: str
) -> None:
    part = bank_part(chosen_as(found, gains), "identity", "made up")
    assert told in part.verdict
    assert f"{sum(gains) / 8:+.4f} [" in part.verdict
    assert "n = 8 slices of 2 subjects" in part.verdict
    (row,) = (row for row in part.rows if row.method == CHOICE)
    assert row.gain == pytest.approx(sum(gains) / 8)
    assert row.gain_interval is not None
    assert row.gain_interval[0] <= row.gain <= row.gain_interval[1]


def checked_rows(result: DemoResult, n: int) -> None:
    assert [row.method for row in result.rows] == [
        *CLASSICAL,
        "wavelet",
        UNIFORM,
        BEST,
        CHOICE,
        ORACLE,
    ]
    assert {row.protocol for row in result.rows} == {ProtocolName.SLICE}
    assert {row.n for row in result.rows} == {n}


def test_unseen_subjects(
    tmp_path: Path, bank: Path, opened: ReconstructionBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "SUBJECTS", 1)
    result = run_demo(tmp_path / "out", bank=bank)
    checked_rows(result, len(CELLS))
    scans = opened_scans(sorted((tmp_path / "out" / "scans").iterdir()))
    assert {scan.matrix for scan in scans} == {MATRIX}
    assert {scan.coils for scan in scans} == {COILS}
    assert (
        len({scan.header.subject for scan in scans})
        == len({s.header.acquisition for s in scans})
        == 9
    )
    page = result.report.read_text(encoding="utf-8")
    assert result.report == tmp_path / "out" / REPORT
    assert page.count('class="framed"') == 3  # the chosen mask of each slice shown
    assert all(scan.name in page for scan in scans)
    assert result.verdict.split(".")[0] in page
    monkeypatch.setattr(shown, "CELLS", CELLS[:1])
    other = shown.simulated_scans(tmp_path / "other", opened.masks, seed=len(CELLS))
    assert not {scan.header.subject for scan in scans} & {scan.header.subject for scan in other}


def test_the_shipped_bank_is_made_for_these_scans_and_has_not_seen_them() -> None:
    data = preset(BankPreset.DEMO).data
    assert isinstance(data, SimulatedScans)
    for part in (data.training, data.calibration):
        assert {(one.orientation, contrast) for one in part for contrast in one.contrasts} == set(
            CELLS
        )
        assert all(one.seed < UNSEEN for one in part)
    assert len({(one.matrix, one.coils) for one in data.training + data.calibration}) == 1


def test_own_scans_that_fit(tmp_path: Path, parts: Parts, bank: Path) -> None:
    result = run_demo(tmp_path / "out", scans=[parts.scans], bank=bank)
    checked_rows(result, 8)
    assert all(row.interval is not None for row in result.rows)
    assert "8 slices of 2 subjects, your own" in result.verdict
    assert [file.name for file in (tmp_path / "out").iterdir()] == [REPORT]


def test_one_subject_gives_no_intervals(tmp_path: Path, parts: Parts, bank: Path) -> None:
    scan = sorted(parts.scans.iterdir())[0]
    result = run_demo(tmp_path / "out", scans=[scan], bank=bank)
    assert "cannot be told from one subject" in result.verdict
    assert {row.interval for row in result.rows} == {None}
    assert "too few subjects to judge" in result.report.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("matrix", "coils", "told"),
    [((24, 20), COILS, "24 × 20"), (MATRIX, 3, "3 coils")],
)
def test_own_scans_that_do_not_fit(
    tmp_path: Path, bank: Path, matrix: tuple[int, int], coils: int, told: str
) -> None:
    scan = foreign(tmp_path / "scans", matrix, coils)
    result = run_demo(tmp_path / "out", scans=[scan], bank=bank)
    assert "The bank does not fit" in result.verdict
    assert told in result.verdict
    assert [row.method for row in result.rows] == 2 * list(CLASSICAL)
    assert {row.protocol for row in result.rows} == {ProtocolName.FASTMRI_VOLUME}
    assert {row.gain for row in result.rows} == {None}
    page = result.report.read_text(encoding="utf-8")
    assert all(f"{scan.name} at {factor}x" in page for factor in (4, 8))


def test_scans_of_both_kinds(tmp_path: Path, parts: Parts, bank: Path) -> None:
    other = foreign(tmp_path / "scans", (24, 20), COILS)
    result = run_demo(tmp_path / "out", scans=[parts.scans, other], bank=bank)
    assert "8 slices" in result.verdict
    assert f"The bank does not fit: {other.name}" in result.verdict
    assert len(result.rows) == 8 + 6


def test_an_undersampled_scan_is_refused(tmp_path: Path, parts: Parts, bank: Path) -> None:
    scan = acquired_with(scan_of(parts), load(bank).masks.masks[0])
    write_scan(replace(scan, name="under.h5", target=None), tmp_path / "under.h5")
    with pytest.raises(BadInputError, match=r"under\.h5"):
        run_demo(tmp_path / "out", scans=[tmp_path / "under.h5"], bank=bank)
    assert not (tmp_path / "out").exists()


def test_a_bank_without_sampler_and_intervals(opened: ReconstructionBank, parts: Parts) -> None:
    plain = replace(
        opened,
        selector=selector(SelectorName.FIXED),
        sampler=None,
        sampler_fingerprint=None,
        width=None,
        calibration=None,
    )
    found = compare(plain, opened_scans(sorted(parts.scans.iterdir())))
    assert torch.equal(found.method(CHOICE).metrics, found.method(BEST).metrics)
    part = bank_part(found, "identity", "made up")
    page = render_report(Report("", part.verdict, part.sections))
    assert "Not judged: the bank was not calibrated." in page
    assert "promised" not in part.verdict
    assert way_of_a_scan(found).columns[:2] == ("Low frequencies", "Mask 0")
    assert way_of_a_scan(found).columns[-2:] == ("Image", "Error")


def test_the_command(
    run: Run, tmp_path: Path, parts: Parts, bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(banks, "default_bank", lambda: bank)
    code, out, _ = run("demo", parts.scans, "--out", tmp_path / "out")
    assert code == 0
    assert "Choosing the mask" in out
    assert out.splitlines()[-1].endswith(str(tmp_path / "out" / REPORT))
    code, _, err = run("demo", parts.scans, "--out", tmp_path / "out")
    assert code == 3
    assert "--overwrite" in err
    code, out, _ = run("demo", parts.scans, "--out", tmp_path / "out", "--overwrite", "--json")
    assert code == 0
    told = json.loads(out)
    assert len(told["rows"]) == 8
    assert {"method", "protocol", "n", "ssim", "psnr", "nmse", "acceleration", "interval"} <= set(
        told["rows"][0]
    )


@pytest.mark.slow
def test_the_report_in_a_browser(tmp_path: Path, parts: Parts, bank: Path) -> None:
    other = foreign(tmp_path / "scans", (24, 20), COILS)
    page = run_demo(tmp_path / "out", scans=[parts.scans, other], bank=bank).report
    wide = probe(page, tmp_path, "--window-size=1300,1600")
    assert (wide["broken"], wide["outside"]) == (0, [])
    assert probe(page, tmp_path, "--window-size=500,800", width=340)["outside"] == []
