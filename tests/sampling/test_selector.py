"""Selectors and controls: what each goes by."""

import numpy as np
import pytest
import torch
from sampling_reference import known, kspace
from scipy import stats
from sklearn.cluster import KMeans

from adaptmr.data.scan import Header
from adaptmr.errors import BadInputError, UsageError
from adaptmr.sampling import bank as banks
from adaptmr.sampling.bank import BankConfig, MaskBank
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.low_frequency import LowFrequency, acquire
from adaptmr.sampling.protocol_prior import ProtocolPrior, slice_positions
from adaptmr.sampling.selector import (
    Captured,
    Evidence,
    FixedBest,
    NearestCentroid,
    Oracle,
    Selector,
    Similarity,
    Uniform,
)
from adaptmr.sampling.uncertainty import UncertaintyMap

MATRIX, BLOCK = (12, 15), (3, 4)
ADAPTIVE: list[Selector] = [*map(NearestCentroid, Similarity), Captured()]


def maps(slices: int, seed: int = 0) -> UncertaintyMap:
    generator = torch.Generator().manual_seed(seed)
    return known(torch.rand(slices, *MATRIX, generator=generator) ** 3, BLOCK)


def bank(masks: int = 4) -> MaskBank:
    return banks.build(maps(40), Frame.of(MATRIX, BLOCK, 3), BankConfig(masks=masks))[0]


def low(slices: int) -> LowFrequency:
    return acquire(kspace(MATRIX, slices), BLOCK)


def evidence(slices: int = 9, seed: int = 5, **rest) -> Evidence:
    return Evidence(low(slices), maps(slices, seed), **rest)


def test_euclidean_is_kmeans_predict() -> None:
    given, made = evidence(30), bank()
    assert given.uncertainty is not None
    reference = KMeans(4, init=made.centroids.flatten(1).numpy(), n_init=1, max_iter=1)
    reference.fit(made.centroids.flatten(1).numpy())
    expected = reference.predict(given.uncertainty.values.flatten(1).numpy())
    scores = NearestCentroid().scores(given, made)
    assert np.array_equal(scores.argmax(1), expected)
    # The identity of the specification: u.c - |c|^2 / 2, for |u| = 1.
    flat, centres = given.uncertainty.values.flatten(1), made.centroids.flatten(1)
    identity = flat @ centres.T - centres.square().sum(1) / 2
    assert torch.allclose(-scores.square() / 2 + 0.5, identity, atol=1e-5)


def test_cosine_and_correlation_by_numpy() -> None:
    given, made = evidence(), bank()
    assert given.uncertainty is not None
    for index, values in enumerate(given.uncertainty.values.flatten(1).numpy()):
        for j, centre in enumerate(made.centroids.flatten(1).numpy()):
            cosine = values @ centre / np.linalg.norm(values) / np.linalg.norm(centre)
            found = NearestCentroid(Similarity.COSINE).scores(given, made)[index, j]
            assert float(found) == pytest.approx(cosine, abs=1e-5)
            found = NearestCentroid(Similarity.CORRELATION).scores(given, made)[index, j]
            assert float(found) == pytest.approx(stats.pearsonr(values, centre)[0], abs=1e-5)


@pytest.mark.parametrize("rule", ADAPTIVE[:3], ids=lambda rule: rule.name)
def test_a_centroid_chooses_its_own_mask(rule: Selector) -> None:
    made = bank()
    scaled = known(made.centroids * 3, BLOCK)
    assert rule.scores(Evidence(low(4), scaled), made).argmax(1).tolist() == [0, 1, 2, 3]


def test_captured_variance_is_the_share() -> None:
    given, made = evidence(), bank()
    assert given.uncertainty is not None
    scores = Captured().scores(given, made)
    for index, values in enumerate(given.uncertainty.values):
        for j, mask in enumerate(made.masks):
            expected = values[torch.from_numpy(mask.positions.copy())].sum() / values.sum()
            assert float(scores[index, j]) == pytest.approx(float(expected), abs=1e-6)


def test_captured_variance_of_lines() -> None:
    found = known(maps(40).values, (12, 3))
    made = banks.build(found, Frame.of(MATRIX, (3,), 3), BankConfig(masks=2))[0]
    given = Evidence(acquire(kspace(MATRIX, 2), (12, 3)), found[:2])
    share = found.values[0].sum(0)[torch.from_numpy(made.masks[1].positions.copy())].sum()
    scores = Captured().scores(given, made)
    assert float(scores[0, 1]) == pytest.approx(float(share / found.values[0].sum()), abs=1e-6)


