"""Faults that are planted into the data of a retraining are stopped by a gate."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import pytest
import torch
from made_kspace import smooth_maps
from made_workflows import MATRIX, ellipses, training, values, written

from adaptmr.data.fastmri import write_scan
from adaptmr.data.scan import Scan, Stack
from adaptmr.errors import GateError
from adaptmr.kernels.fourier import fourier
from adaptmr.workflows.gates.config import Verdict
from adaptmr.workflows.gates.result import Check, Gate
from adaptmr.workflows.orchestration.run import run_stage
from adaptmr.workflows.registry.judged import read_judged
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.stages.config import Retrain, load_workflow
from adaptmr.workflows.stages.ingest import SCANS, stored, subject_key
from adaptmr.workflows.stages.split import Part, SplitConfig, part_of

SPLIT = SplitConfig(calibration=0.3, test=0.3)
GATES = {
    "metrics": {"ssim": {"margin": 0.03}},
    "minimum_subjects": 3,
    "resamples": 1000,
    "coverage": {"tolerance": 0.12, "wider": 5.0},
}
pytestmark = pytest.mark.slow


def numbers(part: Part, start: int) -> Iterator[int]:
    """Numbers from a start of subjects that are put into a part."""
    return (n for n in count(start) if part_of(subject_key(f"subject-{n}"), SPLIT) is part)


def write(folder: Path, part: Part, start: int, many: int, change: Callable[[Scan], Scan]) -> None:
    """Scans of new subjects of one part."""
    for number in islice(numbers(part, start), many):
        scan = change(ellipses(f"subject-{number}", number))
        write_scan(scan, folder / f"{part}-{number}.h5")


def config(folder: Path, epochs: int = 1, learning_rate: float = 1e-4) -> Retrain:
    """The retraining of a folder."""
    schedule = {"accelerator": "cpu", "batch_size": 2, "epochs": 8, "learning_rate": 3e-3}
    recipe = training(pairs=schedule, width=schedule | {"epochs": 3}, masks={"masks": 1})
    whole = {
        "registry": str(folder / "registry"),
        "gates": GATES,
        "further": schedule | {"epochs": epochs, "learning_rate": learning_rate},
        "ingest": {
            "incoming": {"kind": "folders", "folders": [str(folder / "incoming")]},
            "store": str(folder / "store"),
        },
    }
    found = values("retrain", folder / "incoming", **whole, training=recipe)
    loaded = load_workflow(written(folder / "retrain.yaml", found))
    assert isinstance(loaded, Retrain)
    return loaded


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank that serves, with what it was made of."""
    folder = tmp_path_factory.mktemp("served")
    for part, many in ((Part.TRAIN, 8), (Part.CALIBRATION, 12), (Part.TEST, 6)):
        write(folder / "incoming", part, 0, many, lambda scan: scan)
    run_stage(config(folder), folder / "out", "register")
    assert Registry(folder / "registry").champion() is not None
    return folder


@pytest.fixture
def site(served: Path, tmp_path: Path) -> Path:
    """A copy of all that is there, to plant a fault into."""
    shutil.copytree(served, tmp_path / "site", ignore=shutil.ignore_patterns("out"))
    return tmp_path / "site"


def stopped(site: Path, retraining: Retrain) -> list[Check]:
    """The checks that fail; the bank that served serves still, and the error says why."""
    registry = Registry(site / "registry")
    before = registry.champion()
    with pytest.raises(GateError) as error:
        run_stage(retraining, site / "out", "gates")
    with pytest.raises(GateError):
        run_stage(retraining, site / "out", "register")
    assert registry.champion() == before
    _, report = read_judged(site / "out" / "gates")
    assert report.verdict is Verdict.FAIL
    failed = [check for check in report.checks if check.verdict is Verdict.FAIL]
    assert report.reasons[0] in str(error.value)
    assert all(check.spare is not None and check.spare < 0 for check in failed)
    return failed


def blob(scan: Scan) -> Scan:
    """One smooth spot in place of the ellipses: there is nothing to learn from it."""
    rows, columns = (torch.linspace(-1, 1, size) for size in MATRIX)
    spot = torch.exp(-4 * (rows[:, None] ** 2 + columns**2)).expand(2, *MATRIX)
    kspace = fourier(spot[:, None].to(torch.complex64) * smooth_maps(2, MATRIX, torch.complex64))
    return replace(scan, kspace=Stack.of(kspace), target=Stack.of(spot.clone()), maximum=1.0)


def test_more_of_the_same_passes(site: Path) -> None:
    write(site / "incoming", Part.TRAIN, 1000, 3, lambda scan: scan)
    run_stage(config(site), site / "out", "register")
    assert len(Registry(site / "registry").state().versions) == 2


def test_poisoned_targets_are_a_regression(site: Path) -> None:
    def poisoned(scan: Scan) -> Scan:
        assert scan.target is not None
        return replace(scan, target=Stack.of(scan.target[:].flip(1)))

    write(site / "incoming", Part.TRAIN, 1000, 16, poisoned)
    failed = stopped(site, config(site, epochs=6, learning_rate=3e-3))
    assert Gate.NON_INFERIORITY in {check.gate for check in failed}


def test_old_scans_that_were_erased_are_forgotten(site: Path) -> None:
    for scan in stored(site / "store"):
        if part_of(scan.subject, SPLIT) is Part.TRAIN:
            (site / "store" / SCANS / scan.file).unlink()
    for file in (site / "incoming").glob(f"{Part.TRAIN}-*"):
        file.unlink()
    write(site / "incoming", Part.TRAIN, 1000, 8, blob)
    failed = stopped(site, config(site, epochs=20, learning_rate=1e-2))
    assert Gate.NON_INFERIORITY in {check.gate for check in failed}


def test_scans_that_are_too_easy_to_calibrate_on_are_a_drift(site: Path) -> None:
    write(site / "incoming", Part.CALIBRATION, 1000, 40, blob)
    failed = stopped(site, config(site))
    assert {check.gate for check in failed} == {Gate.COVERAGE}
