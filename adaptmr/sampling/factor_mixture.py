"""Mixture of factor analysers: a density in high dimensions from few examples, by EM.

Component ``j`` says ``x = mean_j + factors_j z + noise``, with ``z`` standard normal and the noise
independent with a variance for each coordinate: a probabilistic PCA (Tipping and Bishop 1999)
whose noise need not be the same everywhere (Ghahramani and Hinton 1996). Conditionals and
likelihoods need matrices of the size of ``z`` only (Woodbury identity).

Conjugate priors (normal, inverse gamma, Dirichlet) take the part of examples that do not exist, so
that a component of any number of examples, even none, is well defined.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

_SMALLEST = 1e-10
_FOR_FIRST_FACTORS = 512
_MOST_SEED = 2**31 - 1


class Prior(NamedTuple):
    """What components are drawn towards, counted in examples.

    Attributes:
        mean: number of examples at 0 that each mean is averaged with.
        factors: strength with which factors are drawn to 0; with as many examples as this, what is
            learned of them counts half.
        noise: number of examples whose noise has the variance ``level``.
        level: that variance.
        weight: examples that each component has beside its own.
    """

    mean: float = 10.0
    factors: float = 200.0
    noise: float = 20.0
    level: float = 0.7
    weight: float = 1.0


class Posterior(NamedTuple):
    """What examples tell of component and factors.

    Attributes:
        joint: (n, components) logarithm of the density of example and component.
        mean: (components, n, factors) of ``z`` in each component.
        covariance: (components, factors, factors), the same for all examples.
    """

    joint: Tensor
    mean: Tensor
    covariance: Tensor

    @property
    def evidence(self) -> Tensor:
        """(n,) logarithm of the density of each example."""
        return torch.logsumexp(self.joint, 1)

    @property
    def responsibilities(self) -> Tensor:
        """(n, components) probability of each component; the sum over components is 1."""
        return torch.softmax(self.joint, 1)


@dataclass(frozen=True, eq=False)
class FactorMixture:
    """The density.

    Attributes:
        log_weight: (components,), the exponentials sum to 1.
        mean: (components, coordinates).
        factors: (components, coordinates, factors).
        noise: (components, coordinates), variances.
    """

    log_weight: Tensor
    mean: Tensor
    factors: Tensor
    noise: Tensor

    def __getitem__(self, coordinates: slice) -> "FactorMixture":
        """The density of some of the coordinates."""
        return FactorMixture(
            self.log_weight,
            self.mean[:, coordinates],
            self.factors[:, coordinates],
            self.noise[:, coordinates],
        )

    def posterior(self, x: Tensor) -> Posterior:
        """What examples (n, coordinates) tell of component and factors."""
        weighted = self.factors / self.noise[:, :, None]
        eye = torch.eye(self.factors.shape[2], dtype=x.dtype, device=x.device)
        root = torch.linalg.cholesky(eye + self.factors.mT @ weighted)
        covariance = torch.cholesky_inverse(root)
        joint, means = [], []
        # One component after another: their deviations together may not fit in memory.
        for index, log_weight in enumerate(self.log_weight):
            deviation = x - self.mean[index]
            projected = deviation @ weighted[index]
            mean = projected @ covariance[index]
            distance = deviation.square() @ (1 / self.noise[index]) - (projected * mean).sum(1)
            volume = 2 * root[index].diagonal().log().sum() + self.noise[index].log().sum()
            constant = x.shape[1] * math.log(2 * math.pi)
            joint.append(log_weight - (distance + volume + constant) / 2)
            means.append(mean)
        return Posterior(torch.stack(joint, 1), torch.stack(means), covariance)

    @classmethod
    def prior(cls, components: int, coordinates: int, factors: int, prior: Prior) -> Self:
        """All components alike: mean 0, no factors, the prior's noise."""
        like = torch.zeros(components, coordinates, dtype=torch.float64)
        return cls(
            like.new_full((components,), -math.log(components)),
            like,
            like[:, :, None].repeat(1, 1, factors),
            like + prior.level,
        )


class Fit(NamedTuple):
    """A fitted mixture.

    Attributes:
        mixture: the mixture.
        objective: before each step, logarithm of the likelihood times the prior, up to a constant;
            never falls.
    """

    mixture: FactorMixture
    objective: tuple[float, ...]


