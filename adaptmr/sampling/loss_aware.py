"""`LossAware`: a selector that has learned which mask loses least.

Nearest centroids know nothing of losses. Here the loss of every mask, relative to the mean over
masks, is regressed from `features` by ridge regression on standardised features. The ridge is
chosen by cross-validation over subjects: the largest of which the regret is within one standard
error of the least (Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 7.10). The
largest of all leaves the fixed best mask, so few subjects that tell nothing cannot do harm. It is
fitted on training subjects only, which it records.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save_file
from torch import Tensor

from adaptmr.data.files import complete_folder
from adaptmr.data.manifest import check_manifest, read_description, write_manifest
from adaptmr.data.weights import read_weights
from adaptmr.errors import BadInputError
from adaptmr.sampling.bank import MaskBank, check_losses
from adaptmr.sampling.features import features
from adaptmr.sampling.selector import Evidence, required_uncertainty

RIDGES: Final = (*(10.0**power for power in range(-2, 6)), 1e12)
"""Ridges tried: multiples of the identity added to the sum of squares of standardised features.
With the last the features do not count."""

_DESCRIPTION = "selector.json"
_WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, eq=False)
class LossAware:
    """Linear prediction of every mask's loss.

    Attributes:
        mean: (features,) of the training slices.
        deviation: (features,) of the training slices; positive.
        weights: (J, features).
        offset: (J,) mean relative losses.
        ridge: the ridge that cross-validation chose.
        subjects: the training subjects.
        bank: fingerprint of the bank whose losses these are.
    """

    mean: Tensor
    deviation: Tensor
    weights: Tensor
    offset: Tensor
    ridge: float
    subjects: tuple[str, ...]
    bank: str

    name: ClassVar[str] = "loss-aware"
    needs_uncertainty: ClassVar[bool] = True

    def scores(self, evidence: Evidence, bank: MaskBank) -> Tensor:
        """(batch, J): minus the predicted losses, relative to their mean over masks.

        Raises:
            BadInputError: fitted on another bank.
        """
        if bank.fingerprint != self.bank:
            raise BadInputError(
                "the selector was fitted on another bank",
                field="bank",
                got=bank.fingerprint[:16],
                expected=self.bank[:16],
                hint="Fit it on this bank's losses",
            )
        described = features(evidence.low_frequency, required_uncertainty(evidence))
        standard = (described - self.mean) / self.deviation
        return -(standard @ self.weights.T + self.offset)


def fit(described: Tensor, losses: Tensor, subjects: Sequence[str], bank: MaskBank) -> LossAware:
    """Fit the selector on training slices.

    Args:
        described: (slices, features) `features`; slices with NaN are left out.
        losses: (slices, J) loss of every mask; smaller is better.
        subjects: the subject of each slice. Cross-validation leaves whole subjects out.
        bank: the bank.

    Raises:
        BadInputError: the numbers of slices differ, losses are not finite, or fewer than two
            subjects have a known uncertainty.
    """
    # Loading scikit-learn takes most of a second, which no other command should pay.
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold

    check_losses(losses, len(bank))
    if not len(described) == len(losses) == len(subjects):
        raise BadInputError(
            "features, losses and subjects are of different slices",
            field="losses",
            got=f"{len(described)}, {len(losses)}, {len(subjects)}",
            expected="one each per slice",
        )
    usable = torch.isfinite(described).all(1)
    groups = np.array(subjects)[usable.numpy()]
    distinct = len(set(groups.tolist()))
    if distinct < 2:
        raise BadInputError(
            "the loss-aware selector needs slices of at least two training subjects",
            field="subjects",
            got=distinct,
            hint="Train on more subjects, or select by nearest centroid",
        )
    kept = described[usable].double()
    mean, deviation = kept.mean(0), kept.std(0, correction=0)
    deviation = torch.where(deviation > 1e-9, deviation, torch.ones_like(deviation))
    inputs = ((kept - mean) / deviation).numpy()
    relative = losses[usable].double()
    targets = (relative - relative.mean(1, keepdim=True)).numpy()

    folds = list(GroupKFold(min(5, distinct)).split(inputs, groups=groups))

    def regrets(ridge: float) -> NDArray[np.float64]:
        """(subjects,) mean loss of the masks chosen on subjects that were left out."""
        chosen = np.empty(len(targets))
        for train, test in folds:
            predicted = Ridge(ridge).fit(inputs[train], targets[train]).predict(inputs[test])
            chosen[test] = _chosen(targets[test], predicted)
        return np.array([chosen[groups == subject].mean() for subject in np.unique(groups)])

    ridge = _most_careful({ridge: regrets(ridge) for ridge in RIDGES})
    model = Ridge(ridge).fit(inputs, targets)
    return LossAware(
        mean,
        deviation,
        torch.from_numpy(np.atleast_2d(model.coef_).copy()),
        torch.from_numpy(np.atleast_1d(model.intercept_).copy()),
        ridge,
        tuple(sorted(set(groups.tolist()))),
        bank.fingerprint,
    )


def require_unseen(selector: LossAware, subjects: Iterable[str | None]) -> None:
    """Refuse to judge a selector on subjects that it was fitted on.

    Raises:
        BadInputError: a subject is among the training subjects.
    """
    seen = sorted({subject for subject in subjects if subject in selector.subjects})
    if seen:
        raise BadInputError(
            "the selector was fitted on subjects that it is to be judged on",
            field="subjects",
            got=", ".join(map(str, seen[:5])),
            expected="subjects of a test split",
        )


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    kind: Literal["loss-aware"] = "loss-aware"
    ridge: float
    subjects: tuple[str, ...]
    bank: str


def save(selector: LossAware, folder: Path, *, overwrite: bool = False) -> None:
    """Write a selector so that `load` gives it back bit by bit.

    Raises:
        BadInputError: the folder exists or cannot be written.
    """
    description = _Description(ridge=selector.ridge, subjects=selector.subjects, bank=selector.bank)
    with complete_folder(folder, overwrite=overwrite) as partial:
        (partial / _DESCRIPTION).write_text(description.model_dump_json(indent=1) + "\n")
        weights = {name: getattr(selector, name).contiguous() for name in _TENSORS}
        save_file(weights, partial / _WEIGHTS)
        write_manifest(partial)


def load(folder: Path) -> LossAware:
    """Read a selector that `save` wrote.

    Raises:
        BadInputError: the folder is missing, incomplete, altered, or of a newer version.
    """
    check_manifest(folder)
    description = read_description(folder / _DESCRIPTION, _Description, "a loss-aware selector")
    weights = read_weights(folder / _WEIGHTS)
    if weights.keys() != set(_TENSORS):
        raise BadInputError(
            "the weights are not those of a loss-aware selector",
            file=folder / _WEIGHTS,
            got=", ".join(sorted(weights)),
            expected=", ".join(_TENSORS),
        )
    mean, deviation, matrix, offset = (weights[name] for name in _TENSORS)
    return LossAware(
        mean,
        deviation,
        matrix,
        offset,
        description.ridge,
        description.subjects,
        description.bank,
    )


_TENSORS: Final = ("mean", "deviation", "weights", "offset")


def _chosen(losses: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """The true losses of the masks that the prediction would choose."""
    chosen: NDArray[np.float64] = losses[np.arange(len(losses)), predicted.argmin(1)]
    return chosen


def _most_careful(regrets: Mapping[float, NDArray[np.float64]]) -> float:
    """The largest ridge that is not worse than the best by more than one standard error."""
    best = min(regrets.values(), key=lambda each: float(each.mean()))

    def credible(regret: NDArray[np.float64]) -> bool:
        worse = regret - best
        return bool(worse.mean() <= worse.std(ddof=1) / np.sqrt(len(worse)))

    return max(ridge for ridge, regret in regrets.items() if credible(regret))
