"""Clusters of uncertainties: the identities of k-means, and what cannot be clustered."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sampling_reference import known
from sklearn.cluster import KMeans

from adaptmr.errors import BadInputError, UsageError
from adaptmr.sampling.clustering import cluster
from adaptmr.sampling.uncertainty import UncertaintyMap

quick = settings(max_examples=15, deadline=None)
BLOCK = (3, 3)


def random_maps(slices: int, seed: int = 0, matrix: tuple[int, int] = (8, 9)) -> UncertaintyMap:
    generator = torch.Generator().manual_seed(seed)
    return known(torch.rand(slices, *matrix, generator=generator) ** 4, BLOCK)


@quick
@given(slices=st.integers(6, 40), clusters=st.integers(1, 5), seed=st.integers(0, 1000))
def test_identities(slices: int, clusters: int, seed: int) -> None:
    maps = random_maps(slices, seed)
    found = cluster(maps, clusters, seed=seed)
    flat = maps.values.flatten(1).double()
    centres = found.centroids.flatten(1).double()
    apart = torch.cdist(flat, centres)
    assert torch.equal(apart.argmin(1), found.labels)
    for index, population in enumerate(found.populations):
        members = flat[found.labels == index]
        assert len(members) == population > 0
        assert torch.allclose(members.mean(0), centres[index], atol=1e-6)
    assert list(found.populations) == sorted(found.populations, reverse=True)
    assert sum(found.populations) == slices
    share = torch.tensor(found.populations).double() / slices
    assert torch.allclose((share[:, None] * centres).sum(0), flat.mean(0), atol=1e-6)
    # Members have unit norm, so the inertia is what the centroids' norms lack.
    expected = slices * float((share * (1 - centres.square().sum(1))).sum())
    assert found.inertia == pytest.approx(expected, abs=1e-4)
    assert found.inertia == pytest.approx(float(apart.min(1).values.square().sum()), abs=1e-4)


def test_one_cluster_is_the_mean() -> None:
    maps = random_maps(20)
    found = cluster(maps, 1)
    assert torch.allclose(found.centroids[0], maps.values.mean(0), atol=1e-6)


def test_inertia_falls_with_the_number_of_clusters() -> None:
    maps = random_maps(30)
    inertia = [cluster(maps, clusters).inertia for clusters in range(1, 8)]
    assert (np.diff(inertia) < 0).all()
    assert cluster(maps, 30).inertia == pytest.approx(0, abs=1e-6)


def test_same_as_scikit_learn() -> None:
    maps = random_maps(40)
    reference = KMeans(4, n_init=10, random_state=1, tol=0, max_iter=1000).fit(
        maps.values.flatten(1).numpy()
    )
    found = cluster(maps, 4)
    assert found.inertia == pytest.approx(reference.inertia_, rel=1e-6)
    order = np.argsort(-np.bincount(reference.labels_), kind="stable")
    assert np.allclose(found.centroids.flatten(1), reference.cluster_centers_[order], atol=1e-6)
    predicted = reference.predict(maps.values.flatten(1).numpy())
    assert np.array_equal(order[found.labels], predicted)


def test_planted_clusters_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(3, 8, 9, generator=generator) ** 8
    truth = torch.tensor([0] * 12 + [1] * 7 + [2] * 4)[torch.randperm(23, generator=generator)]
    noise = 0.02 * torch.rand(23, 8, 9, generator=generator)
    found = cluster(known(centres[truth] + noise, BLOCK), 3)
    assert torch.equal(found.labels, truth)
    assert found.populations == (12, 7, 4)


def test_deterministic_and_apart_from_the_global_state() -> None:
    maps = random_maps(25)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = cluster(maps, 3), cluster(maps, 3)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(first.centroids, second.centroids)
    assert torch.equal(first.labels, second.labels)


def test_unknown_slices_belong_nowhere() -> None:
    maps = random_maps(12)
    values = maps.values.clone()
    values[[2, 7]] = 0
    holed = UncertaintyMap(
        values,
        torch.arange(12).apply_(lambda n: n not in (2, 7)).bool(),
        maps.usable,
        maps.rejected,
    )
    found = cluster(holed, 3)
    kept = cluster(holed[holed.known], 3)
    assert found.labels[[2, 7]].tolist() == [-1, -1]
    assert torch.equal(found.labels[holed.known], kept.labels)
    assert torch.equal(found.centroids, kept.centroids)


def test_too_few_slices_are_refused() -> None:
    with pytest.raises(
        BadInputError, match=r"fewer training slices than masks.*got 4 .*expected at"
    ):
        cluster(random_maps(4), 5)
    copies = random_maps(2)[torch.tensor([0, 1, 0, 1, 1])]
    assert cluster(copies, 2).populations == (3, 2)
    with pytest.raises(BadInputError, match=r"got 2 different known uncertainties in 5 slices"):
        cluster(copies, 3)
    none = known(torch.zeros(5, 8, 9), BLOCK)
    with pytest.raises(BadInputError, match="got 0 different"):
        cluster(none, 1)
    with pytest.raises(UsageError, match="at least one mask"):
        cluster(random_maps(4), 0)


@pytest.mark.parametrize("clusters", [2, 6])
def test_near_copies_leave_no_cluster_empty(clusters: int) -> None:
    values = random_maps(1).values.repeat(20, 1, 1)
    for index, value in enumerate(values):
        value.view(-1)[30 + index] += 1e-7
    count = torch.full((20,), 10)
    maps = UncertaintyMap(values, torch.ones(20, dtype=torch.bool), count, 0 * count)
    assert min(cluster(maps, clusters).populations) > 0


def test_an_empty_cluster_would_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = KMeans.fit

    def into_one(self: KMeans, points: np.ndarray) -> KMeans:
        fit(self, points)
        self.labels_ = np.zeros_like(self.labels_)
        return self

    monkeypatch.setattr(KMeans, "fit", into_one)
    with pytest.raises(BadInputError, match=r"a cluster stays empty.*got 1 clusters; expected 3"):
        cluster(random_maps(9), 3)
