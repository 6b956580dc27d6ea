"""What images must be before anything is said of their uncertainty."""

from collections.abc import Sequence

import torch
from torch import Tensor

from adaptmr.errors import BadInputError
from adaptmr.reconstruction.calibration.region import RegionRule


def check_images(image: Tensor, **others: Tensor) -> None:
    """Check that images are finite and of one shape, and the others not negative.

    Args:
        image: (batch, rows, columns) real.
        others: by the name they have in messages.

    Raises:
        BadInputError: otherwise; it names the slice.
    """
    for field, values in {"image": image, **others}.items():
        if values.ndim != 3 or values.numel() == 0 or not values.is_floating_point():
            raise BadInputError(
                "intervals are of magnitude images",
                field=field,
                got=f"{values.dtype} of shape {tuple(values.shape)}",
                expected="floating point (batch, rows, columns)",
            )
        if values.shape != image.shape:
            raise BadInputError(
                "this does not fit the image",
                field=field,
                got=tuple(values.shape),
                expected=tuple(image.shape),
            )
        _refuse(~torch.isfinite(values), "there are values that are not finite", field)
        if field in others:
            _refuse(values < 0, "there are negative values", field)


def checked_region(rule: RegionRule, image: Tensor) -> Tensor:
    """The region of an image.

    Raises:
        BadInputError: the rule gave something else than bool of the image's shape.
    """
    region = rule(image)
    if region.shape != image.shape or region.dtype is not torch.bool:
        raise BadInputError(
            "the region does not fit the image",
            field="region",
            got=f"{region.dtype} of shape {tuple(region.shape)}",
            expected=f"torch.bool of shape {tuple(image.shape)}",
        )
    return region


def check_labels(labels: Sequence[str], batch: int, field: str) -> None:
    """Check that there is one label per slice.

    Raises:
        BadInputError: otherwise.
    """
    if isinstance(labels, str) or len(labels) != batch:
        raise BadInputError(
            "there is not one label per slice", field=field, got=len(labels), expected=batch
        )


def _refuse(bad: Tensor, what: str, field: str) -> None:
    each = bad.flatten(1).sum(1)
    if bool(each.any()):
        index = int(each.nonzero()[0, 0])
        raise BadInputError(
            what, field=field, slice_index=index, got=f"{int(each[index])} of them in this slice"
        )
