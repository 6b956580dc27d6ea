"""Real banks before the gates, by the commands: planted faults are stopped, the champion serves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_banks import Parts, make_bank, make_parts
from made_banks import make_scans as bank_scans
from safetensors.torch import load_file, save_file

from adaptmr.data.doors import open_scan
from adaptmr.data.manifest import write_manifest
from adaptmr.data.simulation import SimulationConfig, simulate
from adaptmr.efficiency import accelerate as accelerating
from adaptmr.reconstruction.bank.persistence import fingerprint, load
from adaptmr.reconstruction.consistency import data_consistency_residual
from adaptmr.reconstruction.metrics import PROTOCOLS, ProtocolName
from adaptmr.sampling.frame import Positions
from adaptmr.workflows.gates.evidence import Evidence
from adaptmr.workflows.gates.measure import measure
from adaptmr.workflows.registry.registry import Registry

Run = Callable[..., tuple[int, str, str]]
SUBJECTS = 4

GATES = """\
tests:
  brain: {tests}
gates:
  metrics:
    ssim: {{margin: 0.02}}
    psnr: {{margin: 0.5}}
  minimum_subjects: 3
  resamples: 1000
  residual_increase: 0.2
  coverage: {{tolerance: 0.4, wider: 0.5}}
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("parts")
    return make_parts(folder, bank_scans(folder / "scans"), Positions.LINES)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, parts: Parts) -> Path:
    return make_bank(tmp_path_factory.mktemp("made") / "bank", parts, factor=30.0)


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tests")
    config = SimulationConfig(subjects=SUBJECTS, seed=9, matrix=(32, 28), slices=2, coils=2)
    assert len(list(simulate(config, folder))) == SUBJECTS
    return folder


@pytest.fixture(scope="module")
def known(bank: Path, tests: Path) -> Evidence:
    return measure(bank, {"brain": tests})


