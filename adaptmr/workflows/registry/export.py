"""What a registry tells, copied into MLflow, for sites that look at all their models in one place.

The registry stays what decides: MLflow is told of versions, verdicts and aliases, and nothing of
it is read back. Banks and single scores stay at home; means, cards and gate reports go there.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from adaptmr.data.manifest import MANIFEST
from adaptmr.errors import BadInputError, UsageError
from adaptmr.workflows.gates.comparison import by_subject, numbers
from adaptmr.workflows.gates.evidence import CaseValue, Evidence
from adaptmr.workflows.gates.result import ALL
from adaptmr.workflows.registry.log import Entry, Event
from adaptmr.workflows.registry.registry import Registry, State
from adaptmr.workflows.registry.version import RECORDS, read_evidence, read_version
from adaptmr.workflows.single_flight import single_flight

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ALIASES: Final = ("champion", "challenger", "previous")
_LOCK: Final = "export.lock"
_VERSION: Final = "adaptmr.version"
_OWNER: Final = "adaptmr.registry"
_SETTINGS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_DEFAULTS: Final = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""MLflow's own would have a server that is off noticed after minutes."""
_SQLITE: Final = "sqlite:///"
_MAGIC: Final = b"SQLite format 3\0"


class MlflowConfig(BaseModel):
    """Where a registry is copied to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    """``https://`` or ``http://`` of a server, or ``sqlite:///`` of a file. Passwords belong into
    the environment, as MLflow has them (``MLFLOW_TRACKING_USERNAME``, ...)."""
    model: str = Field(default="adaptmr", min_length=1)
    """Name of the registered model, and of the experiment with a run for each version."""


class Exported(BaseModel):
    """What MLflow was told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    where: str
    """The address, without a password."""
    model: str
    head: str
    """Hash of the last log entry that it was told of."""
    versions: dict[str, str]
    """Number in MLflow of each version."""
    changes: int
    """Versions, tags and aliases that were written now; 0 when MLflow knew all."""


def export(registry: Registry, config: MlflowConfig) -> Exported:
    """Have MLflow know all versions of a registry, and what its aliases stand for.

    Exporting again writes what changed since, and nothing else. A process that is killed leaves
    what the next export finishes.

    Args:
        registry: the registry.
        config: where to.

    Raises:
        UsageError: MLflow is not installed, the address is of another kind, or the model belongs
            to another registry.
        BadInputError: MLflow cannot be reached, or the registry was edited by hand.
        BusyError: another process exports the registry.
    """
    state = registry.state()
    with single_flight(registry.folder / _LOCK, "an export of the registry"), _reached(config.uri):
        told = _Told(_client(config.uri), config, state)
        return told.all_of(registry)


class _Told:
    """One export.

    Args:
        client: of MLflow.
        config: where to.
        state: of the registry.
    """

    def __init__(self, client: "MlflowClient", config: MlflowConfig, state: State) -> None:
        self.client, self.config, self.state = client, config, state
        self.changes = 0

    def all_of(self, registry: Registry) -> Exported:
        """Tell what is not known yet."""
        self._own()
        known = {
            each.tags[_VERSION]: each
            for each in self.client.search_model_versions(f"name='{self.config.model}'")
            if _VERSION in each.tags
        }
        found: dict[str, str] = {}
        for entry in self.state.entries:
            if entry.event is not Event.REGISTERED:
                continue
            version = entry.text("version")
            folder = registry.version_folder(version)
            tags = _tags(self.state, entry, folder)
            if version in known:
                number, old = known[version].version, known[version].tags
            else:
                number, old = self._new(folder, entry, tags), tags
                self.changes += 1
            found[version] = str(number)
            for name in (name for name, value in tags.items() if old.get(name) != value):
                self.client.set_model_version_tag(self.config.model, str(number), name, tags[name])
                self.changes += 1
        self._alias(found)
        return Exported(
            where=shown(self.config.uri),
            model=self.config.model,
            head=self.state.aliases.head,
            versions=found,
            changes=self.changes,
        )

    def _own(self) -> None:
        """Make the registered model, unless it is there; only ever of one registry."""
        model, mine = self.config.model, self.state.entries[0].hash
        models = self.client.search_registered_models(f"name='{model}'")
        if not models:
            self.client.create_registered_model(model, {_OWNER: mine})
            self.changes += 1
        elif (owner := models[0].tags.get(_OWNER)) != mine:
            raise UsageError(
                "the registered model of that name is not of this registry",
                field="model",
                got=f"{model} of {owner[:16] if owner else 'somebody else'}",
                expected=mine[:16],
                hint="Choose another name for the model",
            )

    def _new(self, folder: Path, entry: Entry, tags: Mapping[str, str]) -> str:
        """One more version, with a run that holds its numbers and records; the run comes first."""
        model, client, version = self.config.model, self.client, entry.text("version")
        experiment = client.get_experiment_by_name(model)
        number = (
            client.create_experiment(model, _artifacts(self.config.uri))
            if experiment is None
            else experiment.experiment_id
        )
        runs = client.search_runs([number], f"tags.`{_VERSION}` = '{version}'")
        moment = int(entry.time.timestamp() * 1000)
        run = (
            runs[0]  # of an export that was killed
            if runs
            else client.create_run(number, moment, {_VERSION: version}, run_name=version)
        )
        for name, value in means(read_evidence(folder)).items():
            client.log_metric(run.info.run_id, name, value, moment)
        for name in (*RECORDS, MANIFEST):
            client.log_artifact(run.info.run_id, str(folder / name))
        client.set_terminated(run.info.run_id, end_time=moment)
        made = client.create_model_version(
            model, run.info.artifact_uri, run.info.run_id, dict(tags)
        )
        return str(made.version)

    def _alias(self, numbers_of: Mapping[str, str]) -> None:
        """Have the aliases stand for what they stand for in the registry."""
        model = self.config.model
        # Numbers are text from a server, and numbers from a file.
        aliases = self.client.get_registered_model(model).aliases
        there = {alias: str(number) for alias, number in aliases.items()}
        for alias in _ALIASES:
            version = self.state.aliases.named(alias)
            number = None if version is None else numbers_of[version]
            if number == there.get(alias):
                continue
            if number is None:
                self.client.delete_registered_model_alias(model, alias)
            else:
                self.client.set_registered_model_alias(model, alias, number)
            self.changes += 1


