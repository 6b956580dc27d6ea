"""Intervals of pixels: a heuristic width, made honest by conformal risk control.

``[x - factor * (w + floor), x + factor * (w + floor)]``, not below 0. The width w may come from
anywhere (a quantile head, the spread of samples, a network of residuals); the factor of each
stratum is found on calibration subjects, such that at most a share alpha of a new subject's pixels
is missed within the region (Angelopoulos et al., "Image-to-image regression with distribution-free
uncertainty quantification", 2022, arXiv:2202.05265; Angelopoulos et al., "Conformal risk control",
2022, arXiv:2208.02814). The promise holds for subjects that are exchangeable with those of the
calibration, none of which the network or the width was trained on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from torch import Tensor

from adaptmr.data.files import complete_file
from adaptmr.data.manifest import read_description
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.calibration.checks import check_images, check_labels, checked_region
from adaptmr.reconstruction.calibration.control import (
    EXPECTED,
    Guarantee,
    Refusal,
    Scores,
    control,
)
from adaptmr.reconstruction.calibration.region import RegionRule, object_region

SCHEMA: Final = 1
FLOOR: Final = 0.01
"""Of the slice's maximum: about the noise of a target of good quality, which no width can undercut.
Without it, one pixel of width 0 that is wrong would make all intervals infinite."""


@dataclass(frozen=True, eq=False)
class SliceRatios:
    """How many widths each pixel of a calibration slice is off.

    Attributes:
        subject: whose slice it is.
        stratum: what is calibrated together: contrast, orientation, mask.
        ratios: (pixels,) of the region, ascending: |target - image| / (width + floor).
        floor: share of the slice's maximum that was added to the width.
    """

    subject: str
    stratum: str
    ratios: Scores
    floor: float


def slice_ratios(
    image: Tensor,
    width: Tensor,
    target: Tensor,
    *,
    subjects: Sequence[str],
    strata: Sequence[str],
    floor: float = FLOOR,
    region: RegionRule = object_region,
) -> tuple[SliceRatios, ...]:
    """What a calibration needs of its slices, so that no images need be kept.

    Args:
        image: (batch, rows, columns) magnitude, as reconstructed.
        width: (batch, rows, columns) not negative, heuristic, in the unit of the image.
        target: (batch, rows, columns) magnitude.
        subjects: (batch,) the subject of each slice.
        strata: (batch,) the stratum of each slice.
        floor: share of the slice's maximum added to the width; positive.
        region: pixels that count, from the image alone.

    Returns:
        One for each slice of which anything counts.

    Raises:
        BadInputError: values that are not finite or negative, shapes that do not fit, a slice
            without signal of which something counts.
        UsageError: the floor is not positive.
    """
    check_images(image, width=width, target=target)
    check_labels(subjects, len(image), "subjects")
    check_labels(strata, len(image), "strata")
    if not floor > 0:
        raise UsageError("the floor must be positive", field="floor", got=floor)
    counted = checked_region(region, image)
    unit = _unit(image, width, floor)
    ratios = (target - image).abs() / unit
    found = []
    for index, inside in enumerate(counted):
        if not bool(inside.any()):
            continue
        if not bool((unit[index][inside] > 0).all()):
            raise BadInputError(
                "there are pixels to cover in a slice without signal",
                field="image",
                slice_index=index,
                hint="Leave such slices out, or out of the region",
            )
        ascending = ratios[index][inside].sort().values.cpu().numpy()
        ascending.flags.writeable = False
        found.append(SliceRatios(subjects[index], strata[index], ascending, floor))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Interval:
    """Where the target is, with what is promised of it.

    Attributes:
        lower: (batch, rows, columns), not negative.
        upper: (batch, rows, columns).
        guarantee: what is promised.
        subjects: how many it was calibrated on.
        why_pooled: why all strata's calibration was used in place of the stratum's own; None where
            the stratum has its own.
    """

    lower: Tensor
    upper: Tensor
    guarantee: Guarantee
    subjects: int
    why_pooled: str | None

    @property
    def width(self) -> Tensor:
        """(batch, rows, columns) upper minus lower."""
        return self.upper - self.lower


class Factor(BaseModel):
    """The calibration of one stratum."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    factor: float | None = Field(ge=0)
    """What widths are multiplied with; null where there is none."""
    risk: float | None = Field(ge=0, le=1)
    """Share of pixels missed with it, mean over the calibration subjects."""
    subjects: int = Field(ge=0)
    slices: int = Field(ge=0)
    reason: str | None
    """Why there is no factor."""


