"""The audit log: what was edited is found, what was cut short is finished, nothing is lost."""

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_evidence import gates
from made_registry import candidate, made_bank, serving

from adaptmr.errors import BadInputError
from adaptmr.workflows.registry.aliases import ALIASES
from adaptmr.workflows.registry.log import START, Event, append, read_log
from adaptmr.workflows.registry.registry import LOG, Registry
from adaptmr.workflows.registry.verification import verify

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak_registry.py"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry", by="tester")


def written(path: Path, count: int = 5) -> list[bytes]:
    """The lines of a log with so many entries."""
    for number in range(count):
        append(path, read_log(path) if number else (), Event.JUDGED, {"number": number}, by="me")
    return path.read_bytes().splitlines(keepends=True)


def test_entries_follow_from_each_other(tmp_path: Path) -> None:
    written(tmp_path / "log")
    entries = read_log(tmp_path / "log")
    assert [entry.details["number"] for entry in entries] == [0, 1, 2, 3, 4]
    assert [entry.previous for entry in entries] == [START, *(e.hash for e in entries[:-1])]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_is_found(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    content = bytearray(b"".join(written(path)))
    first_lines = len(content) - len(content.splitlines(keepends=True)[-1])
    index = data.draw(st.integers(0, first_lines - 1))
    content[index] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[index]))
    path.write_bytes(content)
    with pytest.raises(BadInputError, match="edited by hand"):
        read_log(path)


@pytest.mark.parametrize("change", ["removed", "doubled", "swapped", "foreign"])
def test_lines_cannot_be_moved(tmp_path: Path, change: str) -> None:
    lines = written(tmp_path / "log")
    changed = {
        "removed": lines[:2] + lines[3:],
        "doubled": [*lines[:3], *lines[2:]],
        "swapped": [lines[0], lines[2], lines[1], *lines[3:]],
        "foreign": [*lines, b'{"a": 1}\n'],
    }[change]
    (tmp_path / "log").write_bytes(b"".join(changed))
    with pytest.raises(BadInputError, match=r"log.*line \d.*edited by hand"):
        read_log(tmp_path / "log")


def test_a_line_that_was_cut_short_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = written(path)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    entries = read_log(path)
    assert len(entries) == 4
    append(path, entries, Event.JUDGED, {"number": 4}, by="me")
    assert len(read_log(path)) == 5


def test_the_clock_may_jump_back(tmp_path: Path) -> None:
    path, now = tmp_path / "log", datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    append(path, (), Event.CREATED, {}, by="me", now=now)
    append(path, read_log(path), Event.JUDGED, {}, by="me", now=now - timedelta(days=365))
    assert [entry.number for entry in read_log(path)] == [0, 1]


def test_lost_lines_are_missed(registry: Registry, tmp_path: Path) -> None:
    serving(registry, tmp_path, ("a", "b"))
    log = registry.folder / LOG
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]))
    for call in (registry.state, registry.champion, lambda: registry.freeze_gates(gates(seed=1))):
        with pytest.raises(BadInputError, match="lost entries"):
            call()
    log.unlink()
    with pytest.raises(BadInputError, match="no registry"):
        registry.freeze_gates(gates())


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "champion": lambda aliases: aliases.update(champion=aliases["previous"]),
    "previous": lambda aliases: aliases.update(previous=None),
    "entries": lambda aliases: aliases.update(entries=aliases["entries"] - 3),
    "head": lambda aliases: aliases.update(head="0" * 64),
}


@pytest.mark.parametrize("what", EDITS)
def test_aliases_cannot_be_edited(registry: Registry, tmp_path: Path, what: str) -> None:
    _, second = serving(registry, tmp_path, ("a", "b"))
    file = registry.folder / ALIASES
    aliases = json.loads(file.read_text())
    EDITS[what](aliases)
    file.write_text(json.dumps(aliases))
    for call in (registry.champion, lambda: registry.promote("previous"), lambda: verify(registry)):
        with pytest.raises(BadInputError, match=r"aliases.*edited by hand.*--repair"):
            call()
    assert registry.repair().champion == second
    assert verify(registry).problems == ()
    assert registry.state().entries[-1].event is Event.REPAIRED


