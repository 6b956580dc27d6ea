"""From configurations to task networks, sequences, records, pictures and a report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from made_studies import COUNTS, MATRIX, make_study

from adaptmr.continual.task import Judgement
from adaptmr.continual.task_files import load_task
from adaptmr.data.manifest import MANIFEST, sha256
from adaptmr.data.participants import Part
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.bank import persistence as banks
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.varnet import VarNetConfig
from adaptmr.sampling.bank import MaskBank
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.selection import UncertaintyConfig
from adaptmr.sampling.selector import FixedBest
from adaptmr.workflows.continual import report as reports
from adaptmr.workflows.continual.config import SequenceConfig, TaskConfig
from adaptmr.workflows.continual.run import LOCK, RECORD, read_record, run_sequence
from adaptmr.workflows.continual.slices import read_slices
from adaptmr.workflows.continual.tasks import train_task
from adaptmr.workflows.single_flight import single_flight

PAIRS = 2


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two masks with untrained networks."""
    folder = tmp_path_factory.mktemp("bank")
    spec = MaskSpec(kind=MaskKind.RANDOM, acceleration=2, center_fraction=0.2)
    masks = tuple(make_mask(spec, MATRIX, seed=seed) for seed in range(PAIRS))
    small = VarNetConfig(cascades=1, channels=4, pools=1, map_channels=2, map_pools=1)
    for pair in range(PAIRS):
        checkpoint.save(checkpoint.build(small, pair), folder / str(pair), {})
    banks.assemble(
        folder / "bank",
        masks=MaskBank(masks, torch.ones(PAIRS, *MATRIX), (1,) * PAIRS),
        networks=[folder / str(pair) for pair in range(PAIRS)],
        sampler=None,
        selector=FixedBest(),
        uncertainty=UncertaintyConfig(),
        width=None,
        calibration=None,
        provenance={},
    )
    return folder / "bank"


def _tissue(study: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "tissue",
        "study": {"kind": "scans", "folder": str(study)},
        "annotation": {"kind": "map", "classes": [[1], [2, 3, 4]]},
        "network": {
            "kind": "trained",
            "architecture": {"kind": "unet", "channels": [4, 8], "outputs": 3},
            "training": {"epochs": 2, "batch_size": 4, "accelerator": "cpu"},
        },
    } | changes


