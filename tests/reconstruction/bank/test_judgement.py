"""Intervals of a bank held against targets."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_banks import calibrated, make_bank, make_parts, make_scans, scan_of

from adaptmr.data.scan import Stack
from adaptmr.reconstruction.bank.judgement import judge_scan
from adaptmr.reconstruction.bank.persistence import load
from adaptmr.sampling.frame import Positions


@pytest.mark.parametrize("beyond", [False, True])
def test_every_slice_is_held_against_its_own_target(tmp_path: Path, beyond: bool) -> None:
    parts = make_parts(tmp_path, make_scans(tmp_path / "scans"), Positions.LINES)
    bank = calibrated(load(make_bank(tmp_path / "bank", parts)))
    scan = scan_of(parts)
    result = bank.reconstruct(scan)
    assert result.upper is not None
    bounds = result.upper[:]
    # Slice 1 has a target beyond its interval, the others one at its end.
    moved = bounds * torch.tensor([1.0, 2.0 if beyond else 1.0, 1.0, 1.0])[:, None, None]
    judged = judge_scan(bank, replace(scan, target=Stack.of(moved)), result)
    missed = [bool(one.missed.any()) for one in judged]
    assert missed == [False, beyond, False, False]
    assert {one.subject for one in judged} == {scan.header.subject}
    assert {one.stratum for one in judged} == {"AXT2, axial"}
    assert judge_scan(replace(bank, calibration=None), scan, result) == ()
