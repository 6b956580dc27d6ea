"""One choice for the slices of a volume."""

import numpy as np
import pytest
import torch
from sampling_reference import Given, known, kspace

from adaptmr.errors import BadInputError
from adaptmr.sampling import bank as banks
from adaptmr.sampling.bank import BankConfig, MaskBank
from adaptmr.sampling.decision import Decision
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.low_frequency import acquire
from adaptmr.sampling.selection import Adaptation, decide
from adaptmr.sampling.selector import Evidence, NearestCentroid, Selector, Uniform
from adaptmr.sampling.uncertainty import uncertainty
from adaptmr.sampling.volume import for_volume

MATRIX, BLOCK = (12, 15), (3, 4)


def bank() -> MaskBank:
    values = torch.rand(20, *MATRIX, generator=torch.Generator().manual_seed(0)) ** 3
    return banks.build(known(values, BLOCK), Frame.of(MATRIX, BLOCK, 3), BankConfig(masks=3))[0]


def decided(
    made: MaskBank, silent: tuple[int, ...] = (), rule: Selector | None = None
) -> tuple[Decision, ...]:
    measured = kspace(MATRIX, 5)
    measured[list(silent)] = 0
    low = acquire(measured, BLOCK)
    drawn = torch.rand(10, 5, *MATRIX, generator=torch.Generator().manual_seed(1))
    found = uncertainty(Given(drawn), low, 10, torch.Generator())
    return decide(Evidence(low, found), Adaptation(made, rule or NearestCentroid()))


def test_mean_of_the_slices() -> None:
    made = bank()
    slices = decided(made)
    volume = for_volume(slices, made)
    means = np.mean([each.scores for each in slices], axis=0)
    assert np.allclose(volume.scores, means)
    assert np.allclose(volume.distances, -means)
    assert volume.index == int(means.argmax())
    assert volume.mask == made.masks[volume.index].fingerprint
    assert (volume.slice_index, volume.fallback, volume.reason) == (None, False, None)
    assert volume.samples == 50
    assert volume.latency_ms == pytest.approx(sum(each.latency_ms for each in slices))
    assert Decision.model_validate_json(volume.model_dump_json()) == volume


def test_slices_that_cannot_be_judged_do_not_count() -> None:
    made = bank()
    slices = decided(made, silent=(1, 4))
    volume = for_volume(slices, made)
    assert np.allclose(volume.scores, np.mean([slices[n].scores for n in (0, 2, 3)], axis=0))
    assert (volume.fallback, volume.reason) == (False, "2 of 5 slices could not be judged")
    dark = for_volume(decided(made, silent=(0, 1, 2, 3, 4)), made)
    assert (dark.index, dark.fallback) == (made.best, True)
    assert dark.reason == "5 of 5 slices could not be judged"
    assert dark.scores == (None, None, None)


def test_slices_of_different_choices_are_refused() -> None:
    made = bank()
    slices = decided(made)
    for wrong in ((), (slices[0], decided(made, rule=Uniform())[1])):
        with pytest.raises(BadInputError, match="not decided on alike"):
            for_volume(wrong, made)
    with pytest.raises(BadInputError, match="not decided on alike"):
        for_volume(slices, made.permuted((1, 0, 2)))