def _tags(state: State, entry: Entry, folder: Path) -> dict[str, str]:
    """What is told of a version beside its numbers."""
    version, described = entry.text("version"), read_version(folder)
    later = [each for each in state.entries if each.details.get("version") == version]
    approved = dict.fromkeys(each.by for each in later if each.event is Event.APPROVED)
    withdrawn = any(each.event is Event.ROLLED_BACK for each in later)
    tags = {
        "version": version,
        "bank": described.bank,
        "parent": described.parent,
        "verdict": described.verdict.value,
        "gates": described.config,
        "manifest": entry.text("manifest"),
        "trigger": entry.text("trigger"),
        "approved_by": ", ".join(approved) or None,
        "withdrawn": "true" if withdrawn else None,
        "pruned": "true" if version in state.pruned else None,
    }
    return {f"adaptmr.{name}": value for name, value in tags.items() if value is not None}


def means(evidence: Evidence) -> dict[str, float]:
    """The mean over subjects of every metric of every task, all cases together."""
    series: dict[str, tuple[CaseValue, ...]] = {
        f"{one.task}/{one.metric}": one.values
        for one in (*evidence.measurements, *evidence.residuals)
    }
    for each in evidence.intervals:
        series |= {f"{each.task}/coverage": each.coverage, f"{each.task}/width": each.width}
    means = {}
    for name, values in series.items():
        subjects, known = numbers(values, ALL)
        if known:
            # What MLflow does not allow in names, a task of the user's may have.
            plain = re.sub(r"[^\w./ -]", "_", name)
            means[plain] = float(by_subject(subjects, known).mean())
    if evidence.seconds_per_slice is not None:
        means["seconds_per_slice"] = evidence.seconds_per_slice
    return means


def _client(uri: str) -> "MlflowClient":
    """A client, which tells nobody that it is used.

    Raises:
        UsageError: MLflow is missing, or the address is of another kind.
        BadInputError: the file is no database, or its folder cannot be made.
    """
    if uri.startswith(_SQLITE):
        _check_database(Path(uri.removeprefix(_SQLITE)))
    elif urlsplit(uri).scheme not in ("http", "https"):
        raise UsageError(
            "MLflow is not written to at such an address",
            field="uri",
            got=shown(uri),
            expected="https://SERVER, http://SERVER or sqlite:///FILE",
        )
    os.environ.update(_SETTINGS)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise UsageError(
            "an export to MLflow needs MLflow",
            got=error,
            hint="Install it with 'adaptmr[mlflow]'",
        ) from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _check_database(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        begins = b""
        if path.exists():
            with path.open("rb") as stream:
                begins = stream.read(len(_MAGIC))
    except OSError as error:
        raise BadInputError(
            "the database of MLflow cannot be opened", file=path, got=error.strerror
        ) from error
    if begins not in (b"", _MAGIC):
        raise BadInputError("the file is no database of SQLite", file=path, field="uri")


def _artifacts(uri: str) -> str | None:
    """Where files go: the server knows; beside a file, whatever the working directory."""
    if not uri.startswith(_SQLITE):
        return None
    return str(Path(uri.removeprefix(_SQLITE)).absolute().parent / "mlartifacts")


def shown(uri: str) -> str:
    """The address without a password that somebody wrote into it."""
    return re.sub(r"//[^/@]*@", "//", uri)


@contextmanager
def _reached(uri: str) -> Iterator[None]:
    """Tell what MLflow raises by name.

    Raises:
        BadInputError: it cannot be reached, or refuses.
    """
    try:
        yield
    except Exception as error:
        # Of a module that is perhaps not installed, and not loaded unless it raised this.
        if type(error).__module__.split(".")[0] not in ("mlflow", "requests", "sqlalchemy"):
            raise
        raise BadInputError(
            "MLflow cannot be reached, or refuses what it is told",
            field="uri",
            got=f"{shown(uri)}: {shown(str(error).splitlines()[0])[:200]}",
            hint="Check address and server, then export again: it goes on from there",
        ) from error
