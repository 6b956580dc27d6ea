"""A version of a bank: a folder with all that belongs to it, named by the hash of what it is."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from adaptmr.data.files import complete_folder, require_room
from adaptmr.data.manifest import (
    MANIFEST,
    check_manifest,
    read_description,
    sha256,
    write_manifest,
)
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.bank.persistence import fingerprint
from adaptmr.workflows.environment import environment
from adaptmr.workflows.gates.config import Verdict
from adaptmr.workflows.gates.evidence import Evidence
from adaptmr.workflows.gates.page import write_page
from adaptmr.workflows.gates.result import GateReport
from adaptmr.workflows.registry.card import card
from adaptmr.workflows.registry.points import Point, point
from adaptmr.workflows.registry.trigger import Trigger

SCHEMA: Final = 1
BANK: Final = "bank"
_DESCRIPTION: Final = "version.json"
_METRICS: Final = "metrics.json"
_GATES: Final = "gates.json"
_CARD: Final = "card.md"
_PAGE: Final = "gates.html"
_BUFFER: Final = "buffer.json"
_LENGTH: Final = 12
"""Characters of the hash that name a version."""
RECORDS: Final = (_CARD, _GATES, _PAGE)
"""Files of a version that a person reads."""


@dataclass(frozen=True)
class Candidate:
    """What is registered: a bank, and all that is known of it.

    Attributes:
        bank: folder of the bank.
        evidence: its scores.
        gates: what the gates said.
        provenance: data, code and configuration that it comes from, as hashes and seeds.
        buffer: JSON file that lists the replay buffer it was trained with; None without one.
        trigger: what asked for it.
    """

    bank: Path
    evidence: Evidence
    gates: GateReport
    provenance: Mapping[str, JsonValue] = field(default_factory=dict)
    buffer: Path | None = None
    trigger: Trigger = Trigger.HAND


class Version(BaseModel):
    """What a version is; the sha256 of this as JSON begins with its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA
    bank: str
    """Fingerprint of the bank."""
    parent: str | None
    """Fingerprint of the bank that it was compared with; null where none served."""
    verdict: Verdict
    approvals: int
    """Persons that the gates ask for."""
    config: str
    """Fingerprint of the gate configuration."""
    evidence: str
    """Identity of its scores."""
    buffer: str | None
    """sha256 of the list of its replay buffer."""
    provenance: dict[str, JsonValue]

    @property
    def name(self) -> str:
        """The name of the version."""
        return hashlib.sha256(self._text.encode()).hexdigest()[:_LENGTH]

    @property
    def _text(self) -> str:
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def of(cls, candidate: Candidate) -> "Version":
        """What a candidate becomes.

        Raises:
            BadInputError: evidence, gates and bank are not of each other, or the list of the
                buffer is no JSON.
        """
        found, gates = fingerprint(candidate.bank), candidate.gates
        for what, of in (("evidence", candidate.evidence.bank), ("gates", gates.candidate)):
            if of != found:
                raise BadInputError(
                    f"the {what} of another bank cannot be registered with this one",
                    file=candidate.bank,
                    got=of[:16],
                    expected=found[:16],
                    hint="Measure and judge this bank",
                )
        if gates.evidence != candidate.evidence.identity:
            raise BadInputError(
                "the gates judged other numbers than those registered",
                file=candidate.bank,
                got=gates.evidence[:16],
                expected=candidate.evidence.identity[:16],
            )
        return cls(
            bank=found,
            parent=gates.champion,
            verdict=gates.verdict,
            approvals=gates.approvals,
            config=gates.config,
            evidence=gates.evidence,
            buffer=None if candidate.buffer is None else _list_digest(candidate.buffer),
            provenance=dict(candidate.provenance),
        )


