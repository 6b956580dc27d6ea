"""The mixture of factor analysers against dense Gaussians."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.stats import multivariate_normal

from adaptmr.sampling.factor_mixture import FactorMixture, Prior, fit

quick = settings(max_examples=20, deadline=None)
EVERYTHING = slice(None)


def global_state() -> list[int]:
    # Looked at, not used.
    return np.random.get_state()[1].tolist()  # noqa: NPY002


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(components: int, coordinates: int, factors: int, seed: int = 0) -> FactorMixture:
    source = generator(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=source, dtype=torch.float64)

    return FactorMixture(
        torch.log_softmax(normal(components), 0),
        2 * normal(components, coordinates),
        normal(components, coordinates, factors),
        (0.3 * normal(components, coordinates)).exp(),
    )


def covariances(density: FactorMixture) -> np.ndarray:
    return (density.factors @ density.factors.mT + torch.diag_embed(density.noise)).numpy()


def examples(density: FactorMixture, n: int, seed: int = 1) -> torch.Tensor:
    source = np.random.default_rng(seed)
    component = source.choice(len(density.mean), n, p=density.log_weight.exp().numpy())
    dense = covariances(density)
    drawn = [source.multivariate_normal(density.mean[j].numpy(), dense[j]) for j in component]
    return torch.from_numpy(np.stack(drawn))


@quick
@given(
    components=st.integers(1, 4),
    coordinates=st.integers(1, 9),
    factors=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_densities_equal_scipy(components: int, coordinates: int, factors: int, seed: int) -> None:
    density = mixture(components, coordinates, factors, seed)
    x = examples(density, 5, seed)
    found = density.posterior(x)
    dense = covariances(density)
    joint = np.stack(
        [
            multivariate_normal.logpdf(x.numpy(), density.mean[j].numpy(), dense[j])
            + float(density.log_weight[j])
            for j in range(components)
        ],
        axis=-1,
    ).reshape(5, components)
    assert np.allclose(found.joint.numpy(), joint)
    weights = np.exp(joint - joint.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    assert np.allclose(found.responsibilities.numpy(), weights)
    assert torch.allclose(found.responsibilities.sum(1), torch.ones(5).double())
    assert np.allclose(found.evidence.numpy(), np.logaddexp.reduce(joint, 1))


@quick
@given(known=st.integers(1, 7), factors=st.integers(1, 9), seed=st.integers(0, 99))
def test_conditionals_equal_dense_ones(known: int, factors: int, seed: int) -> None:
    density = mixture(2, 8, factors, seed)
    x = examples(density, 3, seed)
    seen, rest = density[:known], density[known:]
    posterior = seen.posterior(x[:, :known])
    dense = covariances(density)
    for j in range(2):
        mean, full = density.mean[j].numpy(), dense[j]
        gain = full[known:, :known] @ np.linalg.inv(full[:known, :known])
        expected = mean[known:] + (x[:, :known].numpy() - mean[:known]) @ gain.T
        conditional = full[known:, known:] - gain @ full[:known, known:]
        ours = rest.mean[j] + posterior.mean[j] @ rest.factors[j].T
        spread = rest.factors[j] @ posterior.covariance[j] @ rest.factors[j].T
        assert np.allclose(ours.numpy(), expected)
        assert np.allclose((spread + rest.noise[j].diag()).numpy(), conditional)


@quick
@given(
    n=st.integers(1, 30),
    coordinates=st.integers(1, 12),
    components=st.integers(1, 5),
    factors=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_objective_never_falls_and_nothing_breaks(
    n: int, coordinates: int, components: int, factors: int, seed: int
) -> None:
    x = examples(mixture(3, coordinates, 2, seed), n, seed)
    x = x / x.std().clamp_min(0.1) if n * coordinates > 1 else x
    found = fit(
        x,
        slice(0, 1),
        components,
        factors,
        Prior(mean=2.0, factors=3.0, noise=5.0),
        generator(seed),
        iterations=25,
        tolerance=0.0,
    )
    steps = np.diff(found.objective)
    assert (steps >= -1e-8 * np.abs(found.objective[:-1])).all()
    for part in (found.mixture.mean, found.mixture.factors, found.mixture.noise):
        assert part.isfinite().all()
    assert (found.mixture.noise > 0).all()
    assert float(found.mixture.log_weight.exp().sum()) == pytest.approx(1)


def test_weak_prior_is_maximum_likelihood() -> None:
    # One factor, one component, a vanishing prior: no density of this form gives more likelihood.
    density = mixture(1, 6, 1, 3)
    x = examples(density, 400)
    weak = Prior(mean=1e-6, factors=1e-6, noise=1e-6, weight=1e-6)
    found = fit(x, EVERYTHING, 1, 1, weak, generator(), iterations=400, tolerance=0.0).mixture
    likelihood = float(found.posterior(x).evidence.sum())
    assert likelihood > float(density.posterior(x).evidence.sum())
    # The divisor of the noise counts the parameters' own prior: a bias of three in 400.
    assert np.allclose(covariances(found)[0], np.cov(x.numpy().T, bias=True), atol=0.15)
    source = generator(5)
    for name in ("mean", "factors", "noise"):
        value = getattr(found, name)
        nudge = 0.05 * value.abs() * torch.randn(value.shape, generator=source).double()
        changed = {n: getattr(found, n) for n in ("log_weight", "mean", "factors", "noise")}
        changed[name] = value + nudge
        assert float(FactorMixture(**changed).posterior(x).evidence.sum()) < likelihood


def test_planted_components_are_recovered() -> None:
    density = mixture(3, 10, 2, 7)
    x = examples(density, 3000)
    weak = Prior(mean=0.1, factors=0.1, noise=1.0)
    found = fit(x, EVERYTHING, 3, 2, weak, generator(), iterations=200, tolerance=0.0).mixture
    order = torch.cdist(density.mean, found.mean).argmin(1)
    assert sorted(order.tolist()) == [0, 1, 2]
    assert torch.allclose(found.mean[order], density.mean, atol=0.4)
    assert torch.allclose(found.log_weight[order].exp(), density.log_weight.exp(), atol=0.03)
    for ours, theirs in zip(covariances(found)[order.numpy()], covariances(density), strict=True):
        assert np.linalg.norm(ours - theirs) < 0.25 * np.linalg.norm(theirs)


def test_without_examples_a_component_is_the_prior() -> None:
    x = torch.zeros(4, 3, dtype=torch.float64)
    found = fit(x, EVERYTHING, 2, 2, Prior(level=0.7, noise=1e6), generator()).mixture
    assert torch.allclose(found.mean, torch.zeros(2, 3).double(), atol=1e-6)
    assert torch.allclose(found.noise, torch.full((2, 3), 0.7).double(), atol=1e-3)


def test_seeded_and_the_global_state_untouched() -> None:
    x = examples(mixture(3, 6, 2), 60)
    torch.manual_seed(11)
    before = torch.get_rng_state(), global_state()
    fits = [fit(x, EVERYTHING, 3, 2, Prior(), generator(seed)).mixture for seed in (4, 4)]
    assert torch.equal(fits[0].mean, fits[1].mean)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == global_state()
