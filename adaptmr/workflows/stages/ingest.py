"""Ingest: files as they come, into a store of scans that can be trained on.

Every file is opened through the doors of `adaptmr.data`, looked at slice by slice, and written
again as fastMRI HDF5 with the allow-listed header alone, under the hash of its content. Sources
are only read. What cannot be trained on is put on a list with the reason, and the others go on.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from adaptmr.data.doors import open_scan
from adaptmr.data.fastmri import write_scan
from adaptmr.data.files import complete_file
from adaptmr.data.geometry import header_of
from adaptmr.data.inspection import inspect
from adaptmr.data.manifest import sha256
from adaptmr.data.scan import Scan
from adaptmr.data.target import with_target
from adaptmr.errors import BadInputError
from adaptmr.workflows.progress import track
from adaptmr.workflows.single_flight import single_flight
from adaptmr.workflows.stages.ledger import Looked, append, read_ledger

SCANS: Final = "scans"
QUARANTINE: Final = "quarantine.json"
_LOCK: Final = ".lock"
_LENGTH: Final = 16
"""Characters of a hash that name a file or a subject."""
_WORD: Final = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
_PRIVATE: Final = 0o600


@dataclass(frozen=True)
class Stored:
    """A scan of a store.

    Attributes:
        file: its name.
        sha256: of its content.
        subject: pseudonymous key of whom it is.
        strata: what tells kinds of scans apart.
    """

    file: str
    sha256: str
    subject: str
    strata: dict[str, str]


@dataclass(frozen=True)
class Ingested:
    """A store after an ingest.

    Attributes:
        store: its folder.
        scans: what it holds, by name.
        quarantined: how many of the files that lie in the sources were not taken in.
        new: files that this ingest looked at.
    """

    store: Path
    scans: tuple[Stored, ...]
    quarantined: int
    new: int


def fingerprint(scans: Sequence[Stored]) -> str:
    """sha256 of what a store holds: the version of the data."""
    listing = sorted([scan.file, scan.sha256, scan.subject] for scan in scans)
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def ingest(
    sources: Sequence[Path],
    store: Path,
    *,
    secret: bytes = b"",
    matrix: tuple[int, int] | None = None,
) -> Ingested:
    """Take the files of folders into a store; files that were looked at before are passed over.

    Args:
        sources: folders, with all below them.
        store: folder of the scans, the ledger and the list of what was not taken in.
        secret: of the site; subject keys are its HMAC with the identity in the file. Without one
            they can be guessed by whoever knows that.
        matrix: (readout, phase) that scans have to have; any when not given.

    Raises:
        BadInputError: a source is no folder, or the store cannot be written or was damaged.
        BusyError: another ingest is at the store.
    """
    files = source_files(sources)
    with single_flight(store / _LOCK, "an ingest into this store"):
        known = _known(store)
        fresh = [path for path in files if _state(path) not in known]
        contents = {looked.sha256: looked for looked in known.values() if looked.file}
        for path in track(fresh, "ingesting"):
            looked = _take(path, store, secret, matrix, contents)
            append(store, looked)
            known[looked.state] = looked
            if looked.file:
                contents[looked.sha256] = looked
        outside = [
            (path, known[state])
            for path in files
            if (state := _state(path)) in known and known[state].reason
        ]
        _write_quarantine(store, outside)
    return Ingested(store, _scans(known.values()), len(outside), len(fresh))


def pending(sources: Sequence[Path], store: Path) -> int:
    """How many files of the sources an ingest would look at.

    Raises:
        BadInputError: as `ingest`.
    """
    known = _known(store)
    return sum(_state(path) not in known for path in source_files(sources))


def stored(store: Path) -> tuple[Stored, ...]:
    """What a store holds, by name.

    Raises:
        BadInputError: its ledger was damaged.
    """
    return _scans(_known(store).values())


def source_files(sources: Sequence[Path]) -> list[Path]:
    """All files below folders but for hidden ones, in order.

    Raises:
        BadInputError: one of them is no folder.
    """
    return [path for source in sources for path in sorted(_below(source))]


def _below(source: Path) -> Iterator[Path]:
    if not source.is_dir():
        raise BadInputError(
            "a source of scans is missing",
            file=source,
            got="no such folder",
            hint="Make the folder, or name another in the configuration",
        )
    for path in source.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(source).parts)
        if path.is_file() and not hidden:
            yield path


def _state(path: Path) -> tuple[str, int, int]:
    return Looked.of(path).state


def _known(store: Path) -> dict[tuple[str, int, int], Looked]:
    """What was looked at; a scan that is gone from the store was not."""
    return {
        looked.state: looked
        for looked in read_ledger(store)
        if looked.file is None or (store / SCANS / looked.file).exists()
    }


def _scans(entries: Iterable[Looked]) -> tuple[Stored, ...]:
    found: dict[str, Stored] = {}
    for looked in entries:
        if looked.file and looked.stored and looked.subject:
            found[looked.file] = Stored(looked.file, looked.stored, looked.subject, looked.strata)
    return tuple(found[name] for name in sorted(found))


def _take(
    path: Path,
    store: Path,
    secret: bytes,
    matrix: tuple[int, int] | None,
    contents: dict[str, Looked],
) -> Looked:
    """Look at a file, and write it into the store when it can be trained on."""
    looked = Looked.of(path)
    try:
        content = sha256(path)
    except OSError as error:
        return looked.model_copy(update={"reason": f"it cannot be read: {error.strerror}"})
    looked = looked.model_copy(update={"sha256": content})
    if (same := contents.get(content)) is not None:
        shared = {"file": same.file, "stored": same.stored, "subject": same.subject}
        return looked.model_copy(update={**shared, "strata": same.strata})
    try:
        scan = _usable(path, matrix)
    except BadInputError as error:
        return looked.model_copy(update={"reason": _reason(error)})
    scan = _pseudonymous(scan, content, secret)
    target = store / SCANS / scan.name
    write_scan(scan, target, overwrite=True)
    taken = {"file": scan.name, "stored": sha256(target), "subject": scan.header.subject}
    return looked.model_copy(update={**taken, "strata": _strata(scan)})


def _usable(path: Path, matrix: tuple[int, int] | None) -> Scan:
    """A scan that can be trained on.

    Raises:
        BadInputError: why it cannot.
    """
    inspection = inspect(path)
    if inspection.refusals:
        open_scan(path)  # says it with its parts, where the file as a whole is refused
        raise BadInputError("a slice holds values that cannot be used", field="kspace")
    scan = open_scan(path)
    if not scan.fully_sampled:
        raise BadInputError("it is undersampled", got=f"{scan.acceleration:.2f} times")
    if matrix is not None and scan.matrix != matrix:
        raise BadInputError("it has another matrix", got=scan.matrix, expected=matrix)
    if scan.target is None:
        scan = with_target(scan)
    if not (scan.maximum or 0.0) > 0:
        raise BadInputError("the target is zero everywhere", got=scan.maximum)
    header_of(scan)  # is asked again when the scan is written
    return scan


def _reason(error: BadInputError) -> str:
    """What is wrong, without what stands in the file: that may name persons."""
    numbers = error.got if isinstance(error.got, int | float | tuple) else None
    return str(BadInputError(error.what, field=error.field, got=numbers, expected=error.expected))


def subject_key(identity: str, secret: bytes = b"") -> str:
    """The pseudonymous key of a subject."""
    return hmac.new(secret, identity.encode(), hashlib.sha256).hexdigest()[:_LENGTH]


def _pseudonymous(scan: Scan, content: str, secret: bytes) -> Scan:
    """The scan under names that say nothing of a person."""
    key = subject_key(scan.header.subject or content, secret)
    words = {
        name: value if isinstance(value, str) and _WORD.fullmatch(value) else None
        for name, value in (
            ("acquisition", scan.header.acquisition),
            ("orientation", scan.header.orientation),
        )
    }
    header = scan.header.model_copy(update={**words, "subject": key})
    return replace(scan, name=f"{content[:_LENGTH]}.h5", header=header)


def _strata(scan: Scan) -> dict[str, str]:
    """In the order in which the ledger gives them back."""
    return {
        "acquisition": scan.header.acquisition or "unknown",
        "coils": str(scan.coils),
        "matrix": "x".join(map(str, scan.matrix)),
    }


def _write_quarantine(store: Path, outside: Sequence[tuple[Path, Looked]]) -> None:
    """The list for whoever looks after the sources; it has their names, so only its owner reads."""
    listed = [
        {"file": str(path), "sha256": looked.sha256, "reason": looked.reason}
        for path, looked in outside
    ]
    with complete_file(store / QUARANTINE, overwrite=True) as partial:
        partial.touch(_PRIVATE)
        partial.write_text(json.dumps(listed, indent=1) + "\n")