_UNKNOWN: Final = Factor(factor=None, risk=None, subjects=0, slices=0, reason="not calibrated")


class Calibration(BaseModel):
    """Factors for widths, by stratum and for all strata together."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = SCHEMA
    guarantee: Guarantee
    floor: float = Field(gt=0)
    """Share of the slice's maximum that is added to each width."""
    pooled: Factor
    """Of all subjects; for strata that have too few. What it promises is promised on average over
    strata in their proportions, not for each."""
    strata: dict[str, Factor]
    provenance: dict[str, JsonValue] = Field(default_factory=dict)
    """What was calibrated: the network's fingerprint, the region, the date."""

    def used(self, stratum: str) -> tuple[Factor, str | None]:
        """The calibration of a stratum, and why it is that of all strata where it is.

        Its factor is null, and says why, where `interval` refuses.
        """
        own = self.strata.get(stratum, _UNKNOWN)
        return (
            (own, None)
            if own.factor is not None
            else (
                self.pooled,
                f"stratum '{stratum}': {own.reason}",
            )
        )

    def interval(self, image: Tensor, width: Tensor, stratum: str) -> Interval | Refusal:
        """The interval of each pixel.

        Args:
            image: (batch, rows, columns) magnitude, as reconstructed.
            width: (batch, rows, columns) not negative, made as for the calibration.
            stratum: of all these slices; one that was not calibrated gets the pooled factor.

        Returns:
            `Refusal` where too few subjects were calibrated on, of the stratum and of all.

        Raises:
            BadInputError: values that are not finite, a negative width, shapes that do not fit.
        """
        check_images(image, width=width)
        used, why_pooled = self.used(stratum)
        if used.factor is None:
            return Refusal(f"{why_pooled}; all strata: {used.reason}")
        half = used.factor * _unit(image, width, self.floor)
        lower, upper = (image - half).clamp(min=0), (image + half).clamp(min=0)
        return Interval(lower, upper, self.guarantee, used.subjects, why_pooled)


def calibrate(
    slices: Iterable[SliceRatios],
    guarantee: Guarantee = EXPECTED,
    *,
    provenance: dict[str, JsonValue] | None = None,
) -> Calibration:
    """Find the smallest factor of each stratum that keeps the guarantee.

    A subject's loss in a stratum is the share of pixels missed, mean over its slices there.

    Args:
        slices: of the calibration subjects, in any order.
        guarantee: what to keep; 0.1 in expectation by default.
        provenance: what was calibrated.

    Raises:
        BadInputError: no slices, or slices of several floors.
    """
    every = list(slices)
    floors = {one.floor for one in every}
    if len(floors) != 1:
        raise BadInputError(
            "a calibration needs slices of one floor",
            field="slices",
            got=f"{len(every)} slices of floors {sorted(floors)}",
        )
    strata = sorted({one.stratum for one in every})
    return Calibration(
        guarantee=guarantee,
        floor=floors.pop(),
        pooled=_factor(every, guarantee),
        strata={
            name: _factor([one for one in every if one.stratum == name], guarantee)
            for name in strata
        },
        provenance=provenance or {},
    )


def save(calibration: Calibration, path: Path, *, overwrite: bool = False) -> None:
    """Write a calibration as JSON.

    Raises:
        BadInputError: the file exists or cannot be written.
    """
    with complete_file(path, overwrite=overwrite) as partial:
        partial.write_text(calibration.model_dump_json(indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Calibration:
    """Read what `save` wrote.

    Raises:
        BadInputError: the file is missing, holds something else, or is of a newer version.
    """
    return read_description(path, Calibration, "a calibration of intervals")


def _unit(image: Tensor, width: Tensor, floor: float) -> Tensor:
    """(batch, rows, columns) half the interval at factor 1."""
    precision = torch.promote_types(image.dtype, torch.float32)
    return width.to(precision) + floor * image.to(precision).amax((-2, -1), keepdim=True).clamp(
        min=0
    )


def _factor(slices: Sequence[SliceRatios], guarantee: Guarantee) -> Factor:
    subjects: dict[str, list[Scores]] = {}
    for one in sorted(slices, key=lambda one: one.subject):
        subjects.setdefault(one.subject, []).append(one.ratios)
    found = control(list(subjects.values()), guarantee)
    factor, risk, reason = (
        (None, None, found.reason)
        if isinstance(found, Refusal)
        else (found.threshold, found.risk, None)
    )
    return Factor(
        factor=factor, risk=risk, subjects=len(subjects), slices=len(slices), reason=reason
    )