def write_version(folder: Path, version: Version, candidate: Candidate) -> None:
    """Copy a candidate in as the folder of a version; it appears complete or not at all.

    Raises:
        BadInputError: the bank is damaged, or there is no room.
    """
    check_manifest(candidate.bank)
    require_room(folder.parent, sum(f.stat().st_size for f in _files(candidate.bank)))
    with complete_folder(folder) as partial:
        try:
            shutil.copytree(candidate.bank, partial / BANK, copy_function=shutil.copyfile)
        except shutil.Error as error:
            raise BadInputError(
                "the bank cannot be copied into the registry",
                file=folder,
                got=str(error.args[0][0][-1]),
                hint="Make room on the disk, then call the command again",
            ) from error
        if candidate.buffer is not None:
            shutil.copyfile(candidate.buffer, partial / _BUFFER)
        texts = {
            _DESCRIPTION: version._text,
            _METRICS: candidate.evidence.model_dump_json(indent=1) + "\n",
            _GATES: candidate.gates.model_dump_json(indent=1) + "\n",
            _CARD: card(version.name, candidate.gates, candidate.evidence, version.provenance),
            "environment.json": _environment(),
        }
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8")
        write_page(candidate.gates, partial / _PAGE)
        write_manifest(partial)
        _sync(partial)
        _check_copy(partial, version)
        point(Point.COPIED)
    point(Point.COMPLETE)


def read_version(folder: Path) -> Version:
    """The description of a version, whose name has to follow from it.

    Raises:
        BadInputError: it is missing, or was edited.
    """
    version = read_description(folder / _DESCRIPTION, Version, "a version of a registry")
    text = (folder / _DESCRIPTION).read_text(encoding="utf-8")
    if version.name != folder.name or text != version._text:
        raise BadInputError(
            "the version was edited by hand: its name is not that of its description",
            file=folder / _DESCRIPTION,
            got=version.name,
            expected=folder.name,
            hint="Roll back to another version, and put this one back from a backup",
        )
    return version


def read_evidence(folder: Path) -> Evidence:
    """The scores of a version."""
    return read_description(folder / _METRICS, Evidence, "the metrics of a version")


def read_gates(folder: Path) -> GateReport:
    """What the gates said of a version."""
    return read_description(folder / _GATES, GateReport, "the gate report of a version")


def buffer_list(folder: Path) -> Path | None:
    """The list of the replay buffer that belongs to a version."""
    file = folder / _BUFFER
    return file if file.is_file() else None


def check_version(folder: Path, *, pruned: bool) -> None:
    """Hash every file of a version again.

    Args:
        folder: its folder.
        pruned: whether the bank was removed, and only the records of it are kept.

    Raises:
        BadInputError: a file is missing, altered, or one too many; the message names it.
    """
    version = read_version(folder)
    if pruned:
        _check_records(folder)
        return
    check_manifest(folder)
    listed = json.loads((folder / MANIFEST).read_text())["sha256"]
    extra = [file for file in _files(folder) if file.relative_to(folder).as_posix() not in listed]
    extra = [file for file in extra if file != folder / MANIFEST]
    if extra:
        raise BadInputError("a file was added to the version by hand", file=extra[0])
    _check_copy(folder, version)


def _check_copy(folder: Path, version: Version) -> None:
    if (found := fingerprint(folder / BANK)) != version.bank:
        raise BadInputError(
            "the bank of the version is another one",
            file=folder / BANK,
            got=found[:16],
            expected=version.bank[:16],
        )


def _check_records(folder: Path) -> None:
    try:
        listed = dict(json.loads((folder / MANIFEST).read_bytes())["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError("the manifest cannot be read", file=folder / MANIFEST) from error
    for name, digest in listed.items():
        file = folder / name
        if not name.startswith(f"{BANK}/") and not (file.is_file() and sha256(file) == digest):
            raise BadInputError("a record of the version is missing or altered", file=file)


def _list_digest(buffer: Path) -> str:
    try:
        json.loads(buffer.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInputError(
            "the list of the replay buffer cannot be read", file=buffer, got=str(error)
        ) from error
    return sha256(buffer)


@cache
def _environment() -> str:
    """What the bank was registered with, as JSON; the packages in their versions are the lock."""
    known = (one.metadata for one in distributions())
    packages = sorted((each["Name"], each["Version"]) for each in known)
    return json.dumps({**environment(), "packages": dict(packages)}, indent=1) + "\n"


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _sync(folder: Path) -> None:
    """Have all files and folders on the disk, not only on their way to it."""
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