def _lesion(study: Path) -> dict[str, Any]:
    return {
        "name": "lesion",
        "study": {"kind": "scans", "folder": str(study)},
        "annotation": {"kind": "presence", "dataset": "lesions", "numbers": [1, 2, 3, 4]},
        "metric": "likelihood",
        "adapter": {"layout": "volumes"},
        "network": {
            "kind": "trained",
            "architecture": {
                "kind": "resnet", "channels": [4, 4, 4, 4], "dimensions": 3, "outputs": 2
            },
            "training": {"epochs": 1, "accelerator": "cpu"},
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def tasks(study: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tasks")
    for values in (_tissue(study), _lesion(study)):
        train_task(TaskConfig.model_validate(values), folder / values["name"])
    return {name: folder / name for name in ("tissue", "lesion")}


def _sequence(
    study: Path, tasks: dict[str, Path], bank: Path, kind: str, **learner: Any
) -> dict[str, Any]:
    where = {"kind": "scans", "folder": str(study)}
    return {
        "bank": str(bank),
        "reconstruction": {"study": where},
        "tasks": [{"task": str(folder), "study": where} for folder in tasks.values()],
        "strategy": {"kind": kind},
        "learner": {"steps": 2, "every": 1, "batch_size": 2, "accelerator": "cpu"} | learner,
    }


def test_task_in_a_folder(study: Path, tasks: dict[str, Path], tmp_path: Path) -> None:
    stored = load_task(tasks["tissue"])
    assert len(stored.description.subjects) == sum(
        COUNTS[part] for part in (Part.TASK_TRAINING, Part.TASK_VALIDATION)
    )
    assert load_task(tasks["lesion"]).volumes
    config = TaskConfig.model_validate(_tissue(study))
    with pytest.raises(BadInputError, match="exists already"):
        train_task(config, tasks["tissue"])
    again = train_task(config, tmp_path / "again")
    assert again.judgement is Judgement.SEGMENTATION
    weights = [sha256(f / "network" / "weights.safetensors") for f in (again.task, tasks["tissue"])]
    assert weights[0] == weights[1]


def test_a_network_from_elsewhere(study: Path, tmp_path: Path) -> None:
    module = torch.nn.Conv2d(1, 3, 3, padding=1)
    traced = torch.export.export(
        module,
        (torch.zeros(2, 1, *MATRIX),),
        dynamic_shapes=({0: torch.export.Dim("slices", min=1, max=64)},),
    )
    torch.export.save(traced, tmp_path / "network.pt2")
    given = {"kind": "given", "file": str(tmp_path / "network.pt2")}
    found = train_task(TaskConfig.model_validate(_tissue(study, network=given)), tmp_path / "task")
    assert 0 <= found.score <= 1
    # It was trained on nobody here: only those who chose it are known to it.
    assert len(load_task(tmp_path / "task").description.subjects) == COUNTS[Part.TASK_VALIDATION]


@pytest.mark.slow
def test_sequences_and_their_report(
    study: Path, tasks: dict[str, Path], bank: Path, tmp_path: Path
) -> None:
    runs = []
    for kind in ("naive", "most", "joint", "per-task"):
        config = SequenceConfig.model_validate(_sequence(study, tasks, bank, kind))
        record = run_sequence(config, tmp_path / kind)
        assert [task.name for task in record.tasks] == ["reconstruction", "tissue", "lesion"]
        assert len(record.pairs) == PAIRS
        runs.append(tmp_path / kind)
    found = reports.report(runs, tmp_path / "report.html")
    measures = {each.strategy: each for each in found.measures}
    assert "forgetting" in measures["naive"].values
    assert measures["naive"].intransigence is not None  # for there are networks for each task alone
    assert not measures["joint"].values
    assert not measures["per-task"].values
    assert measures["most"].buffer_bytes > measures["naive"].buffer_bytes == 0
    assert len(found.matrices["naive"]) == 3
    assert len(found.matrices["joint"]) == 2
    page = (tmp_path / "report.html").read_text()
    for text in ("Forgetting", "after stage 2: lesion", "The same slice after each stage: most"):
        assert text in page
    # What is done is not done again, and networks end in the bank.
    stages = sorted(runs[1].glob("*/*/network"))
    before = [sha256(stage / MANIFEST) for stage in stages]
    run_sequence(SequenceConfig.model_validate(_sequence(study, tasks, bank, "most")), runs[1])
    assert [sha256(stage / MANIFEST) for stage in stages] == before
    learned = banks.load(runs[1] / "bank")
    last = checkpoint.load(runs[1] / "1" / "2" / "network").state_dict()
    assert all(torch.equal(v, last[n]) for n, v in learned.networks[1].state_dict().items())


@pytest.mark.slow
def test_slices_are_drawn(study: Path, tasks: dict[str, Path], bank: Path, tmp_path: Path) -> None:
    run_sequence(SequenceConfig.model_validate(_sequence(study, tasks, bank, "naive")), tmp_path)
    drawn = [each for each, _ in read_slices(tmp_path)]
    columns = ["fully sampled", "zero-filled", "0: reconstruction", "1: tissue", "2: lesion"]
    assert [each.column for each in drawn if each.task == "tissue"] == columns
    assert all(each.lines for each in drawn if each.task == "lesion")
    kinds = {each.task: png[25] for each, png in read_slices(tmp_path)}  # colour type of a PNG
    assert (kinds["tissue"], kinds["reconstruction"]) == (2, 3)


@pytest.mark.slow
def test_sequences_of_other_tasks_are_not_compared(
    study: Path, tasks: dict[str, Path], bank: Path, tmp_path: Path
) -> None:
    for name, some in (("both", tasks), ("one", {"tissue": tasks["tissue"]})):
        config = SequenceConfig.model_validate(_sequence(study, some, bank, "naive", steps=1))
        run_sequence(config, tmp_path / name)
    with pytest.raises(BadInputError, match="other tasks"):
        reports.report([tmp_path / "both", tmp_path / "one"], tmp_path / "report.html")
    with pytest.raises(BadInputError, match="a sequence of tasks"):
        read_record(tmp_path)


@pytest.mark.slow
def test_commands(
    study: Path,
    bank: Path,
    tmp_path: Path,
    run: Callable[..., tuple[int, str, str]],
) -> None:
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(_tissue(study)))
    code, out, err = run(
        "continual", "train-task", tmp_path / "task.yaml", "--out", tmp_path / "t", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["judgement"] == "segmentation"
    for seed in (0, 1):
        values = _sequence(study, {"t": tmp_path / "t"}, bank, "naive", seed=seed, steps=1)
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
        place = tmp_path / f"run-{seed}"
        code, out, err = run("continual", "run", tmp_path / "run.yaml", "--out", place)
        assert code == 0, err
        assert f"The bank is in {place / 'bank'}" in out
        assert (place / RECORD).is_file()
    with single_flight(place / LOCK, "a test"):
        code, _, err = run("continual", "run", tmp_path / "run.yaml", "--out", place)
        assert (code, "another process" in err) == (75, True)
        code, _, err = run("continual", "erase", place, "--subject", "x")
        assert (code, "another process" in err) == (75, True)
    code, out, err = run(
        "continual", "report", tmp_path / "run-0", tmp_path / "run-1",
        "--out", tmp_path / "both.html", "--json",
    )  # fmt: skip
    assert code == 0, err
    (measures,) = json.loads(out)["measures"]
    assert (measures["strategy"], measures["seeds"]) == ("naive", 2)
    values = _tissue(study, annotation={"kind": "map", "dataset": "none", "classes": [[1], [2]]})
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(values))
    code, _, err = run("continual", "train-task", tmp_path / "task.yaml", "--out", tmp_path / "n")
    assert code == 3
    assert "'none': a dataset is missing" in err
