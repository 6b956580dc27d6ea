"""Whether adaptive selection pays: from configuration to results."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_training import MATRIX, make_scans, values

from adaptmr.data.simulation import SimulationConfig, simulate
from adaptmr.errors import BadInputError
from adaptmr.workflows.bank_training import course, steps
from adaptmr.workflows.bank_training.steps import Steps
from adaptmr.workflows.benchmark import trial
from adaptmr.workflows.benchmark.config import Baseline, BenchmarkConfig
from adaptmr.workflows.benchmark.run import benchmark
from adaptmr.workflows.config import load_config

Compute = Callable[[Path, Path], object]
Run = Callable[..., tuple[int, str, str]]
OUTPUTS = ["config.yaml", "latency.json", "report.html", "results.json", "slices.csv"]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``train``, ``calibration`` and ``test``."""
    folder = make_scans(tmp_path_factory.mktemp("benchmark") / "scans")
    unseen = SimulationConfig(
        subjects=3, seed=9, matrix=MATRIX, slices=2, coils=2, contrasts=("T1", "T2")
    )
    assert len(list(simulate(unseen, folder / "test"))) == 6
    return folder


def written(scans: Path, **changes: Any) -> dict[str, Any]:
    """A configuration as it would stand in YAML."""
    training = values(scans, selector="loss-aware")
    return {
        "training": training | changes.pop("training", {}),
        "test": str(scans / "test"),
        "masks": [1, 2],
        "seeds": [0, 1],
        "policy": {"channels": 4, "pools": 2},
    } | changes


def config(scans: Path, **changes: Any) -> BenchmarkConfig:
    return BenchmarkConfig.model_validate(written(scans, **changes))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, scans: Path) -> Path:
    """A benchmark of all rows, without a stop."""
    out = tmp_path_factory.mktemp("measured") / "out"
    benchmark(config(scans), out)
    return out


