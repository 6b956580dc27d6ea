"""The loss of every pair on every slice."""

import pytest
import torch
from skimage.metrics import structural_similarity

from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.data.target import with_target
from adaptmr.reconstruction.classical import ZeroFilled
from adaptmr.reconstruction.losses import ReconstructionScore, pair_losses
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.unet import UNetConfig
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.refinement import scores_of

SPEC = MaskSpec(kind=MaskKind.RANDOM, acceleration=2, center_fraction=0.2)


def made_scan(slices: int) -> Scan:
    generator = torch.Generator().manual_seed(slices)
    kspace = torch.randn(slices, 2, 20, 18, dtype=torch.complex64, generator=generator)
    acquired = torch.ones(18, dtype=torch.bool)
    return with_target(Scan(f"{slices}.h5", Stack.of(kspace), acquired, (0, 18), Header()))


SCANS = [made_scan(3), made_scan(2)]
MASKS = [make_mask(SPEC, (20, 18), seed=seed) for seed in (0, 1, 2)]


def test_losses_are_those_of_each_slice_under_each_mask() -> None:
    network = checkpoint.build(UNetConfig(channels=4, pools=2), 0).eval()
    pairs = [ZeroFilled(), network, ZeroFilled()]
    losses = pair_losses(pairs, MASKS, SCANS, batch_size=2)
    assert tuple(losses.shape) == (5, 3)
    scan = SCANS[1]
    assert scan.target is not None
    assert scan.maximum is not None
    image = ZeroFilled()(scan.kspace[:], MASKS[2])
    for index in range(2):
        expected = structural_similarity(
            scan.target[index].numpy(),
            image[index].numpy(),
            data_range=scan.maximum,
        )
        assert float(1 - losses[3 + index, 2]) == pytest.approx(expected, abs=1e-4)
    torch.testing.assert_close(losses, pair_losses(pairs, MASKS, SCANS, batch_size=5))
    assert tuple(pair_losses(pairs, MASKS, []).shape) == (0, 3)


def test_a_score_is_minus_the_mean_loss() -> None:
    slices = [(scan, index) for scan in SCANS for index in range(scan.slices)]
    score = ReconstructionScore.of(ZeroFilled(), slices, MASKS[0], batch_size=2)
    losses = pair_losses([ZeroFilled()] * 3, MASKS, SCANS)
    expected = tuple(-losses.double().mean(0))
    assert scores_of(MASKS, score) == pytest.approx([float(each) for each in expected], abs=1e-6)
