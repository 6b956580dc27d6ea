"""A registry in MLflow: what it is told, that it is told once, and what it is not told."""

import json
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from made_evidence import gates
from made_registry import candidate, made_bank, serving
from made_workflows import training, values, write_ellipses, written

from adaptmr import cli
from adaptmr.errors import BadInputError, UsageError
from adaptmr.workflows.gates.evidence import Evidence
from adaptmr.workflows.orchestration.run import run_stage
from adaptmr.workflows.registry.export import MlflowConfig, export
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.stages import plan
from adaptmr.workflows.stages.config import load_workflow

# MLflow warns of itself, and so does SQLAlchemy of MLflow.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry", by="tester")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow with nothing in it, which takes it seconds to make."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture
def config(tmp_path: Path, empty: Path) -> MlflowConfig:
    (tmp_path / "served").mkdir()
    shutil.copyfile(empty, tmp_path / "served" / "mlflow.db")
    return MlflowConfig(uri=f"sqlite:///{tmp_path}/served/mlflow.db", model="knees")


def client(config: MlflowConfig) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(config.uri, config.uri)


def told(config: MlflowConfig) -> dict[str, Any]:
    """All that MLflow has, with the moments of its own."""
    of = client(config)
    found: dict[str, Any] = {"aliases": aliases(config)}
    for each in of.search_model_versions("name='knees'"):
        run = of.get_run(each.run_id)
        found[each.version] = dict(each.tags), each.last_updated_timestamp
        found[each.run_id] = run.data.to_dictionary(), run.info
    return found


def aliases(config: MlflowConfig) -> dict[str, str]:
    """What the aliases stand for in MLflow."""
    found = client(config).get_registered_model("knees").aliases
    return {alias: str(number) for alias, number in found.items()}


def test_versions_numbers_and_aliases_are_told_once(
    registry: Registry, config: MlflowConfig, tmp_path: Path
) -> None:
    first, second = serving(registry, tmp_path, ("a", "b"))
    review = candidate(made_bank(tmp_path / "c", "c"), registry, 0.9, gates(approvals=1))
    registry.freeze_gates(gates(approvals=1))
    third = registry.register(review)
    registry.approve(third, "seen")
    done = export(registry, config)
    assert list(done.versions) == [first, second, third]
    assert done.head == registry.state().aliases.head
    of = client(config)
    assert aliases(config) == {
        "champion": done.versions[second],
        "challenger": done.versions[third],
        "previous": done.versions[first],
    }
    found = of.get_model_version("knees", done.versions[third])
    assert found.tags["adaptmr.version"] == third
    assert found.tags["adaptmr.bank"] == review.evidence.bank
    assert found.tags["adaptmr.parent"] == review.gates.champion
    assert found.tags["adaptmr.verdict"] == "pass"
    assert found.tags["adaptmr.approved_by"] == "tester"
    assert "adaptmr.parent" not in of.get_model_version("knees", done.versions[first]).tags
    metrics = of.get_run(found.run_id).data.metrics
    each = [one.value for one in review.evidence.measurements[0].values]
    assert metrics == {"knee/ssim": pytest.approx(sum(map(float, each)) / len(each))}  # type: ignore[arg-type]
    there = {file.path for file in of.list_artifacts(found.run_id)}
    assert there == {"card.md", "gates.json", "gates.html", "manifest.json"}
    card = registry.version_folder(third) / "card.md"
    copy = of.download_artifacts(found.run_id, "card.md", str(tmp_path / "served"))
    assert Path(copy).read_bytes() == card.read_bytes()
    # Neither subjects nor weights go there, and nothing goes elsewhere.
    files = [file for file in (tmp_path / "served").rglob("*.*") if file.is_file()]
    assert not [file for file in files if file.suffix == ".safetensors"]
    assert not any(b"subject-3" in file.read_bytes() for file in files)
    before = told(config)
    assert export(registry, config) == done.model_copy(update={"changes": 0})
    assert told(config) == before


def test_a_rollback_moves_the_aliases(
    registry: Registry, config: MlflowConfig, tmp_path: Path
) -> None:
    first, second = serving(registry, tmp_path, ("a", "b"))
    export(registry, config)
    registry.rollback("champion", "blurred")
    done = export(registry, config)
    assert aliases(config) == {"champion": done.versions[first]}
    withdrawn = client(config).get_model_version("knees", done.versions[second])
    assert withdrawn.tags["adaptmr.withdrawn"] == "true"
    assert "blurred" not in withdrawn.tags.values()
    assert done.changes == 3  # two aliases and a tag
    registry.prune(0)
    assert export(registry, config).changes == 1


