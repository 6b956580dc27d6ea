"""Files as they come, into a store."""

import base64
import json
import os
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_workflows import MATRIX, ellipses, write_ellipses

from adaptmr.data import mrd_writing
from adaptmr.data.doors import open_scan
from adaptmr.data.fastmri import write_scan
from adaptmr.data.manifest import sha256
from adaptmr.errors import BadInputError, BusyError
from adaptmr.workflows.single_flight import single_flight
from adaptmr.workflows.stages.ingest import (
    QUARANTINE,
    SCANS,
    Stored,
    fingerprint,
    ingest,
    pending,
    stored,
)
from adaptmr.workflows.stages.ledger import LEDGER, read_ledger
from adaptmr.workflows.stages.split import Part, SplitConfig, part_of, split

CANARY = "Erika_Mustermann_19700101"


def bad_files(folder: Path) -> dict[str, str]:
    """Files that cannot be trained on, with a word of the reason each has to be given."""
    write_ellipses(folder, range(90, 96))
    whole = (folder / "subject-90-AXT2.h5").read_bytes()
    (folder / "subject-90-AXT2.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.h5").touch()
    (folder / "notes.txt").write_text("scanned on Monday")
    with h5py.File(folder / "subject-91-AXT2.h5", "a") as file:
        file["kspace"][0, 0, 3, 3] = np.nan
    scan = ellipses("subject-92", 92)
    lines = torch.arange(MATRIX[1]) % 2 == 0
    write_scan(
        type(scan)(**{**scan.__dict__, "acquired": lines, "target": None, "maximum": None}),
        folder / "subject-92-AXT2.h5",
        overwrite=True,
    )
    with h5py.File(folder / "subject-93-AXT2.h5", "a") as file:
        file["reconstruction_rss"][:] = 0
        file.attrs["max"] = 0.0
    with h5py.File(folder / "subject-94-AXT2.h5", "a") as file:
        kspace = file["kspace"][..., :16]
        del file["kspace"], file["ismrmrd_header"]
        file["kspace"] = kspace
    (folder / "subject-95-AXT2.h5").unlink()
    return {
        "subject-90-AXT2.h5": "",
        "empty.h5": "empty",
        "notes.txt": "no k-space",
        "subject-91-AXT2.h5": "cannot be used",
        "subject-92-AXT2.h5": "undersampled",
        "subject-93-AXT2.h5": "zero everywhere",
        "subject-94-AXT2.h5": "another matrix",
    }


def test_good_files_are_taken_in_and_bad_ones_listed_with_the_reason(tmp_path: Path) -> None:
    incoming = write_ellipses(tmp_path / "incoming", range(3))
    reasons = bad_files(incoming / "bad")
    found = ingest([incoming], tmp_path / "store", matrix=MATRIX)
    assert (len(found.scans), found.quarantined, found.new) == (3, len(reasons), 3 + len(reasons))
    listed = json.loads((tmp_path / "store" / QUARANTINE).read_text())
    assert {Path(one["file"]).name for one in listed} == set(reasons)
    for one in listed:
        assert reasons[Path(one["file"]).name] in one["reason"]
        assert one["sha256"] == sha256(Path(one["file"]))
    assert (tmp_path / "store" / QUARANTINE).stat().st_mode & 0o777 == 0o600
    for scan in found.scans:
        path = tmp_path / "store" / SCANS / scan.file
        assert sha256(path) == scan.sha256
        assert scan.strata == {"acquisition": "AXT2", "matrix": "24x20", "coils": "2"}
    original = open_scan(incoming / "subject-0-AXT2.h5")
    twin = next(
        scan
        for scan in (open_scan(tmp_path / "store" / SCANS / each.file) for each in found.scans)
        if torch.equal(scan.kspace[0], original.kspace[0])
    )
    assert twin.target is not None
    assert original.target is not None
    assert torch.equal(twin.target[:], original.target[:])
    assert twin.header.field_strength == 3.0


def test_an_ingest_again_looks_at_what_changed_alone(tmp_path: Path) -> None:
    incoming, store = write_ellipses(tmp_path / "incoming", range(3)), tmp_path / "store"
    (incoming / "notes.txt").write_text("no scan")
    first = ingest([incoming], store)
    before = {file: file.stat().st_mtime_ns for file in (store / SCANS).iterdir()}
    assert pending([incoming], store) == 0
    again = ingest([incoming], store)
    assert (again.new, again.scans, again.quarantined) == (0, first.scans, 1)
    assert {file: file.stat().st_mtime_ns for file in (store / SCANS).iterdir()} == before
    # A copy is no other scan; a file that was not complete is looked at when it is.
    (incoming / "copy.h5").write_bytes((incoming / "subject-1-AXT2.h5").read_bytes())
    write_scan(ellipses("subject-7", 7), incoming / "notes.txt", overwrite=True)
    assert pending([incoming], store) == 2
    third = ingest([incoming], store)
    assert (third.new, len(third.scans), third.quarantined) == (2, 4, 0)
    assert stored(store) == third.scans
    assert fingerprint(third.scans) != fingerprint(first.scans)
    # What was lost from the store is taken in again, the same.
    (store / SCANS / first.scans[0].file).unlink()
    assert pending([incoming], store) > 0
    assert fingerprint(ingest([incoming], store).scans) == fingerprint(third.scans)