@pytest.mark.parametrize("damage", [b"", b"{", b'{"champion": 3}'])
def test_damaged_aliases_are_named_and_repaired(
    registry: Registry, tmp_path: Path, damage: bytes
) -> None:
    (first,) = serving(registry, tmp_path, ("a",))
    (registry.folder / ALIASES).write_bytes(damage)
    with pytest.raises(BadInputError, match="aliases"):
        registry.champion()
    assert registry.repair().champion == first


def test_a_noted_hash_tells_of_a_log_that_was_written_anew(
    registry: Registry, tmp_path: Path
) -> None:
    serving(registry, tmp_path, ("a",))
    noted = verify(registry).head
    registry.freeze_gates(gates(seed=1))
    assert verify(registry, noted).problems == ()
    with pytest.raises(BadInputError, match="does not hold the entry"):
        verify(registry, "f" * 64)


def test_a_version_written_anew_is_found(registry: Registry, tmp_path: Path) -> None:
    """Records and manifest changed alike; only the log knows better."""
    from adaptmr.data.manifest import write_manifest

    (version,) = serving(registry, tmp_path, ("a",))
    folder = registry.version_folder(version)
    (folder / "card.md").write_text("approved by everyone")
    write_manifest(folder)
    assert "written anew" in verify(registry).problems[0]


def full_disk(limit: int, call: Callable[[], object]) -> bytes:
    """What a child says that may write files of so many bytes at most."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            call()
            os.write(write, b"done")
        except BadInputError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        told = stream.read()
    os.waitpid(child, 0)
    return told


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("limit", [100, 700, 2000, 4000, 8000])
def test_no_room(registry: Registry, tmp_path: Path, limit: int) -> None:
    """Wherever the disk is full: told by name, the champion serves, the next call is fine."""
    (first,) = serving(registry, tmp_path, ("a",))
    one = candidate(made_bank(tmp_path / "b", "b" * 20), registry)
    entries = len(registry.state().entries)
    told = full_disk(limit, lambda: registry.promote(registry.register(one)))
    assert b"cannot be" in told
    assert os.strerror(errno.EFBIG).encode() in told
    assert registry.state().aliases.champion == first
    assert len(registry.state().entries) <= entries + 1
    assert verify(registry).problems == ()
    second = registry.promote(registry.register(one))
    assert registry.state().aliases.champion == second
    assert verify(registry).problems == ()


@pytest.mark.slow
def test_kills_at_all_named_moments_and_some_random_ones(tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    command = [sys.executable, str(SOAK), "--random", "3", "--json", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    rows = json.loads(file.read_text())["rows"]
    killed = {(row["change"], row["kills"]): row["killed"] for row in rows}
    assert killed["register", "named"] == 9
    assert killed["promote", "named"] == killed["rollback", "named"] == 4
    assert killed["prune", "named"] == 5
    for row in rows:
        assert row["killed"] == row["champion"] == row["same_files"]


SMALL = """\
import sys
from pathlib import Path

sys.path[:0] = [{tests!r}]
from made_evidence import gates
from made_registry import candidate, made_bank, serving

from adaptmr.errors import BadInputError
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.registry.verification import verify

disk, outside = Path({disk!r}), Path({outside!r})
registry = Registry(disk / "registry")
(first,) = serving(registry, outside, ("a",))
one = candidate(made_bank(outside / "b", "b" * 30), registry)
refused = 0
free = __import__("shutil").disk_usage(disk).free
for left in (0, 4096, 20000, 40000, 80000):
    filler = disk / "filler"
    filler.write_bytes(bytes(max(0, free - left)))
    try:
        registry.promote(registry.register(one))
    except BadInputError as error:
        refused += 1
        print(error)
    filler.unlink()
    assert not verify(registry).problems
    if refused:
        assert registry.state().aliases.champion in (first, *registry.state().versions)
assert refused >= 3, refused
assert registry.promote(registry.register(one)) != first
assert not verify(registry).problems
"""


@pytest.mark.slow
def test_a_small_file_system_that_is_full(tmp_path: Path) -> None:
    """Real ENOSPC, wherever in the change it comes."""
    disk, outside = tmp_path / "disk", tmp_path / "outside"
    disk.mkdir()
    outside.mkdir()
    mount = f"mount -t tmpfs -o size=2m none {disk}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    script = tmp_path / "small.py"
    here = str(Path(__file__).parent)
    script.write_text(SMALL.format(tests=here, disk=str(disk), outside=str(outside)))
    command = f"{mount} && exec {sys.executable} {script}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "room" in done.stdout or "No space" in done.stdout
