import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from adaptmr.data import files
from adaptmr.data.files import clear_left_over, complete_file, complete_folder, require_room
from adaptmr.errors import BadInputError


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.h5"
    with complete_file(path) as partial:
        partial.write_text("content")
        assert not path.exists()
    assert path.read_text() == "content"
    assert left_in(path.parent) == ["out.h5"]


def test_failure_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    path.write_text("old")
    with pytest.raises(KeyError), complete_file(path, overwrite=True) as partial:
        partial.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert left_in(tmp_path) == ["out.h5"]


def test_existing_output_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    path.write_text("old")
    with pytest.raises(BadInputError, match=r"exists already.*--overwrite"), complete_file(path):
        pytest.fail("the block ran")
    assert path.read_text() == "old"


def test_overwrite_replaces(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    path.write_text("old")
    with complete_file(path, overwrite=True) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("complete", [complete_file, complete_folder])
def test_a_file_in_the_way_of_the_folder_is_named(complete: object, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(BadInputError, match=r"out.*cannot be written.*Choose a folder"),
        complete(tmp_path / "file" / "out"),  # type: ignore[operator]
    ):
        pytest.fail("the block ran")


def test_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    with pytest.raises(BadInputError, match="No space left"), complete_file(path) as partial:
        partial.write_text("half")
        raise OSError(28, os.strerror(28))
    assert left_in(tmp_path) == []


def test_folder_appears_complete_and_replaces_the_old(tmp_path: Path) -> None:
    path = tmp_path / "bank"
    for content in ("first", "second"):
        with complete_folder(path, overwrite=True) as partial:
            (partial / "file").write_text(content)
        assert (path / "file").read_text() == content
    assert left_in(tmp_path) == ["bank"]


def test_folder_failure_keeps_the_old(tmp_path: Path) -> None:
    path = tmp_path / "bank"
    path.mkdir()
    (path / "file").write_text("old")
    with pytest.raises(KeyError), complete_folder(path, overwrite=True) as partial:
        (partial / "file").write_text("half")
        raise KeyError
    assert (path / "file").read_text() == "old"
    assert left_in(tmp_path) == ["bank"]


def test_room_is_checked_for_folders_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    require_room(tmp_path / "not" / "there", 1000)
    with pytest.raises(BadInputError, match=r"1,000 bytes free; expected 1,001 bytes"):
        require_room(tmp_path / "not" / "there", 1001)


@pytest.mark.parametrize("name", ["out[1].json", "a" * 60, None])
def test_what_a_killed_writer_left_is_cleared(name: str | None, tmp_path: Path) -> None:
    written = name or "any"
    child = os.fork()
    if child == 0:
        with complete_file(tmp_path / written) as partial:
            partial.write_text("half")
            os._exit(1)
    os.waitpid(child, 0)
    (tmp_path / ".other.kept").mkdir()
    (tmp_path / ".hidden").mkdir()
    assert len(list(tmp_path.iterdir())) == 3
    clear_left_over(tmp_path, name)
    kept = {".hidden"} if name is None else {".hidden", ".other.kept"}
    assert {path.name for path in tmp_path.iterdir()} == kept
