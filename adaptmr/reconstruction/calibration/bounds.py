"""Lower bounds on a slice's PSNR or SSIM, which nobody can measure without the target.

A line predicts the score from features that are known without the target; by how much it may be
too high is then calibrated on other subjects (as Wen et al. 2025, arXiv:2505.09528, bound the
quality of accelerated MR images by conformal prediction). The unit that is exchangeable is the
subject, of whom slices are not independent: hierarchical conformal prediction (Lee, Barber, Willett
2023, arXiv:2306.06342), which is conformal risk control of the share of a subject's slices that
score below their bound.
"""

from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.calibration.checks import check_images, checked_region
from adaptmr.reconstruction.calibration.control import EXPECTED, Guarantee, Refusal, control
from adaptmr.reconstruction.calibration.intervals import FLOOR
from adaptmr.reconstruction.calibration.region import RegionRule, object_region

SCHEMA: Final = 1

# Of the subjects, one in so many finds the line; the others calibrate it.
_FITTING: Final = 3


class ScoreBound(BaseModel):
    """``coefficients @ features + intercept - margin``, below which few scores lie.

    In expectation at most a share alpha of the slices of a new subject score below their bounds;
    equally, a slice drawn from a new subject does so with a chance of at most alpha. Not promised:
    that all slices of a subject are above their bounds together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = SCHEMA
    score: str
    """What is bounded, with its protocol: "slice psnr"."""
    guarantee: Guarantee
    coefficients: tuple[float, ...]
    intercept: float
    margin: float
    """What is taken off the prediction, in the unit of the score; may be negative."""
    risk: float = Field(ge=0, le=1)
    """Share of slices below their bound, mean over the calibration subjects."""
    fitted: int = Field(ge=1)
    """Subjects that the line was fitted to."""
    subjects: int = Field(ge=1)
    """Other subjects, that the margin was calibrated on."""

    def __call__(self, features: ArrayLike) -> NDArray[np.float64]:
        """Lower bounds of slices.

        Args:
            features: (n, features), as the bound was made from.

        Returns:
            (n,) in the unit of the score.

        Raises:
            BadInputError: another number of features, or values that are not finite.
        """
        table = _table(features, len(self.coefficients))
        bounds: NDArray[np.float64] = (
            table @ np.array(self.coefficients) + self.intercept - self.margin
        )
        return bounds


def bound_score(
    values: ArrayLike,
    features: ArrayLike,
    subjects: ArrayLike,
    *,
    score: str,
    seed: int,
    guarantee: Guarantee = EXPECTED,
) -> ScoreBound | Refusal:
    """Fit a line to a third of the subjects (ridge regression), calibrate its margin on the others.

    Args:
        values: (n,) score of each slice; larger is better.
        features: (n, features) known without the target, such as `slice_features`.
        subjects: (n,) label of the subject of each slice.
        score: what is bounded, with its protocol.
        seed: of the choice of the subjects that are fitted to.
        guarantee: what to promise; 0.1 in expectation by default.

    Returns:
        `Refusal` where there are too few subjects.

    Raises:
        BadInputError: not one finite score and row of features per subject's label.
    """
    scores, labels = np.asarray(values, dtype=np.float64), np.asarray(subjects)
    table = _table(features, None)
    if scores.shape != (len(table),) or labels.shape != (len(table),):
        raise BadInputError(
            "there is not one score and row of features per subject's label",
            field="values",
            got=f"{scores.shape}, {table.shape}, {labels.shape}",
            expected="(n,), (n, features), (n,)",
        )
    _finite(scores, "values")
    names = np.random.default_rng(seed).permutation(np.unique(labels))
    fitted, others = np.split(names, [len(names) // _FITTING])
    if not len(fitted):
        return Refusal(f"{len(names)} subjects, none to spare for the fit")
    fitting = np.isin(labels, fitted)
    line = make_pipeline(StandardScaler(), Ridge()).fit(table[fitting], scores[fitting])
    # A line in the features as they are, so that numbers are all there is to keep.
    ends = line.predict(np.vstack([np.zeros(table.shape[1]), np.eye(table.shape[1])]))
    coefficients, intercept = ends[1:] - ends[0], float(ends[0])
    excess = table @ coefficients + intercept - scores
    found = control([[np.sort(excess[labels == name])] for name in others], guarantee)
    if isinstance(found, Refusal):
        return found
    return ScoreBound(
        score=score,
        guarantee=guarantee,
        coefficients=tuple(map(float, coefficients)),
        intercept=intercept,
        margin=found.threshold,
        risk=found.risk,
        fitted=len(fitted),
        subjects=len(others),
    )


def slice_features(
    image: Tensor,
    width: Tensor,
    *,
    floor: float = FLOOR,
    region: RegionRule = object_region,
) -> NDArray[np.float64]:
    """What the width says of a slice, in decibels, whatever the unit of the image.

    The PSNR that the slice would have were the width the root mean square error of each pixel, and
    the mean signal over the mean width within the region.

    Args:
        image: (batch, rows, columns) magnitude, as reconstructed.
        width: (batch, rows, columns) not negative, in the unit of the image.
        floor: share of the slice's maximum added to the width; positive.
        region: pixels of the second feature, from the image alone.

    Returns:
        (batch, 2).

    Raises:
        BadInputError: values that are not finite, a negative width, a slice without signal or of
            which nothing is in the region.
        UsageError: the floor is not positive.
    """
    check_images(image, width=width)
    if not floor > 0:
        raise UsageError("the floor must be positive", field="floor", got=floor)
    inside = checked_region(region, image)
    signal, most = image.double(), image.double().amax((-2, -1))
    empty = (most <= 0) | ~inside.flatten(1).any(1)
    if bool(empty.any()):
        raise BadInputError(
            "there is nothing in this slice to judge",
            field="image",
            slice_index=int(empty.nonzero()[0, 0]),
            hint="Leave such slices out",
        )
    wide = width.double() + floor * most[:, None, None]
    expected = 20 * torch.log10(most / wide.square().mean((-2, -1)).sqrt())
    weight = inside.double()
    clear = 20 * torch.log10((signal * weight).sum((-2, -1)) / (wide * weight).sum((-2, -1)))
    found: NDArray[np.float64] = torch.stack([expected, clear], 1).cpu().numpy()
    return found


def _table(features: ArrayLike, columns: int | None) -> NDArray[np.float64]:
    table = np.asarray(features, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or columns not in (None, table.shape[1]):
        raise BadInputError(
            "features are a table of slices",
            field="features",
            got=table.shape,
            expected=f"(n, {'features' if columns is None else columns})",
        )
    _finite(table, "features")
    return table


def _finite(values: NDArray[np.float64], field: str) -> None:
    bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
    if bad.any():
        index = int(np.flatnonzero(bad)[0])
        raise BadInputError(
            f"{field} are not finite", field=field, slice_index=index, got=values[index]
        )