@pytest.fixture(scope="module")
def results(measured: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((measured / "results.json").read_text())
    return found


def ssim(results: dict[str, Any], method: str, count: int | None = None) -> float:
    (row,) = [r for r in results["rows"] if (r["method"], r["J"]) == (method, count)]
    return float(row["ssim"])


@pytest.mark.slow
def test_all_rows_are_there(measured: Path, results: dict[str, Any]) -> None:
    assert sorted(file.name for file in measured.iterdir()) == OUTPUTS
    assert results["benchmark"] == "adaptive_selection"
    names = {(row["method"], row["J"]) for row in results["rows"]}
    assert len(names) == len(results["rows"])
    assert names >= {
        *((name, None) for name in ("random", "equispaced", "variable-density", "loupe", "policy")),
        *((f"{whose} mask, surrogate", None) for whose in ("own", "another's", "mean")),
        ("J = 1", 1),
        *((f"nearest centroid ({by})", 2) for by in ("euclidean", "cosine", "correlation")),
        *((name, 2) for name in ("captured variance", "loss-aware", "protocol prior")),
        *((name, 2) for name in ("pair 1", "pair 2", "best single", "uniform pick", "oracle")),
        *((name, 2) for name in ("best of seeds", "oracle of seeds")),
    }
    for row in results["rows"]:
        assert row["n"] == 12
        assert row["seeds"] == 2
        assert row["protocol"] == "slice"
        assert row["acceleration"] == 3  # all exactly
        assert row["interval"][0] <= row["ssim"] <= row["interval"][1]
        assert row["worst_5"] <= row["worst_10"] <= row["ssim"]
        assert sum(row["by_seed"]) / 2 == pytest.approx(row["ssim"])
    with (measured / "slices.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == len(names) * 2 * 12
    chosen = [line for line in lines if line["method"] == "loss-aware"]
    assert {line["pair"] for line in chosen} <= {"1", "2"}
    found = json.loads((measured / "latency.json").read_text())["seconds_per_slice"]
    assert {"any fixed mask", "loss-aware", "policy", "own mask"} < set(found)


@pytest.mark.slow
def test_orders_that_hold_by_construction(results: dict[str, Any]) -> None:
    pairs = [ssim(results, f"pair {index}", 2) for index in (1, 2)]
    uniform, oracle = ssim(results, "uniform pick", 2), ssim(results, "oracle", 2)
    assert min(pairs) <= uniform <= max(pairs) <= oracle
    assert uniform == pytest.approx(sum(pairs) / 2)
    assert ssim(results, "best single", 2) == pairs[0]
    assert ssim(results, "best of seeds", 2) <= ssim(results, "oracle of seeds", 2)
    selectors = [row for row in results["rows"] if row["kind"] == "selector"]
    assert len(selectors) == 6
    for row in selectors:
        assert row["ssim"] <= oracle
        assert row["realised"]["raw"] <= 1
    (room,) = results["head_room"]
    assert room["oracle"]["mean"] == pytest.approx(oracle - pairs[0])
    assert room["corrected"]["mean"] == pytest.approx(
        room["oracle"]["mean"] - room["seeds"]["mean"]
    )
    for confusion in results["confusion"]:
        assert sum(map(sum, confusion["counts"])) == 24
    for choices in results["choices"]:
        assert 0 <= choices["entropy"] <= 1
        assert sum(choices["shares"]) == pytest.approx(1)


@pytest.mark.slow
def test_intervals_and_cells_of_the_bank(results: dict[str, Any]) -> None:
    assert results["coverage"]["nominal"] == 0.9
    assert 0 <= results["coverage"]["coverage"]["mean"] <= 1
    assert results["why_no_coverage"] is None
    assert [cell["cell"] for cell in results["cells"]["cells"]] == ["AXT1, axial", "AXT2, axial"]
    assert [policy["seed"] for policy in results["policy"]] == [0, 1]


@pytest.mark.slow
def test_the_report_says_whether_it_pays(measured: Path, results: dict[str, Any]) -> None:
    page = (measured / "report.html").read_text()
    said = "pays" if results["pays"] else "does not pay"
    assert f"Adaptive selection {said} here" in results["verdict"]
    assert f"Adaptive selection {said} here" in page
    for part in (
        "Head-room over the best single pair",
        "oracle of seeds",
        "equispaced",
        "Coverage",
    ):
        assert part in page


@pytest.mark.slow
def test_the_same_again_is_read_from_the_run(
    measured: Path, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    for name in ("train_network", "train_learned", "measure"):
        monkeypatch.setattr(trial, name, never)
    monkeypatch.setattr(course, "train_network", never)
    before = {name: (measured / name).read_bytes() for name in OUTPUTS}
    with pytest.raises(BadInputError, match="exists already"):
        benchmark(config(scans), measured)
    fewer = benchmark(config(scans, seeds=[1], rows=["per-scan"]), measured, overwrite=True)
    assert fewer.why_no_coverage is None
    assert next(row.method for row in fewer.rows if row.J is None) == "own mask, surrogate"
    by_psnr = benchmark(config(scans, metric="psnr"), measured, overwrite=True)
    psnr = {(row.method, row.J): row.psnr for row in by_psnr.rows}
    assert max(psnr["pair 1", 2], psnr["pair 2", 2]) <= psnr["oracle", 2]
    benchmark(config(scans), measured, overwrite=True)
    assert load_config(measured / "config.yaml", BenchmarkConfig) == config(scans)
    for name in ("config.yaml", "results.json", "slices.csv"):
        assert (measured / name).read_bytes() == before[name]


@pytest.mark.slow
def test_stopped_and_continued_gives_the_same_results(
    measured: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every attempt ends after a few new steps, and no step is ever computed twice."""
    computed: list[str] = []
    done = Steps.done

    def counted(
        self: Steps, name: str, version: int, reads: Any, needs: Any, compute: Compute
    ) -> steps.Step:
        def watched(result: Path, work: Path) -> None:
            if computed and len(computed) % 17 == 0 and computed[-1] != "stop":
                computed.append("stop")
                raise KeyboardInterrupt
            compute(result, work)
            computed.append(name)

        return done(self, name, version, reads, needs, watched)

    monkeypatch.setattr(Steps, "done", counted)
    out, attempts = tmp_path / "out", 0
    while not out.exists():
        attempts += 1
        try:
            benchmark(config(scans), out)
        except KeyboardInterrupt:
            assert not out.exists()
    assert attempts > 3
    names = [name for name in computed if name != "stop"]
    folders = [f for f in (tmp_path / "out.run").glob("*/*") if f.is_dir()]
    assert len(names) == len(folders)
    for name in ("results.json", "slices.csv"):
        assert (out / name).read_bytes() == (measured / name).read_bytes()


def test_test_subjects_that_were_seen_are_refused(scans: Path, tmp_path: Path) -> None:
    for part, what in (("train", "trained"), ("calibration", "calibrated")):
        test = shutil.copytree(scans / "test", tmp_path / part)
        leaked = sorted((scans / part).iterdir())[0]
        shutil.copy(leaked, test / f"renamed_{leaked.name}")
        with pytest.raises(BadInputError, match=f"a subject of the test is {what} on"):
            benchmark(config(scans, test=str(test), seeds=[0]), tmp_path / f"out-{part}")


def test_what_does_not_fit_is_refused(scans: Path, tmp_path: Path, run: Run) -> None:
    with pytest.raises(Exception, match="equispaced"):
        config(scans, rows=["equispaced"], training={"positions": "points"})
    with pytest.raises(Exception, match="surrogate"):
        config(scans, rows=["per-scan"], training={"surrogate": None})
    with pytest.raises(Exception, match="twice"):
        config(scans, seeds=[1, 1])
    with pytest.raises(Exception, match="the verdict needs a choice"):
        config(scans, training={"masks": {"masks": 1}})
    with pytest.raises(BadInputError, match="fitted on at least two subjects"):
        benchmark(config(scans, training={"selection_fraction": 0.2}), tmp_path / "out")
    without = config(scans, training={"surrogate": None, "positions": "points"})
    assert set(Baseline) - set(without.baselines) == {Baseline.EQUISPACED, Baseline.PER_SCAN}
    file = tmp_path / "benchmark.yaml"
    file.write_text(yaml.safe_dump(written(scans, mask=[1])))
    code, out, err = run("benchmark", file, "--out", tmp_path / "out")
    assert (code, out) == (3, "")
    assert "Did you mean 'masks'?" in err


@pytest.mark.slow
def test_from_the_command_line(measured: Path, scans: Path, tmp_path: Path, run: Run) -> None:
    shutil.copytree(measured.with_name("out.run"), tmp_path / "out.run")
    file = tmp_path / "benchmark.yaml"
    file.write_text(yaml.safe_dump(written(scans)))
    code, out, _ = run("benchmark", file, "--out", tmp_path / "out", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "out" / "results.json").read_text())
