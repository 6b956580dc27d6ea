"""One training in two processes is the training in one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_workflows import MATRIX, ellipses, write_ellipses
from safetensors.torch import load_file

from adaptmr.errors import BadInputError
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.training.config import TrainConfig
from adaptmr.reconstruction.training.data import Plan
from adaptmr.reconstruction.training.processes import process_count, side_by_side
from adaptmr.reconstruction.training.run import train
from adaptmr.sampling.generators import MaskKind, MaskSpec

MASKS = MaskSpec(kind=MaskKind.RANDOM, acceleration=2, center_fraction=0.2)


def config(scans: Path, **changes: Any) -> TrainConfig:
    """Seven slices to train on, in batches of three: the last one has a slice alone."""
    varnet = {"kind": "varnet", "cascades": 1, "channels": 4, "pools": 1}
    return TrainConfig.model_validate(
        {
            "data": scans,
            "architecture": {**varnet, "map_channels": 4, "map_pools": 1},
            "masks": [MASKS],
            "epochs": 2,
            "batch_size": 3,
            "max_slices": 7,
            "validation_fraction": 0.2,
            "accelerator": "cpu",
        }
        | changes
    )


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 5))
def test_shares_make_up_the_batch(size: int, count: int) -> None:
    scan = ellipses("subject", 1)
    slices = tuple((scan, index) for index in range(size))
    shares = [Plan(slices, MASKS, 0).share(rank, count) for rank in range(count)]
    given_out = [index for one in shares if one.weight for _, index in one.slices]
    assert sorted(given_out) == list(range(size))
    # The mean over devices of weighted means is the mean over all slices.
    losses = torch.arange(1.0, size + 1)
    means = [
        one.weight * float(losses[[index for _, index in one.slices]].mean()) for one in shares
    ]
    assert sum(means) / count == pytest.approx(float(losses.mean()))


def test_how_many_processes() -> None:
    assert process_count(config(Path())) == 1
    assert process_count(config(Path(), devices=3)) == 3
    assert process_count(config(Path(), devices="auto")) == 1


def _refuse() -> None:
    raise BadInputError("no good", field="loss", hint="Do better")


@pytest.mark.slow
@pytest.mark.enable_socket
def test_the_error_of_a_process_is_told_as_it_is() -> None:
    with pytest.raises(BadInputError, match=r"^field 'loss': no good\. Do better$"):
        side_by_side(_refuse, 2)


@pytest.mark.slow
@pytest.mark.enable_socket
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    scans = write_ellipses(tmp_path / "scans", range(6))
    one = train(config(scans), tmp_path / "one")
    two = train(config(scans, devices=2), tmp_path / "two")
    first, second = (load_file(folder / "weights.safetensors") for folder in (one, two))
    fresh = checkpoint.begin(config(scans).architecture, 0, None).state_dict()
    whole = [name for name, value in first.items() if value.numel()]
    moved = max(float((first[name] - fresh[name]).abs().max()) for name in whole)
    apart = max(float((first[name] - second[name]).abs().max()) for name in whole)
    assert moved > 1e-3
    assert apart < 0.02 * moved
    scan = ellipses("unseen", 50)
    mask = MASKS.make(MATRIX, 1, (0, MATRIX[1]))
    with torch.no_grad():
        images = [checkpoint.load(folder)(scan.kspace[:], mask) for folder in (one, two)]
    assert torch.allclose(*images, rtol=1e-3, atol=1e-3 * float(images[0].abs().max()))
    curves = [checkpoint.provenance(folder)["curve"] for folder in (one, two)]
    for mine, theirs in zip(*curves, strict=True):
        assert theirs == pytest.approx(mine, rel=1e-3)
