"""Where the masks of a training come from."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptmr.errors import BadInputError
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.informed import DrawRule
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.sources import FixedMask, MaskSource, UncertaintyDraws

MATRIX = (16, 20)
VALUES = torch.rand(5, *MATRIX, generator=torch.Generator().manual_seed(0))


def draws(axes: int, padding: tuple[int, int] | None = None) -> UncertaintyDraws:
    frame = Frame.of(MATRIX, (4,) if axes == 1 else (4, 4), 2.5, padding)
    return UncertaintyDraws(VALUES, frame, DrawRule())


@given(seed=st.tuples(st.integers(0, 9), st.integers(0, 9)), axes=st.sampled_from([1, 2]))
@settings(max_examples=20, deadline=None)
def test_masks_of_uncertainties_have_the_frame_and_follow_the_seed(
    seed: tuple[int, ...], axes: int
) -> None:
    source = draws(axes)
    mask = source.make(MATRIX, seed, None)
    assert mask.budget == source.frame.budget
    assert Frame.of_mask(mask).block_only == source.frame.block_only
    assert source.make(MATRIX, seed, None) == mask


def test_masks_of_uncertainties_differ_and_favour_what_is_uncertain() -> None:
    weights = torch.zeros(1, *MATRIX)
    weights[..., 12:] = 1
    source = UncertaintyDraws(weights, draws(1).frame, DrawRule())
    masks = [source.make(MATRIX, "name" + str(seed), None) for seed in range(8)]
    assert len(set(masks)) > 4
    outside = np.stack([mask.positions for mask in masks])[:, :8]
    assert not outside.any()


def test_a_fixed_mask_is_always_the_same_and_is_checked() -> None:
    spec = MaskSpec(kind=MaskKind.RANDOM, acceleration=2, center_fraction=0.2)
    mask = make_mask(spec, MATRIX, seed=1)
    source = FixedMask(mask)
    assert source.make(MATRIX, 1, None) is source.make(MATRIX, 2, (0, 20)) is mask
    with pytest.raises(BadInputError, match="another matrix"):
        source.make((16, 22), 0, None)
    edge = Mask(np.arange(20) >= 8, (2,))
    with pytest.raises(BadInputError, match=r"padding.*columns 8 to 19.*columns 2 to 17"):
        FixedMask(edge).make(MATRIX, 0, (2, 18))
    assert FixedMask(edge).make(MATRIX, 0, (8, 20)) is edge


def test_padding_is_never_acquired() -> None:
    assert draws(2, (3, 17)).make(MATRIX, 0, (3, 17)).positions[:, :3].sum() == 0
    with pytest.raises(BadInputError, match="zero padding"):
        for seed in range(9):
            draws(1).make(MATRIX, seed, (3, 17))


def test_sources_are_told_apart() -> None:
    spec = MaskSpec(kind=MaskKind.RANDOM, acceleration=2)
    sources: list[MaskSource] = [
        spec,
        spec.model_copy(update={"acceleration": 3.0}),
        draws(1),
        draws(2),
        UncertaintyDraws(VALUES + 1, draws(1).frame, DrawRule()),
        UncertaintyDraws(VALUES, draws(1).frame, DrawRule(power=2)),
        FixedMask(make_mask(spec, MATRIX, seed=0)),
    ]
    assert len({source.fingerprint for source in sources}) == len(sources)
    assert draws(1).fingerprint == draws(1).fingerprint
    assert spec.make(MATRIX, 3, None) == make_mask(spec, MATRIX, seed=3)
