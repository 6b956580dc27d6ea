"""Slices whose right mask is known, and slices for which no mask is better than another."""

from functools import cache

import numpy as np
import pytest
import torch
from sampling_reference import Neighbours, as_kspace, textures

from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.sampling import bank as banks
from adaptmr.sampling.bank import BankConfig, MaskBank
from adaptmr.sampling.clustering import Clustering
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.informed import DrawRule, own_mask
from adaptmr.sampling.low_frequency import LowFrequency, acquire
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.selection import (
    HONG2024,
    Adaptation,
    UncertaintyConfig,
    decide,
    measure,
    measure_training,
    with_uncertainty,
)
from adaptmr.sampling.selector import (
    Captured,
    Evidence,
    NearestCentroid,
    Oracle,
    Selector,
    Similarity,
)

SIZE, BLOCK = 48, (10, 10)


def toy_sampler(oriented: bool) -> tuple[Neighbours, LowFrequency, torch.Tensor]:
    images, _ = textures(90, SIZE, 0, oriented=oriented)
    low = acquire(as_kspace(images), BLOCK)
    full = images / low.scale[:, None, None]
    return Neighbours(low.image, full), low, images


@cache
def toy_bank(oriented: bool) -> tuple[MaskBank, Clustering, Neighbours]:
    """Two masks, and the one that is best for all the training slices to fall back on."""
    sampler, low, images = toy_sampler(oriented)
    found = measure_training(sampler, low, HONG2024.uncertainty)
    made, clusters = banks.build(
        found, Frame.of((SIZE, SIZE), BLOCK, 6), BankConfig(masks=2, restarts=3)
    )
    return made.with_best(errors(as_kspace(images), made.masks)), clusters, sampler


def errors(measured: torch.Tensor, masks: tuple[Mask, ...]) -> torch.Tensor:
    """Squared error of the zero-filled magnitude image, (slices, J)."""
    target = inverse_fourier(measured).abs()
    return torch.stack(
        [
            (inverse_fourier(mask.apply(measured)).abs() - target).square().sum((1, 2, 3))
            for mask in masks
        ],
        1,
    )


def bootstrap(gain: torch.Tensor) -> tuple[float, float]:
    """95 % interval of a mean gain per slice, resampled by slice."""
    generator = np.random.default_rng(0)
    values = gain.numpy()
    draws = generator.choice(values, (4000, len(values))).mean(1)
    return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


ADAPTIVE: list[Selector] = [*map(NearestCentroid, Similarity), Captured()]


@pytest.mark.parametrize("rule", ADAPTIVE, ids=lambda rule: rule.name)
def test_toy_with_a_guaranteed_answer(rule: Selector) -> None:
    made, clusters, sampler = toy_bank(oriented=True)
    _, family = textures(90, SIZE, 0)
    purity = float((clusters.labels.numpy() == family).mean())
    assert max(purity, 1 - purity) > 0.97
    images, _ = textures(100, SIZE, 1)
    measured = as_kspace(images)
    losses = errors(measured, made.masks)
    adaptation = Adaptation(made, rule, sampler)
    evidence = Evidence(acquire(measured, BLOCK), losses=losses)
    chosen = torch.tensor(
        [d.index for d in decide(with_uncertainty(evidence, adaptation), adaptation)]
    )
    assert float((chosen == losses.argmin(1)).double().mean()) >= 0.95
    each = torch.arange(len(losses))
    low, _ = bootstrap(losses[each, made.best] - losses[each, chosen])
    assert low > 0.2 * float(losses[each, losses.argmin(1)].mean())
    oracle = decide(evidence, Adaptation(made, Oracle()))
    assert [d.index for d in oracle] == losses.argmin(1).tolist()


def test_isotropic_control_shows_no_gain() -> None:
    made, _, sampler = toy_bank(oriented=False)
    images, _ = textures(100, SIZE, 1, oriented=False)
    measured = as_kspace(images)
    losses = errors(measured, made.masks)
    adaptation = Adaptation(made, NearestCentroid(), sampler)
    evidence = with_uncertainty(Evidence(acquire(measured, BLOCK)), adaptation)
    chosen = torch.tensor([d.index for d in decide(evidence, adaptation)])
    each = torch.arange(len(losses))
    low, high = bootstrap(losses[each, made.best] - losses[each, chosen])
    assert low <= 0
    assert high < 0.1 * float(losses.mean())


def test_own_masks_beat_those_of_others() -> None:
    # The limit of a mask for every slice; and it knows where it is uncertain.
    sampler, _, _ = toy_sampler(oriented=True)
    images, family = textures(40, SIZE, 2)
    measured = as_kspace(images)
    found = measure(sampler, acquire(measured, BLOCK), UncertaintyConfig(samples=20))
    frame, rule = Frame.of((SIZE, SIZE), BLOCK, 6), DrawRule(sort_fraction=1)
    masks = [own_mask(found, index, frame, rule) for index in range(40)]
    own = torch.tensor([float(errors(measured[n : n + 1], (masks[n],))) for n in range(40)])
    other = np.array([int(np.flatnonzero(family != one)[0]) for one in family])
    swapped = torch.tensor(
        [float(errors(measured[n : n + 1], (masks[other[n]],))) for n in range(40)]
    )
    assert bootstrap(swapped - own)[0] > 0