def fit(
    x: Tensor,
    observed: slice,
    components: int,
    factors: int,
    prior: Prior,
    generator: torch.Generator,
    *,
    iterations: int = 30,
    tolerance: float = 1e-5,
) -> Fit:
    """Find the most probable mixture by expectation maximisation, started with k-means.

    Args:
        x: (n, coordinates) float64, in units in which a coordinate has about the variance 1.
        observed: coordinates that k-means looks at.
        components: number of components.
        factors: factors of each.
        prior: what components are drawn towards.
        generator: where the randomness of the start comes from.
        iterations: most steps taken.
        tolerance: gain of the objective per coordinate and example that is small enough.
    """
    mixture = _start(x, observed, components, factors, prior, generator)
    squares = x.square()
    objective: list[float] = []
    for _ in range(iterations):
        posterior = mixture.posterior(x)
        objective.append(float(posterior.evidence.sum() + _log_prior(mixture, prior)))
        if len(objective) > 1 and objective[-1] - objective[-2] < tolerance * x.numel():
            break
        mixture = _maximised(x, squares, posterior, prior)
    return Fit(mixture, tuple(objective))


def _maximised(x: Tensor, squares: Tensor, posterior: Posterior, prior: Prior) -> FactorMixture:
    """The mixture that maximises the expected logarithm of likelihood times prior.

    Factors and mean are found together: they are the coefficients of a regression on (z, 1).
    """
    components, count, factors = posterior.mean.shape
    responsibilities = posterior.responsibilities
    total = responsibilities.sum(0)
    strength = x.new_full((factors + 1,), prior.factors)
    strength[-1] = prior.mean
    coefficients, noise = [], []
    for index in range(components):
        weight = responsibilities[:, index, None]
        regressors = torch.cat([posterior.mean[index], torch.ones_like(weight)], 1)
        moments = regressors.T @ (weight * regressors) + strength.diag()
        moments[:factors, :factors] += total[index] * posterior.covariance[index]
        cross = (weight * regressors).T @ x
        found = torch.linalg.solve(moments, cross)
        left = weight[:, 0] @ squares - (found * cross).sum(0) + prior.noise * prior.level
        noise.append(left / (total[index] + prior.noise + factors + 1))
        coefficients.append(found.T)
    both = torch.stack(coefficients)
    return FactorMixture(
        ((total + prior.weight) / (count + components * prior.weight)).log(),
        both[:, :, -1],
        both[:, :, :-1],
        torch.stack(noise).clamp_min(_SMALLEST),
    )


def _log_prior(mixture: FactorMixture, prior: Prior) -> Tensor:
    """Logarithm of the prior density of a mixture, up to a constant."""
    factors = mixture.factors.shape[2]
    pull = prior.factors * mixture.factors.square().sum(2) + prior.mean * mixture.mean.square()
    of_noise = (prior.noise + factors + 1) * mixture.noise.log()
    scaled = (prior.noise * prior.level + pull) / mixture.noise
    return prior.weight * mixture.log_weight.sum() - (of_noise + scaled).sum() / 2


def _start(
    x: Tensor,
    observed: slice,
    components: int,
    factors: int,
    prior: Prior,
    generator: torch.Generator,
) -> FactorMixture:
    """Clusters by k-means, for all of them the principal components of all examples."""
    # Loading scikit-learn takes most of a second, which no other command should pay.
    from sklearn.cluster import KMeans

    seed = int(torch.randint(_MOST_SEED, (), generator=generator, device=generator.device))
    points = x[:, observed].cpu().numpy()
    clusters = min(components, len(torch.unique(x[:, observed], dim=0)))
    labels = torch.from_numpy(KMeans(clusters, n_init=5, random_state=seed).fit_predict(points))
    member = torch.nn.functional.one_hot(labels.long(), components).to(x)
    sizes = member.sum(0)
    empty = FactorMixture.prior(components, x.shape[1], factors, prior)
    order = torch.randperm(len(x), generator=generator, device=generator.device)
    principal = _principal(x[order[:_FOR_FIRST_FACTORS].to(x.device)], factors)
    return FactorMixture(
        ((sizes + prior.weight) / (len(x) + components * prior.weight)).log(),
        member.T @ x / (sizes + prior.mean)[:, None],
        principal.repeat(components, 1, 1),
        empty.noise.to(x),
    )


def _principal(x: Tensor, factors: int) -> Tensor:
    """(coordinates, factors) principal directions, as long as their standard deviation."""
    values, vectors = torch.linalg.eigh(x @ x.T / len(x))
    leading = vectors[:, -factors:] / (len(x) * values[-factors:].clamp_min(_SMALLEST)).sqrt()
    directions = x.T @ (leading * values[-factors:].clamp_min(0).sqrt())
    return torch.nn.functional.pad(directions, (0, factors - directions.shape[1]))