@pytest.mark.parametrize("rule", ADAPTIVE, ids=lambda rule: rule.name)
def test_adaptive_rules_follow_the_masks_and_know_what_they_do_not_know(rule: Selector) -> None:
    given, made = evidence(), bank()
    assert given.uncertainty is not None
    scores = rule.scores(given, made)
    assert scores.shape == (9, 4)
    order = (2, 0, 3, 1)
    assert torch.allclose(rule.scores(given, made.permuted(order)), scores[:, list(order)])
    values = given.uncertainty.values.clone()
    values[3] = 0
    holed = Evidence(given.low_frequency, known(values, BLOCK))
    found = rule.scores(holed, made)
    assert torch.isnan(found[3]).all()
    assert torch.isfinite(found[[0, 1, 2, 4, 5, 6, 7, 8]]).all()
    assert rule.needs_uncertainty
    with pytest.raises(UsageError, match="needs the slices' uncertainty"):
        rule.scores(Evidence(given.low_frequency), made)


def test_controls() -> None:
    given, made = evidence(200), bank().with_best(torch.tensor([[3.0, 2, 1, 4]]))
    assert (FixedBest().scores(given, made).argmax(1) == 2).all()
    first = Uniform(0).scores(given, made)
    assert stats.chisquare(np.bincount(first.argmax(1), minlength=4)).pvalue > 1e-3
    assert torch.equal(first, Uniform(0).scores(given, made))
    assert not torch.equal(first, Uniform(1).scores(given, made))
    # A slice's draw is its own, wherever it stands.
    later = Evidence(given.low_frequency[7:9])
    assert torch.equal(Uniform(0).scores(later, made), first[7:9])
    for rule in (FixedBest(), Uniform(), Oracle()):
        assert not rule.needs_uncertainty


def test_oracle_needs_losses_and_bounds_all_others() -> None:
    made = bank()
    losses = torch.rand(9, 4, generator=torch.Generator().manual_seed(0))
    given = evidence(losses=losses)
    assert torch.equal(Oracle().scores(given, made).argmax(1), losses.argmin(1))
    best = losses.min(1).values
    for rule in [*ADAPTIVE, FixedBest(), Uniform()]:
        assert (losses[torch.arange(9), rule.scores(given, made).argmax(1)] >= best).all()
    with pytest.raises(UsageError, match="oracle needs the loss"):
        Oracle().scores(evidence(), made)
    with pytest.raises(BadInputError, match="one loss per slice and mask"):
        Oracle().scores(evidence(losses=losses[:, :3]), made)
    with pytest.raises(BadInputError, match="one loss per slice and mask"):
        Oracle().scores(evidence(losses=losses[:5]), made)


def headers() -> list[Header]:
    return [Header(acquisition="AXT2", orientation="axial")] * 6 + [
        Header(acquisition="AXT1", orientation="axial")
    ] * 6


def prior() -> ProtocolPrior:
    losses = torch.ones(12, 2)
    losses[[0, 1, 2, 6, 7, 8, 9, 10, 11], 0] = 0.0  # the first half of T2, and all of T1
    losses[[3, 4, 5], 1] = 0.0
    positions = slice_positions(6).repeat(2)
    return ProtocolPrior.fit(headers(), positions, losses, parts=2)


def test_protocol_prior_is_a_table_of_means() -> None:
    made, table = bank(2), prior()
    given = evidence(6, header=headers()[0], positions=slice_positions(6))
    assert table.scores(given, made).argmax(1).tolist() == [0, 0, 0, 1, 1, 1]
    given = evidence(6, header=headers()[-1], positions=slice_positions(6))
    assert table.scores(given, made).argmax(1).tolist() == [0] * 6
    again = ProtocolPrior.model_validate_json(table.model_dump_json())
    assert torch.equal(again.scores(given, made), table.scores(given, made))
    assert sum(row.slices for row in table.rows if row.situation.acquisition is None) == 12


def test_protocol_prior_backs_off() -> None:
    made, table = bank(2), prior()
    # Contrast without position: the mean over the volume.
    given = evidence(1, header=headers()[-1])
    assert table.scores(given, made).tolist() == [[0.0, -1.0]]
    # An unknown contrast: the position over all contrasts.
    given = evidence(6, header=Header(acquisition="FLAIR"), positions=slice_positions(6))
    assert table.scores(given, made)[:, 0].tolist() == [0.0, 0, 0, -0.5, -0.5, -0.5]
    # Nothing known: no score.
    assert torch.isnan(table.scores(evidence(2, header=Header()), made)).all()
    assert torch.isnan(table.scores(evidence(2), made)).all()


def test_protocol_prior_of_something_else_is_refused() -> None:
    with pytest.raises(BadInputError, match="another bank"):
        prior().scores(evidence(2), bank(3))
    with pytest.raises(BadInputError, match="different slices"):
        ProtocolPrior.fit(headers()[:3], slice_positions(12), torch.zeros(12, 2))
    with pytest.raises(BadInputError, match="not finite"):
        ProtocolPrior.fit(headers(), slice_positions(12), torch.full((12, 2), torch.nan))


def test_slice_positions() -> None:
    assert slice_positions(5).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert slice_positions(1).tolist() == [0.5]
