"""The stages that every workflow begins with: from files to the folders that are trained on."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from adaptmr.data.files import complete_file
from adaptmr.data.simulation import simulate
from adaptmr.errors import BadInputError
from adaptmr.workflows.bank_training.data import digests
from adaptmr.workflows.bank_training.steps import NotDoneError, Step, Steps, Took
from adaptmr.workflows.progress import track
from adaptmr.workflows.stages.config import IncomingSimulated, WorkflowConfig
from adaptmr.workflows.stages.ingest import SCANS, Stored, fingerprint, ingest, pending, stored
from adaptmr.workflows.stages.split import Part, split

_INGESTED: Final = "ingested.json"
_SPLIT: Final = "split.json"
_SUMMARY: Final = "summary.json"
_LISTING: Final = TypeAdapter(tuple[Stored, ...])
_PARTS: Final = TypeAdapter(dict[Part, tuple[Stored, ...]])


@dataclass(frozen=True)
class Stage:
    """One stage of a workflow.

    Attributes:
        name: what it is called; unique in its workflow.
        needs: names of the stages whose results it reads.
        run: does it, and before it whatever of those is missing; does nothing twice.
        check: raises `GateError` when what the stage found is not good enough for those after it.
    """

    name: str
    needs: tuple[str, ...]
    run: Callable[[], Step]
    check: Callable[[], None] | None = None


@dataclass(frozen=True, eq=False)
class Gathering:
    """The data of a workflow.

    Attributes:
        config: the workflow.
        out: folder of all that it makes.
        steps: where results are kept.
    """

    config: WorkflowConfig
    out: Path
    steps: Steps

    @property
    def stages(self) -> tuple[Stage, ...]:
        """In an order in which they can be run."""
        return (
            Stage("ingest", (), self.take_in),
            Stage("split", ("ingest",), lambda: self.parts),
            Stage("prepare", ("split",), lambda: self.prepared),
            Stage("validate", ("prepare",), lambda: self.validated),
        )

    @property
    def published(self) -> tuple[str, ...]:
        """Names of what is made for people and other commands, within the folder."""
        return ()

    @property
    def store(self) -> Path:
        """Folder of the scans that were taken in."""
        return self.config.ingest.store or self.out / "store"

    def take_in(self) -> Step:
        """Take in what lies in the sources; all other stages work on what is there then."""
        config = self.config.ingest
        if isinstance(config.incoming, IncomingSimulated):
            sources: tuple[Path, ...] = (self._simulated(config.incoming).folder / SCANS,)
        else:
            sources = config.incoming.folders
        if self.steps.look_only:
            if pending(sources, self.store) or stored(self.store) != self._taken_in:
                raise NotDoneError("ingest")
        else:
            secret = b"" if config.secret is None else _read_secret(config.secret)
            found = ingest(sources, self.store, secret=secret, matrix=config.matrix)
            self.steps.took.append(Took("ingest", 0.0, not found.new, self.store))
            with complete_file(self.out / _INGESTED, overwrite=True) as partial:
                partial.write_text(_LISTING.dump_json(found.scans, indent=1).decode() + "\n")
        return self.ingested

    @cached_property
    def ingested(self) -> Step:
        """What was taken in last."""
        if self._taken_in is None:
            return self.take_in()
        return Step("ingest", fingerprint(self._taken_in), self.store)

    @property
    def _taken_in(self) -> tuple[Stored, ...] | None:
        path = self.out / _INGESTED
        return _LISTING.validate_json(path.read_bytes()) if path.exists() else None

    @cached_property
    def parts(self) -> Step:
        """Put every subject into its part."""
        config = self.config.split
        ingested = self.ingested

        def compute(result: Path, _: Path) -> None:
            found = split(self._taken_in or (), config)
            (result / _SPLIT).write_text(_PARTS.dump_json(found, indent=1).decode() + "\n")

        return self.steps.done("split", 1, config.model_dump(mode="json"), (ingested,), compute)

    @cached_property
    def prepared(self) -> Step:
        """Make a folder of links for each part."""

        def compute(result: Path, _: Path) -> None:
            for part, scans in self.scans.items():
                for scan in scans:  # a part without scans has no folder
                    (result / part).mkdir(exist_ok=True)
                    (result / part / scan.file).symlink_to(self.store / SCANS / scan.file)

        return self.steps.done("prepare", 1, str(self.store), (self.parts,), compute)

    @cached_property
    def validated(self) -> Step:
        """Check that the files are those that were taken in, and no subject is in two parts."""
        prepared = self.prepared
        contents = {
            part: digests(prepared.folder / part, self.steps) if scans else []
            for part, scans in self.scans.items()
        }

        def compute(result: Path, _: Path) -> None:
            for part, scans in self.scans.items():
                self._check(part, scans, dict(contents[part]))
            summary = {part: _summary(scans) for part, scans in self.scans.items()}
            (result / _SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")

        return self.steps.done("validate", 1, contents, (self.parts,), compute)

    @property
    def summary(self) -> dict[str, Any]:
        """What each part holds: subjects, scans and strata."""
        text = (self.validated.folder / _SUMMARY).read_text()
        return dict(json.loads(text))

    @property
    def scans(self) -> dict[Part, tuple[Stored, ...]]:
        """The scans of each part."""
        return _PARTS.validate_json((self.parts.folder / _SPLIT).read_bytes())

    def _simulated(self, incoming: IncomingSimulated) -> Step:
        def compute(result: Path, _: Path) -> None:
            total = sum(config.subjects * len(config.contrasts) for config in incoming.scans)
            files = (file for config in incoming.scans for file in simulate(config, result / SCANS))
            list(track(files, "simulating", total))

        reads = incoming.model_dump(mode="json")
        return self.steps.done("simulate", 1, reads, (), compute)

    def _check(self, part: Part, scans: tuple[Stored, ...], contents: dict[str, str]) -> None:
        subjects = {scan.subject for scan in scans}
        for other, others in self.scans.items():
            both = sorted(subjects & {scan.subject for scan in others})
            if other is not part and both:
                raise BadInputError(
                    "a subject is in two parts", field=part, got=", ".join(both[:5]), expected=other
                )
        for scan in scans:
            if contents.get(scan.file) != scan.sha256:
                raise BadInputError(
                    "a scan of the store was altered after it was taken in",
                    file=self.store / SCANS / scan.file,
                    field="sha256",
                    got=contents.get(scan.file, "no file")[:16],
                    expected=scan.sha256[:16],
                    hint="Remove the file: the next ingest takes it in again from its source",
                )


def publish(source: Path, name: Path) -> None:
    """Let a name stand for a result; in one step, also when it stood for another before."""
    target = Path(os.path.relpath(source, name.parent))
    if name.is_symlink() and name.readlink() == target:
        return
    temporary = name.with_name(f".{name.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(name)


def _read_secret(path: Path) -> bytes:
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise BadInputError("the secret cannot be read", file=path, got=error.strerror) from error
    if len(secret) < 16:
        raise BadInputError(
            "the secret is too short to keep anything secret",
            file=path,
            got=f"{len(secret)} bytes",
            expected="16 or more",
        )
    return secret


def _summary(scans: tuple[Stored, ...]) -> dict[str, Any]:
    strata: dict[str, dict[str, int]] = {}
    for scan in scans:
        for name, value in scan.strata.items():
            counts = strata.setdefault(name, {})
            counts[value] = counts.get(value, 0) + 1
    return {
        "subjects": len({scan.subject for scan in scans}),
        "scans": len(scans),
        "strata": {name: dict(sorted(counts.items())) for name, counts in sorted(strata.items())},
    }
