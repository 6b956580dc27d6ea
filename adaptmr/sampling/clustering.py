"""k-means of uncertainties: which kinds of slices there are."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adaptmr.errors import BadInputError, UsageError
from adaptmr.sampling.uncertainty import UncertaintyMap


@dataclass(frozen=True, eq=False)
class Clustering:
    """Clusters of slices, the most populated first.

    Attributes:
        centroids: (J, rows, columns) float32 means of the members' uncertainties; not normalised.
        labels: (slices,) int, the cluster of each slice; -1 where its uncertainty is not known.
        populations: members of each cluster.
        inertia: sum of squared distances of the slices from their centroids.
    """

    centroids: Tensor
    labels: Tensor
    populations: tuple[int, ...]
    inertia: float


def cluster(
    uncertainty: UncertaintyMap, clusters: int, *, seed: int = 1, restarts: int = 10
) -> Clustering:
    """Cluster slices by uncertainty: Euclidean k-means with k-means++ starts.

    Slices whose uncertainty is not known belong to no cluster. Iterates until nothing changes, so
    that each centroid is the mean of the slices that are nearest to it.

    Args:
        uncertainty: the training slices.
        clusters: J, how many.
        seed: of scikit-learn's own random state; the global one stays as it is.
        restarts: starts, of which the one with the least inertia is kept.

    Raises:
        UsageError: fewer than one cluster.
        BadInputError: fewer slices than clusters with a known uncertainty, or so many copies among
            them that a cluster would stay empty.
    """
    # Loading scikit-learn takes most of a second, which no other command should pay.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if clusters < 1:
        raise UsageError(
            "there must be at least one mask", field="masks", got=clusters, expected="1 or more"
        )
    known = uncertainty.known.cpu()
    flat = uncertainty.values.cpu()[known].flatten(1).contiguous().numpy()
    distinct = len({row.tobytes() for row in flat})
    if distinct < clusters:
        raise BadInputError(
            "there are fewer training slices than masks",
            field="masks",
            got=f"{distinct} different known uncertainties in {uncertainty.batch} slices",
            expected=f"at least {clusters}",
            hint="Train on more slices, or build fewer masks",
        )
    with warnings.catch_warnings():
        # An empty cluster is found below, and told as what it is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(clusters, n_init=restarts, max_iter=1000, tol=0.0, random_state=seed).fit(
            flat
        )
    populations = np.bincount(found.labels_, minlength=clusters)
    if not populations.all():
        raise BadInputError(
            "a cluster stays empty: the uncertainties are too much alike",
            field="masks",
            got=f"{int((populations > 0).sum())} clusters",
            expected=clusters,
            hint="Build fewer masks",
        )
    order = np.argsort(-populations, kind="stable")
    place = np.empty(clusters, dtype=np.int64)
    place[order] = np.arange(clusters)
    labels = torch.full((uncertainty.batch,), -1, dtype=torch.int64)
    labels[known] = torch.from_numpy(place[found.labels_])
    means = [flat[place[found.labels_] == j].mean(0, dtype=np.float64) for j in range(clusters)]
    centroids = np.stack(means).astype(np.float32).reshape(clusters, *uncertainty.matrix)
    return Clustering(
        torch.from_numpy(centroids),
        labels,
        tuple(int(number) for number in populations[order]),
        float(found.inertia_),
    )
