"""Whether masks are told to be adaptive when they are."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptmr.errors import UsageError
from adaptmr.reconstruction.learned.diagnostics import adaptivity, collapsed, variation
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.mask import Mask

FRAME = Frame.of((8, 24), (4,), 3)


def masks(seeds: list[int], kind: MaskKind) -> list[Mask]:
    spec = MaskSpec(kind=kind, acceleration=3, center_fraction=0.2)
    return [make_mask(spec, (16, 21), seed=seed) for seed in seeds]


def lines(*chosen: int) -> Mask:
    positions = FRAME.block_only.positions.copy()
    positions[list(chosen)] = True
    return Mask(positions, FRAME.low_frequency)


@given(
    seeds=st.lists(st.integers(0, 5), min_size=2, max_size=8),
    kind=st.sampled_from([MaskKind.RANDOM, MaskKind.RANDOM_2D]),
)
@settings(max_examples=25, deadline=None)
def test_adaptivity_is_one_minus_the_mean_overlap_of_pairs(
    seeds: list[int], kind: MaskKind
) -> None:
    all_masks = masks(seeds, kind)
    overlaps = []
    for first, second in combinations(all_masks, 2):
        high = ~first.low_frequency_only().positions
        both = first.positions & second.positions & high
        overlaps.append(both.sum() / (first.positions & high).sum())
    assert adaptivity(all_masks) == pytest.approx(1 - np.mean(overlaps))
    if len(set(seeds)) == 1:
        assert adaptivity(all_masks) == 0
        assert collapsed(all_masks)


def test_masks_that_share_nothing_are_wholly_adaptive() -> None:
    apart = [lines(0, 1, 2, 3), lines(4, 5, 6, 7)]
    assert adaptivity(apart) == 1
    assert not collapsed(apart)


def test_a_policy_whose_masks_hardly_differ_has_collapsed() -> None:
    same, other = lines(0, 1, 2, 3), lines(0, 1, 2, 4)
    assert collapsed([same, same, same, other])
    assert not collapsed([same, other])


def test_variation_is_over_inputs_and_candidates() -> None:
    probabilities = torch.zeros(2, 24, dtype=torch.float64)
    probabilities[1, 0] = 1
    probabilities[1, 12] = 1  # in the block: does not count
    assert variation(probabilities, FRAME) == pytest.approx(0.5 / 20)
    assert variation(probabilities[:1].expand(3, -1), FRAME) == 0


def test_one_mask_or_masks_of_different_kinds_are_no_policy() -> None:
    with pytest.raises(UsageError, match="two or more"):
        adaptivity([lines(0)])
    with pytest.raises(UsageError, match="two or more"):
        variation(torch.zeros(1, 24), FRAME)
    with pytest.raises(UsageError, match="cannot be compared"):
        collapsed([lines(0), lines(0, 1)])