def planted(bank: Path, to: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """The bank with all weights of its networks changed, and manifests that fit."""
    shutil.copytree(bank, to)
    for network in sorted((to / "networks").iterdir()):
        file = network / "weights.safetensors"
        save_file(change(load_file(file)), file)
        write_manifest(network)
    write_manifest(to)
    load(to)
    return to


def louder(weights: dict[str, Any]) -> dict[str, Any]:
    return {name: 4 * value for name, value in weights.items()}


def test_evidence_is_what_the_bank_does(bank: Path, tests: Path, known: Evidence) -> None:
    assert known.bank == fingerprint(bank)
    assert {(m.task, m.metric) for m in known.measurements} == {
        ("brain", metric) for metric in ("ssim", "psnr", "nmse")
    }
    opened, file = load(bank), sorted(tests.glob("*.h5"))[0]
    scan = open_scan(file)
    assert scan.target is not None
    result = opened.reconstruct(scan)
    expected = PROTOCOLS[ProtocolName.FASTMRI_VOLUME](result.image[:], scan.target[:])
    one = next(m for m in known.measurements if m.metric == "ssim").values[0]
    assert one.value == pytest.approx(expected.ssim, abs=1e-6)
    assert one.strata[1] == "2 coils"
    assert file.stem not in known.model_dump_json(), "no name of a file is told"
    (intervals,) = known.intervals
    assert intervals.nominal == pytest.approx(0.9)
    assert all(0 <= (v.value or 0) <= 1 for v in intervals.coverage)
    assert known.seconds_per_slice is not None
    assert known.trained_on == ()


def test_evidence_is_the_same_again(bank: Path, tests: Path, known: Evidence) -> None:
    again = measure(bank, {"brain": tests})
    assert again.identity == known.identity


def test_evidence_is_of_the_bank_as_it_reconstructs(
    bank: Path, tests: Path, known: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerating, "_SMALL_PIXELS", 0)
    prepared: list[torch.device] = []
    prepare = accelerating.Accelerated._prepare

    def spy(self: accelerating.Accelerated, device: torch.device) -> None:
        prepared.append(device)
        prepare(self, device)

    monkeypatch.setattr(accelerating.Accelerated, "_prepare", spy)
    found = measure(bank, {"brain": tests})
    assert prepared
    for one, before in zip(found.measurements, known.measurements, strict=True):
        values = [value.value for value in before.values]
        assert [value.value for value in one.values] == pytest.approx(values, rel=1e-4)
    assert measure(bank, {"brain": tests}).identity == found.identity


@pytest.mark.parametrize("small", [0, 1 << 14], ids=["accelerated", "as they are"])
def test_weights_that_are_not_finite_are_no_numbers(
    bank: Path, tests: Path, tmp_path: Path, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerating, "_SMALL_PIXELS", small)
    broken = planted(
        bank, tmp_path / "bad", lambda w: {n: torch.full_like(v, torch.nan) for n, v in w.items()}
    )
    found = measure(broken, {"brain": tests})
    assert all(v.value is None for m in found.measurements for v in m.values)


def test_subjects_that_the_bank_was_made_from_are_told(
    bank: Path, tests: Path, tmp_path: Path
) -> None:
    seen = shutil.copytree(bank, tmp_path / "seen")
    described = json.loads((seen / "bank.json").read_text())
    subject = open_scan(sorted(tests.glob("*.h5"))[0]).header.subject
    described["provenance"] = {"data": {"training_subjects": [subject, "someone"]}}
    (seen / "bank.json").write_text(json.dumps(described, indent=1) + "\n")
    write_manifest(seen)
    assert len(measure(seen, {"brain": tests}).trained_on) == 1


def test_residual_is_least_for_the_image_itself(tests: Path, bank: Path) -> None:
    scan, mask = open_scan(sorted(tests.glob("*.h5"))[0]), load(bank).masks.masks[0]
    kspace = scan.kspace[0][None]
    assert scan.target is not None
    target = scan.target[0][None]
    right, wrong, nothing = (
        float(data_consistency_residual(image, kspace, mask)[0])
        for image in (target, target.flip(-1), torch.zeros_like(target))
    )
    assert right < 0.75 * wrong
    assert nothing == pytest.approx(1.0)
    scaled = data_consistency_residual(3 * target, 3 * kspace, mask)
    assert float(scaled[0]) == pytest.approx(right, rel=1e-4)


def test_from_bank_to_champion_and_back(
    run: Run,
    tmp_path: Path,
    bank: Path,
    parts: Parts,
    tests: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gates.yaml").write_text(GATES.format(tests=tests))
    code, _, err = run("registry", "list")
    assert code == 3
    assert "no registry here" in err
    assert run("registry", "freeze", "gates.yaml")[0] == 0
    first = added(run, bank, "first")
    assert run("registry", "promote")[0] == 0

    bad = planted(bank, tmp_path / "bad", louder)
    code, text, _ = run(
        "registry", "gate", bad, "--config", "gates.yaml", "--out", "bad-judged", "--json"
    )
    assert code == 4
    told = json.loads(text)
    assert told["verdict"] == "fail"
    worst = next(
        check
        for check in told["checks"]
        if check["gate"] == "non-inferiority" and check["metric"] == "ssim"
    )
    assert worst["spare"] < 0
    assert "FAIL" in (tmp_path / "bad-judged" / "gates.html").read_text()
    drifted = make_bank(tmp_path / "drifted", parts, factor=1.0)
    arguments = ("registry", "gate", drifted, "--config", "gates.yaml", "--out", "drifted-judged")
    code, text, _ = run(*arguments, "--json")
    assert code == 4
    failed = [one for one in json.loads(text)["checks"] if one["verdict"] == "fail"]
    assert {one["gate"] for one in failed} == {"coverage"}
    assert all(one["spare"] < 0 for one in failed)

    code, _, err = run("registry", "register", bad, "--judged", "bad-judged")
    assert code == 4
    assert "the bank that serves stays" in err
    assert champion(run) == first

    other = planted(bank, tmp_path / "other", lambda w: {n: 1.0001 * v for n, v in w.items()})
    second = added(run, other, "second")
    assert second != first
    assert run("registry", "promote", second[:6])[0] == 0
    code, text, _ = run("registry", "show", "champion")
    assert code == 0
    assert f"# Bank version {second}" in text
    assert (
        run("registry", "rollback", "champion", "--reason", "blurred", "--by", "A. Physicist")[0]
        == 0
    )
    assert champion(run) == first
    code, _, err = run("registry", "promote", second)
    assert code == 4
    assert "withdrawn before" in err
    code, _, _ = run("registry", "approve", second, "--by", "A. Physicist", "--reason", "looked")
    assert code == 0
    assert run("registry", "promote", second)[0] == 0
    code, text, _ = run("registry", "audit", "--json")
    events = [entry["event"] for entry in json.loads(text)["entries"]]
    assert events.count("promoted") == 3
    assert events[-3:] == ["rolled back", "approved", "promoted"]
    assert run("registry", "prune", "--keep", "0")[0] == 0
    code, text, _ = run("registry", "verify", "--json")
    assert (code, json.loads(text)["problems"]) == (0, [])
    assert load(Registry(tmp_path / "registry").champion() or tmp_path).provenance
    weights = next((tmp_path / "registry" / "versions" / second).rglob("*.safetensors"))
    weights.write_bytes(b"")
    code, _, err = run("registry", "verify")
    assert code == 3
    assert weights.name in err


def added(run: Run, bank: Path, name: str) -> str:
    """The version of a bank that passes."""
    arguments = ("registry", "gate", bank, "--config", "gates.yaml", "--out", name)
    code, text, err = run(*arguments)
    assert code == 0, text + err
    code, text, err = run("registry", "register", bank, "--judged", name, "--json")
    assert code == 0, err
    return str(json.loads(text)["version"])


def champion(run: Run) -> str:
    code, text, _ = run("registry", "list", "--json")
    assert code == 0
    (one,) = (v for v in json.loads(text)["versions"] if "champion" in v["aliases"])
    return str(one["version"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gates: {metrics: {ssim: {margin: 0.01}}}", "tests"),
        ("tests: {brain: none}\ngates: {metrics: {ssim: {margn: 0.01}}}", "Did you mean 'margin'"),
        ("tests: {brain: none}\ngates: {metrics: {ssim: {margin: 0.01}}}", "does not exist"),
    ],
)
def test_bad_gates_are_named(
    run: Run, tmp_path: Path, bank: Path, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gates.yaml").write_text(text)
    code, _, err = run("registry", "gate", bank, "--config", "gates.yaml", "--out", "judged")
    assert code == 3
    assert said in err
    assert not (tmp_path / "judged").exists()