def test_another_store_of_the_same_files_is_the_same_version(tmp_path: Path) -> None:
    incoming = write_ellipses(tmp_path / "incoming", range(3))
    one = ingest([incoming], tmp_path / "one", secret=b"a secret of the site")
    two = ingest([incoming], tmp_path / "two", secret=b"a secret of the site")
    other = ingest([incoming], tmp_path / "other", secret=b"that of another one")
    assert fingerprint(one.scans) == fingerprint(two.scans)
    assert not {s.subject for s in one.scans} & {s.subject for s in other.scans}


def test_nothing_in_a_store_names_a_person(tmp_path: Path) -> None:
    incoming, store = tmp_path / CANARY, tmp_path / "store"
    scan = ellipses(CANARY, 1)
    named = scan.header.model_copy(update={"acquisition": f"head of {CANARY}"})
    scan = type(scan)(**{**scan.__dict__, "header": named})
    write_scan(scan, incoming / f"{CANARY}.h5", extra_attributes={"physician": CANARY})
    mrd_writing.write_scan(scan, incoming / f"{CANARY}-mrd.h5")
    (incoming / f"{CANARY}.txt").write_text(CANARY)
    found = ingest([incoming], store)
    assert len(found.scans) == 2
    needles = [CANARY.encode(), base64.b64encode(CANARY.encode())[:-4], CANARY.encode("utf-16-le")]
    for file in store.rglob("*"):
        assert CANARY not in file.name
        if file.is_file() and file.name != QUARANTINE:  # the list is for who has the sources
            content = file.read_bytes()
            assert not any(needle in content for needle in needles)
            assert zlib.compress(CANARY.encode())[2:-4] not in content


def test_a_killed_ingest_loses_one_file_at_most(tmp_path: Path) -> None:
    incoming, store = write_ellipses(tmp_path / "incoming", range(4)), tmp_path / "store"
    whole = ingest([incoming], store)
    lines = (store / LEDGER).read_bytes().splitlines(keepends=True)
    (store / LEDGER).write_bytes(b"".join(lines[:2]) + lines[2][:40])
    assert len(stored(store)) == 2
    again = ingest([incoming], store)
    assert again.new == 2
    assert again.scans == whole.scans
    assert len(list(read_ledger(store))) == 4


def test_a_ledger_that_was_edited_is_refused(tmp_path: Path) -> None:
    incoming, store = write_ellipses(tmp_path / "incoming", range(2)), tmp_path / "store"
    ingest([incoming], store)
    text = (store / LEDGER).read_text()
    (store / LEDGER).write_text(text.replace('"size"', '"weight"', 1))
    with pytest.raises(BadInputError, match=r"ledger.*line 1"):
        ingest([incoming], store)


def test_bad_sources_and_a_busy_store(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="source of scans is missing"):
        ingest([tmp_path / "none"], tmp_path / "store")
    incoming = write_ellipses(tmp_path / "incoming", range(1))
    with single_flight(tmp_path / "store" / ".lock", "a test"), pytest.raises(BusyError):
        ingest([incoming], tmp_path / "store")


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    incoming = tmp_path / "incoming"
    matrix, files = (96, 64), 16
    scan = ellipses("subject", 1, matrix=matrix)
    size = scan.slices * scan.coils * matrix[0] * matrix[1] * 8
    for number in range(files):
        header = scan.header.model_copy(update={"subject": f"subject-{number}"})
        write_scan(type(scan)(**{**scan.__dict__, "header": header}), incoming / f"{number}.h5")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    ingest([incoming], tmp_path / "first")
    before = resident()
    assert len(ingest([incoming], tmp_path / "second").scans) == files
    assert resident() - before < files * size / 2


@settings(deadline=None)
@given(st.sets(st.text(min_size=1), min_size=1, max_size=40), st.text(min_size=1))
def test_further_subjects_move_nobody(subjects: set[str], further: str) -> None:
    config = SplitConfig(calibration=0.3, test=0.3)
    before = {subject: part_of(subject, config) for subject in subjects}
    scans = [Stored(f"{n}.h5", "", s, {}) for n, s in enumerate([*subjects, further])]
    try:
        parts = split(scans, config)
    except BadInputError:
        return  # too few to have all parts
    for part, found in parts.items():
        assert all(before.get(scan.subject, part) is part for scan in found)


def test_shares_are_met_on_average() -> None:
    config = SplitConfig(calibration=0.25, test=0.15)
    parts = [part_of(f"subject {number}", config) for number in range(20_000)]
    shares = [parts.count(part) / len(parts) for part in Part]
    assert shares == pytest.approx([0.6, 0.25, 0.15], abs=0.015)
    other = SplitConfig(calibration=0.25, test=0.15, seed=1)
    moved = [part_of(f"subject {number}", other) is not parts[number] for number in range(1000)]
    assert 0.4 < sum(moved) / 1000 < 0.7
    with pytest.raises(BadInputError, match=r"split\.train.*none of 0 subjects"):
        split([], config)
