"""A bank reconstructs the same with accelerated networks."""

from pathlib import Path

import pytest
import torch
from made_banks import make_bank, make_parts, make_scans

from adaptmr.data.doors import open_scan
from adaptmr.efficiency import accelerate as accelerating
from adaptmr.efficiency.accelerate import Accelerated, accelerate
from adaptmr.reconstruction.bank.persistence import load
from adaptmr.sampling.frame import Positions


def test_a_bank_gives_the_same_images_and_choices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerating, "_SMALL_PIXELS", 0)
    scans = make_scans(tmp_path / "scans")
    bank = load(make_bank(tmp_path / "bank", make_parts(tmp_path, scans, Positions.LINES)))
    fast = accelerate(bank)
    assert len(fast) == len(bank)
    assert all(isinstance(network, Accelerated) for network in fast.networks[:])
    assert fast.networks[-1] is fast.networks[len(bank) - 1]
    scan = open_scan(sorted(scans.iterdir())[0])
    expected, found = bank.reconstruct(scan), fast.reconstruct(scan)
    assert [one.index for one in found.decisions] == [one.index for one in expected.decisions]
    images, again = found.image[0:4], fast.reconstruct(scan).image[0:4]
    torch.testing.assert_close(images, expected.image[0:4], rtol=1e-4, atol=1e-5)
    assert torch.equal(images, again)
