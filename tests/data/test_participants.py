"""The table of participants: read back, and refused where it contradicts itself."""

from pathlib import Path

import pytest

from adaptmr.data.participants import PARTICIPANTS, Part, read_participants, write_participants
from adaptmr.errors import BadInputError


def _table(folder: Path, text: str) -> Path:
    (folder / PARTICIPANTS).write_text(text)
    return folder


def test_written_and_read(tmp_path: Path) -> None:
    rows = [("sub-01", Part.TRAINING, {"age": 31.5}), ("sub-02", Part.TEST, {"age": "n/a"})]
    write_participants(tmp_path, rows)
    found = read_participants(tmp_path)
    assert found.part("sub-01") is Part.TRAINING
    assert found.value("age", "sub-01") == "31.5"
    with pytest.raises(BadInputError, match="does not know this"):
        found.value("age", "sub-02")
    with pytest.raises(BadInputError, match="lacks a column"):
        found.value("sex", "sub-01")
    with pytest.raises(BadInputError, match="lacks a subject"):
        found.part("sub-03")
    with pytest.raises(BadInputError, match="exists already"):
        write_participants(tmp_path, rows)


def test_sessions_of_a_subject_may_have_a_line_each(tmp_path: Path) -> None:
    _table(tmp_path, "participant_id\tsession_id\tsplit\na\t1\ttrain\na\t2\ttrain\n")
    assert read_participants(tmp_path).parts == {"a": Part.TRAINING}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("participant_id\tsplit\na\ttrain\na\ttest\n", "two splits.*a: train and test"),
        ("participant_id\tsplit\na\ttraining\n", "no such split.*train_task"),
        ("participant_id,split\na,train\n", "lacks a column.*separated by tabs"),
        ("participant_id\tsplit\na\n", "line 2.*another number of columns"),
        ("", "empty"),
    ],
)
def test_what_is_no_table(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read_participants(_table(tmp_path, text))


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"participants\.tsv: the file does not exist"):
        read_participants(tmp_path)
