"""Sensors: what changed is told by name, what did not change is not, and nothing is promoted."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from made_registry import candidate, made_bank

from adaptmr.data.doors import open_scan
from adaptmr.data.fastmri import write_scan
from adaptmr.data.scan import Scan, Stack
from adaptmr.data.simulation import SimulationConfig, simulate
from adaptmr.errors import BadInputError, GateError
from adaptmr.sampling.decision import Decision, ScanDecisions, write_decisions
from adaptmr.workflows.gates.config import GateConfig
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.registry.trigger import Trigger
from adaptmr.workflows.scheduling.cron import Cron
from adaptmr.workflows.scheduling.drift import Chart, DriftConfig, Kind, Observation, drift
from adaptmr.workflows.scheduling.due import run_due
from adaptmr.workflows.scheduling.observation import _decay, observe
from adaptmr.workflows.scheduling.schedules import Schedules
from adaptmr.workflows.scheduling.watch import Watch, sense

CONFIG = DriftConfig()
Run = Callable[..., tuple[int, str, str]]


def scans(
    count: int, seed: int = 0, stratum: str = "AXT2, axial", **shift: float
) -> list[Observation]:
    """Scans of two statistics, one of which never changes but by a shift."""
    generator = np.random.default_rng(seed)
    return [
        Observation(
            file=f"{stratum}-{seed}-{index}",
            subject=f"{stratum}-{seed}-{index}",
            stratum=stratum,
            statistics={
                "noise": -30 + float(generator.standard_normal()) + shift.get("noise", 0.0),
                "coils": 16 + shift.get("coils", 0.0),
            },
        )
        for index in range(count)
    ]


def test_nothing_changed() -> None:
    assert drift(CONFIG, scans(50), scans(100, 1)) == ()


@pytest.mark.parametrize("shift", [-3.0, 3.0])
def test_a_jump_is_told_soon(shift: float) -> None:
    (alarm,) = drift(CONFIG, scans(50), scans(60, 1, noise=shift))
    assert (alarm.statistic, alarm.kind) == ("noise", Kind.COVARIATE)
    assert alarm.scans <= 15
    assert alarm.reference == pytest.approx(-30, abs=0.5)
    assert alarm.now == pytest.approx(-30 + shift, abs=1.0)


def test_a_small_shift_is_told_by_the_sum() -> None:
    (alarm,) = drift(CONFIG, scans(100), scans(200, 1, noise=1.2))
    assert alarm.chart is Chart.CUSUM


def test_what_never_changed_is_told_at_once() -> None:
    (alarm,) = drift(CONFIG, scans(50), scans(20, 1, coils=-4.0))
    assert (alarm.statistic, alarm.reference, alarm.now) == ("coils", 16, 12)
    assert alarm.scans <= 5


def test_kinds_are_not_compared_with_each_other() -> None:
    """T1 differs from T2 by far, but each is as it was."""
    before = [*scans(40), *scans(40, stratum="AXT1, axial", noise=20.0)]
    new = [*scans(40, 1), *scans(40, 2, stratum="AXT1, axial", noise=20.0)]
    mixed = [new[index] for index in np.random.default_rng(0).permutation(80)]
    assert drift(CONFIG, before, mixed) == ()


def test_other_shares_of_the_kinds_are_prevalence() -> None:
    before = [*scans(40), *scans(40, stratum="AXT1, axial")]
    alarms = drift(CONFIG, before, scans(60, 1))
    assert {(one.kind, one.statistic) for one in alarms} == {
        (Kind.PREVALENCE, "share of all scans")
    }
    (foreign, *_) = drift(CONFIG, scans(40), scans(20, 1, stratum="CORPD, coronal"))
    assert foreign.kind is Kind.PREVALENCE


def test_one_odd_scan_is_no_drift() -> None:
    new = scans(100, 1)
    odd = {"noise": 1e6, "coils": 1.0}
    new[50] = new[50].model_copy(update={"statistics": odd})
    assert drift(CONFIG, scans(50), new) == ()


def test_a_short_reference_says_nothing() -> None:
    assert drift(CONFIG, scans(29), scans(100, 1, noise=10.0)) == ()


def test_defaults_seldom_cry_wolf_and_do_cry() -> None:
    false = sum(bool(drift(CONFIG, scans(40, s), scans(200, s + 1000))) for s in range(60))
    found = sum(
        bool(drift(CONFIG, scans(40, s), scans(40, s + 1000, noise=2.0))) for s in range(60)
    )
    assert false <= 8
    assert found >= 57


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """One simulated scan, that the others are made of."""
    config = SimulationConfig(subjects=1, seed=5, matrix=(48, 40), slices=2, coils=4, snr=40)
    folder = tmp_path_factory.mktemp("simulated")
    assert len(list(simulate(config, folder))) == 1
    scan = open_scan(next(folder.glob("*.h5")))
    return replace(scan, kspace=Stack.of(scan.kspace[:]))


def arrived(scan: Scan, folder: Path, name: str, coils: int = 4, noise: float = 0.01) -> Path:
    """The scan as that of another subject, with more noise and fewer coils."""
    kspace = scan.kspace[:][:, :coils]
    generator = torch.Generator().manual_seed(int.from_bytes(name.encode()) % 2**31)
    level = noise * float(kspace.abs().square().mean().sqrt())
    drawn = torch.randn((*kspace.shape, 2), generator=generator)
    path = folder / f"{name}.h5"
    made = replace(
        scan,
        name=path.name,
        kspace=Stack.of(kspace + level * torch.view_as_complex(drawn)),
        header=scan.header.model_copy(update={"subject": name}),
        noise=None,
    )
    folder.mkdir(exist_ok=True)
    write_scan(made, path)
    return path


def test_statistics_of_scans(tmp_path: Path, usual: Scan) -> None:
    first = observe(arrived(usual, tmp_path, "a")).statistics
    noisy = observe(arrived(usual, tmp_path, "b", noise=1.0)).statistics
    fewer = observe(arrived(usual, tmp_path, "c", coils=2)).statistics
    assert (first["coils"], first["readout positions"], first["phase positions"]) == (4, 48, 40)
    assert fewer["coils"] == 2
    assert noisy["noise level"] > first["noise level"] + 3
    assert noisy["decay"] < first["decay"]


def test_decay_of_known_kspace() -> None:
    """Energy that falls with a power of the distance."""
    rows, columns = torch.arange(128) - 64, torch.arange(96) - 48
    distance = torch.hypot(rows[:, None].double(), columns[None].double()).clamp(min=0.5)
    for exponent in (1.0, 2.0, 3.5):
        energy = distance.pow(-exponent)
        assert _decay(energy, torch.Size((128, 96))) == pytest.approx(exponent, abs=0.15)


def decision(chosen: int) -> Decision:
    return Decision.model_validate(
        {"slice_index": None, "index": chosen, "selector": "s", "scores": [0.0, 1.0, 2.0],
         "distances": None, "fallback": False, "reason": None, "samples": None, "rejected": None,
         "inputs": "i", "bank": "b", "mask": "m", "sampler": None, "versions": {}, "latency_ms": 1}
    )  # fmt: skip


def test_shares_of_the_masks(tmp_path: Path, usual: Scan) -> None:
    scan = arrived(usual, tmp_path, "scan")
    records = ScanDecisions(scan="scan.h5", decisions=tuple(map(decision, (0, 2, 2, 2))))
    write_decisions(records, tmp_path / "scan.decision.json")
    found = observe(scan, tmp_path).statistics
    assert {name: found[f"mask {name}"] for name in range(3)} == {0: 0.25, 1: 0.0, 2: 0.75}
    assert "mask 0" not in observe(scan, tmp_path / "none").statistics


@pytest.fixture
def arriving(tmp_path: Path, usual: Scan) -> Path:
    """A folder in which three scans lie."""
    for number in range(3):
        arrived(usual, tmp_path / "arriving", f"old-{number}")
    return tmp_path / "arriving"


def test_enough_new_subjects_ask_for_a_run(tmp_path: Path, arriving: Path, usual: Scan) -> None:
    watch, seen = Watch(folder=arriving, new_subjects=2), tmp_path / "seen"
    assert sense(watch, seen).trigger is None, "what is there at first is known"
    arrived(usual, arriving, "new-0")
    assert sense(watch, seen)[0::3] == (None, 1)
    (arriving / "broken.h5").write_bytes(b"no scan")
    arrived(usual, arriving, "new-1")
    sensed = sense(watch, seen)
    assert (sensed.trigger, sensed.new_subjects) == (Trigger.SUBJECTS, 2)
    assert "1 files that cannot be read" in sensed.reasons
    assert "new-1" not in seen.read_text()
    watch.settle(seen)
    assert sense(watch, seen).trigger is None
    os.utime(arriving / "new-1.h5", ns=(1, 1))  # copied again: another file, no other subject
    assert sense(watch, seen).trigger is None


def test_a_schedule_looks_and_runs_when_it_is_asked(
    tmp_path: Path, arriving: Path, usual: Scan
) -> None:
    ran: list[Trigger] = []
    yaml, now = tmp_path / "retrain.yaml", datetime(2026, 6, 1, 12, tzinfo=UTC)
    yaml.write_text("workflow: retrain\n")
    schedules = Schedules(tmp_path / "schedules")
    watch = Watch(folder=arriving, new_subjects=1)
    schedules.add(yaml, Cron.checked("0 * * * *", "UTC"), tmp_path / "out", watch=watch, now=now)

    def look(hours: int) -> Trigger | None:
        def run(_: object, trigger: Trigger) -> int:
            ran.append(trigger)
            return 0

        (one,) = run_due(schedules, run, now=now + timedelta(hours=hours))
        return one.trigger

    assert look(1) is None
    arrived(usual, arriving, "new")
    assert look(1) is None, "not due"
    assert look(2) is Trigger.SUBJECTS
    assert look(3) is None
    assert ran == [Trigger.SUBJECTS]


def test_drift_opens_a_candidate_that_waits_for_a_person(tmp_path: Path, usual: Scan) -> None:
    folder, seen = tmp_path / "arriving", tmp_path / "seen"
    watch = Watch(folder=folder, new_subjects=1, drift=DriftConfig(reference=10))
    for number in range(10):
        arrived(usual, folder, f"old-{number}")
    assert sense(watch, seen).trigger is None
    for number in range(4):
        arrived(usual, folder, f"new-{number}", coils=2)
    sensed = sense(watch, seen)
    assert sensed.trigger is Trigger.DRIFT
    assert "coils" in {alarm.statistic for alarm in sensed.alarms}
    assert any("drift (covariate) of coils" in reason for reason in sensed.reasons)
    registry = Registry(tmp_path / "registry", by="tester")
    gates = GateConfig.model_validate({"metrics": {"ssim": {"margin": 0.005}}})
    registry.freeze_gates(gates)
    one = candidate(made_bank(tmp_path / "bank"), registry, config=gates, trigger=sensed.trigger)
    version = registry.register(one)
    with pytest.raises(GateError, match="a drift alarm asked for it, which promotes nothing"):
        registry.promote(version)
    assert registry.champion() is None


def test_bad_folders_and_files(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="does not exist"):
        sense(Watch(folder=tmp_path / "none", new_subjects=1), tmp_path / "seen")
    (tmp_path / "empty").mkdir()
    watch = Watch(folder=tmp_path / "empty", new_subjects=1)
    assert sense(watch, tmp_path / "seen").new_subjects == 0
    (tmp_path / "seen").write_text("[]")
    with pytest.raises(BadInputError, match="what was seen of scans"):
        sense(watch, tmp_path / "seen")


def test_the_command_watches(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "retrain.yaml").write_text("workflow: retrain\n")
    add = ("schedule", "add", "retrain.yaml", "--out", "o", "--cron", "@hourly")
    code, text, _ = run(*add, "--watch", "in", "--new-subjects", "5", "--drift", "--json")
    assert code == 0
    watch = json.loads(text)["watch"]
    assert (watch["folder"], watch["new_subjects"]) == (str(tmp_path / "in"), 5)
    assert watch["drift"]["reference"] == CONFIG.reference