@pytest.mark.parametrize(
    "at", ["log_artifact", "create_model_version", "set_registered_model_alias"]
)
def test_an_export_that_was_cut_off_is_finished(
    registry: Registry,
    config: MlflowConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
) -> None:
    from mlflow import MlflowClient

    serving(registry, tmp_path, ("a", "b"))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, at, killed)
        with pytest.raises(KeyboardInterrupt):
            export(registry, config)
    done = export(registry, config)
    assert sorted(done.versions.values()) == ["1", "2"]
    of = client(config)
    experiment = of.get_experiment_by_name("knees").experiment_id
    assert [run.info.status for run in of.search_runs([experiment])] == ["FINISHED"] * 2
    assert export(registry, config).changes == 0


def test_a_model_of_another_registry_is_left_alone(
    registry: Registry, config: MlflowConfig, tmp_path: Path
) -> None:
    serving(registry, tmp_path, ("a",))
    export(registry, config)
    before = told(config)
    other = Registry(tmp_path / "other", by="somebody")
    serving(other, tmp_path / "others", ("b",))
    with pytest.raises(UsageError, match=r"not of this registry.*another name"):
        export(other, config)
    assert told(config) == before


@pytest.mark.enable_socket
def test_a_server_that_is_off_is_told_by_name(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving(registry, tmp_path, ("a",))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as taken:  # bound, so nobody else has it, and not listening
        taken.bind(("127.0.0.1", 0))
        uri = f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BadInputError, match="MLflow cannot be reached") as caught:
            export(registry, MlflowConfig(uri=uri))
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_a_retraining_exports_by_itself(config: MlflowConfig, tmp_path: Path) -> None:
    asked = values(
        "retrain",
        write_ellipses(tmp_path / "incoming", range(8)),
        training=training(width=None, masks={"masks": 1}, selection_fraction=0),
        split={"calibration": 0.0, "test": 0.4},
        registry=str(tmp_path / "registry"),
        gates={"metrics": {"ssim": {"margin": 0.5}}, "minimum_subjects": 2},
        mlflow=config.model_dump(),
    )
    workflow = load_workflow(written(tmp_path / "retrain.yaml", asked))
    assert run_stage(workflow, tmp_path / "out", "export").computed == ("export",)
    registry = Registry(tmp_path / "registry")
    of = client(config)
    assert of.get_model_version_by_alias("knees", "champion").tags["adaptmr.version"] == (
        registry.state().aliases.champion
    )
    assert plan.results(tmp_path / "out") is not None
    assert run_stage(workflow, tmp_path / "out", "export").computed == ()
    # What changes in the registry later is told by the next call.
    registry.freeze_gates(gates())
    assert plan.results(tmp_path / "out") is None
    assert run_stage(workflow, tmp_path / "out", "export").computed == ("export",)


def test_the_command(
    registry: Registry,
    config: MlflowConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serving(registry, tmp_path, ("a",))
    options = ["--registry", str(registry.folder), "--model", "knees", "--json"]
    monkeypatch.setattr(sys, "argv", ["adaptmr", "registry", "export", config.uri, *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out)["versions"] == {
        registry.state().aliases.champion: "1"
    }


def test_without_mlflow_it_says_what_to_install(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving(registry, tmp_path, ("a",))
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"needs MLflow.*adaptmr\[mlflow\]"):
        export(registry, MlflowConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"))


@pytest.mark.parametrize("uri", ["mlruns", "file:///mlruns", "postgresql://me:secret@host/db"])
def test_addresses_of_another_kind_are_refused(
    registry: Registry, tmp_path: Path, uri: str
) -> None:
    serving(registry, tmp_path, ("a",))
    with pytest.raises(UsageError, match="expected https") as caught:
        export(registry, MlflowConfig(uri=uri))
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_left_alone(registry: Registry, tmp_path: Path) -> None:
    serving(registry, tmp_path, ("a",))
    (tmp_path / "notes.txt").write_text("of somebody")
    with pytest.raises(BadInputError, match=r"notes\.txt.*no database"):
        export(registry, MlflowConfig(uri=f"sqlite:///{tmp_path}/notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == "of somebody"


def test_means_are_those_of_the_evidence() -> None:
    """Plain means over subjects; a subject with two scans counts once."""
    from adaptmr.workflows.registry.export import means

    values = [("a", 1.0), ("a", 3.0), ("b", 5.0)]
    cases = [
        {"case": f"{index}", "subject": subject, "strata": ["T1"], "value": value}
        for index, (subject, value) in enumerate(values)
    ]
    one = {"task": "knee & hip", "metric": "ssim", "better": "higher", "values": cases}
    evidence = Evidence.model_validate(
        {"bank": "b", "data": {}, "measurements": [one], "seconds_per_slice": 0.5}
    )
    assert means(evidence) == {"knee _ hip/ssim": 3.5, "seconds_per_slice": 0.5}
