"""The manifest of a folder and the description in it."""

import json
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict

from adaptmr.data.manifest import check_manifest, read_description, sha256, write_manifest
from adaptmr.errors import BadInputError


class Thing(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    size: int


def test_folders_are_checked_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("a.json", "below/b.bin"):
        (tmp_path / name).write_text(name)
    write_manifest(tmp_path)
    check_manifest(tmp_path)
    digests = json.loads((tmp_path / "manifest.json").read_text())["sha256"]
    assert digests == {name: sha256(tmp_path / name) for name in ("a.json", "below/b.bin")}
    (tmp_path / "a.json").write_text("a.jsoN")
    with pytest.raises(BadInputError, match="altered after it was written"):
        check_manifest(tmp_path)
    (tmp_path / "a.json").unlink()
    with pytest.raises(BadInputError, match="a file of the folder is missing"):
        check_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 3}'])
def test_broken_manifests_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInputError, match="manifest is missing"):
        check_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BadInputError, match="cannot be read"):
        check_manifest(tmp_path)


def test_descriptions(tmp_path: Path) -> None:
    file = tmp_path / "thing.json"
    with pytest.raises(BadInputError, match="not a thing: its description is missing"):
        read_description(file, Thing, "a thing")
    file.write_text(Thing(size=3).model_dump_json())
    assert read_description(file, Thing, "a thing") == Thing(size=3)
    for text in ("", "{", "[]", "{}", '{"size": "x"}', '{"size": 1, "more": 2}'):
        file.write_text(text)
        with pytest.raises(BadInputError, match="not a thing that this version can read"):
            read_description(file, Thing, "a thing")
    file.write_text('{"schema_version": 2, "size": 1}')
    with pytest.raises(BadInputError, match="written by a newer adaptmr"):
        read_description(file, Thing, "a thing")
