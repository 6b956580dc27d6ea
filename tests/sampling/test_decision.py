"""The record of a choice, and the line list."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from adaptmr.errors import BadInputError
from adaptmr.sampling.decision import (
    Decision,
    ScanDecisions,
    line_list,
    read_decisions,
    versions,
    write_decisions,
    write_lines,
)
from adaptmr.sampling.mask import Mask


def decision(**changes: object) -> Decision:
    fields: dict[str, object] = {
        "slice_index": 3,
        "index": 1,
        "selector": "nearest centroid (euclidean)",
        "scores": (-0.5, -0.25, None),
        "distances": (0.5, 0.25, 0.75),
        "others": {"cosine": 1},
        "fallback": False,
        "reason": None,
        "samples": 10,
        "rejected": 0,
        "inputs": "a" * 64,
        "bank": "b" * 64,
        "mask": "c" * 64,
        "sampler": None,
        "versions": versions(),
        "latency_ms": 1.5,
    }
    return Decision(**(fields | changes))


def test_json_gives_the_same_decision_back() -> None:
    made = decision()
    assert Decision.model_validate_json(made.model_dump_json()) == made
    assert set(versions()) == {"adaptmr", "python", "torch", "numpy"}


def test_choice_is_all_but_the_latency() -> None:
    assert decision().choice == decision(latency_ms=9.0).choice
    assert decision().choice != decision(index=0).choice


def test_decisions_do_not_change_and_hold_no_nan() -> None:
    with pytest.raises(ValidationError):
        decision().index = 2  # type: ignore[misc]
    for changes in ({"scores": (float("nan"),)}, {"index": -1}, {"more": 1}, {"latency_ms": -1}):
        with pytest.raises(ValidationError):
            decision(**changes)


def test_line_list(tmp_path: Path) -> None:
    positions = np.zeros(20, np.bool_)
    positions[[2, 9, 10, 17]] = True
    mask = Mask(positions, (2,))
    assert line_list(mask) == "2\n9\n10\n17\n"
    write_lines(mask, tmp_path / "lines.txt")
    assert np.loadtxt(tmp_path / "lines.txt", dtype=int).tolist() == mask.lines()
    with pytest.raises(BadInputError, match="exists already"):
        write_lines(mask, tmp_path / "lines.txt")
    write_lines(mask, tmp_path / "lines.txt", overwrite=True)


def test_point_list() -> None:
    positions = np.zeros((4, 5), np.bool_)
    positions[[0, 2, 2, 3], [4, 1, 2, 0]] = True
    text = line_list(Mask(positions, (1, 1)))
    assert text == "0 4\n2 1\n2 2\n3 0\n"


def test_decisions_on_disk(tmp_path: Path) -> None:
    made = ScanDecisions(scan="brain.h5", decisions=(decision(), decision(slice_index=None)))
    write_decisions(made, tmp_path / "decision.json")
    assert read_decisions(tmp_path / "decision.json") == made
    with pytest.raises(BadInputError, match="exists already"):
        write_decisions(made, tmp_path / "decision.json")
    (tmp_path / "other.json").write_text("{}")
    for name in ("other.json", "missing.json"):
        with pytest.raises(BadInputError, match="not a record of decisions"):
            read_decisions(tmp_path / name)
