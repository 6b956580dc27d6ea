"""How good an image is: NMSE, PSNR and SSIM under named protocols.

The same images score differently under different crops, data ranges, windows and regions, so a
number is never quoted without the name of its `MetricProtocol`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from adaptmr.data.crop import center_crop
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.similarity import WINDOW, ssim_map


class ProtocolName(StrEnum):
    """The protocols; `PROTOCOLS` has the definition of each."""

    FASTMRI_VOLUME = "fastmri-volume"
    SLICE = "slice"
    FOREGROUND_VOLUME = "foreground-volume"
    REGION_VOLUME = "region-volume"


class Crop(StrEnum):
    """What part of the images was compared."""

    SQUARE = "square"
    """The centre, as many rows as columns: fastMRI's crop."""
    ALL_ROWS = "all-rows"
    """All rows, since there are fewer rows than columns; fastMRI's evaluation fails on these."""


class Metrics(BaseModel):
    """The metrics of one volume."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nmse: float
    """Squared error over squared target."""
    psnr: float | None
    """Decibels; None where it is infinite, because the images are equal."""
    ssim: float
    crop: Crop
    size: tuple[int, int]
    """Rows and columns compared."""
    slices: int
    """Slices that count: all, or those with signal where each slice is scaled by its own."""
    share: float
    """Part of the voxels of these slices that count: 1 unless the protocol has a region."""


RegionRule = Callable[[Tensor, Tensor | None], Tensor | None]


@dataclass(frozen=True)
class MetricProtocol:
    """A definition of the metrics; call it to measure a volume.

    Attributes:
        name: what the numbers are quoted with.
        definition: one sentence for reports.
        by_slice: whether each slice is scaled by its own maximum and measured alone, and the
            volume is the mean of its slices; otherwise the volume is measured at once.
        region: (target, region given) -> voxels that count, None for all.
    """

    name: ProtocolName
    definition: str
    by_slice: bool
    region: RegionRule

    def __call__(self, prediction: Tensor, target: Tensor, region: Tensor | None = None) -> Metrics:
        """Compare a volume with its target, in float64 on the device the images are on.

        Args:
            prediction: (slices, rows, columns) magnitude; may be larger than the target, of
                which it then is cropped to.
            target: (slices, rows, columns) magnitude.
            region: bool, shape of the target: voxels that count, for the protocol that asks for
                them.

        Raises:
            BadInputError: values that are not finite, shapes that do not fit, images smaller
                than the SSIM window, a target without signal, an empty region.
            UsageError: a region is given and not asked for, or the reverse.
        """
        _check(prediction, target, region)
        columns = target.shape[-1]
        crop = Crop.SQUARE if target.shape[-2] >= columns else Crop.ALL_ROWS
        target = center_crop(target, (columns, columns)).double()
        prediction = center_crop(prediction, (columns, columns)).double()
        if prediction.shape != target.shape:
            raise BadInputError(
                "the prediction does not fit the target",
                field="reconstruction",
                got=f"{tuple(prediction.shape)} after the crop",
                expected=tuple(target.shape),
            )
        if region is not None:
            region = center_crop(region, (columns, columns))
        chosen = self.region(target, region)
        nmse, psnr, similarity, slices = (
            _by_slice(prediction, target, chosen)
            if self.by_slice
            else (*_compared(prediction, target, chosen), target.shape[0])
        )
        return Metrics(
            nmse=nmse,
            psnr=psnr if psnr != float("inf") else None,
            ssim=similarity,
            crop=crop,
            size=(target.shape[-2], target.shape[-1]),
            slices=slices,
            share=1.0 if chosen is None else float(chosen.double().mean()),
        )


def _check(prediction: Tensor, target: Tensor, region: Tensor | None) -> None:
    for field, volume in (("target", target), ("reconstruction", prediction)):
        if volume.ndim != 3 or volume.numel() == 0 or volume.is_complex():
            raise BadInputError(
                "metrics compare magnitude volumes",
                field=field,
                got=f"{volume.dtype} of shape {tuple(volume.shape)}",
                expected="real (slices, rows, columns)",
            )
        finite = torch.isfinite(volume)
        if not bool(finite.all()):
            bad = ~finite.flatten(1).all(dim=1)
            raise BadInputError(
                "there are values that are not finite",
                field=field,
                slice_index=int(bad.nonzero()[0, 0]),
                got=f"{int((~finite).sum())} NaN or infinite values",
            )
    if prediction.shape[0] != target.shape[0]:
        raise BadInputError(
            "prediction and target have different numbers of slices",
            field="reconstruction",
            got=tuple(prediction.shape),
            expected=tuple(target.shape),
        )
    if region is not None and (region.shape != target.shape or region.dtype is not torch.bool):
        raise BadInputError(
            "the region does not fit the target",
            field="region",
            got=f"{region.dtype} of shape {tuple(region.shape)}",
            expected=f"torch.bool of shape {tuple(target.shape)}",
        )


def _compared(
    prediction: Tensor, target: Tensor, region: Tensor | None
) -> tuple[float, float, float]:
    """NMSE, PSNR (infinite for equal images) and SSIM of voxels that are scaled together."""
    data_range = target.max()
    if float(data_range) <= 0:
        raise BadInputError(
            "the target has no signal", field="target", got=f"maximum {float(data_range):g}"
        )
    error, signal = (prediction - target) ** 2, target**2
    if region is not None:
        error, signal = error[region], signal[region]
    if error.numel() == 0 or float(signal.sum()) == 0:
        raise BadInputError(
            "the region has no signal to compare with",
            field="region",
            got=f"{error.numel()} voxels",
        )
    nmse = error.sum() / signal.sum()
    psnr = 10 * torch.log10(data_range**2 / error.mean())
    return float(nmse), float(psnr), _similarity(prediction, target, region, data_range)


def _similarity(
    prediction: Tensor, target: Tensor, region: Tensor | None, data_range: Tensor
) -> float:
    # Slice by slice, so that one slice's intermediate images are in memory at a time. All slices
    # have equally many windows, so the mean over windows is the mean over slices.
    pairs = zip(prediction, target, strict=True)
    windows = torch.stack([ssim_map(image, reference, data_range) for image, reference in pairs])
    if region is None:
        return float(windows.mean())
    edge = WINDOW // 2
    inside = region[..., edge:-edge, edge:-edge]
    if not bool(inside.any()):
        raise BadInputError(
            "no SSIM window is centred within the region",
            field="region",
            got=f"{int(region.sum())} voxels, all at the edge",
            expected=f"voxels at least {edge} from the edge",
        )
    return float(windows[inside].mean())


def _by_slice(
    prediction: Tensor, target: Tensor, region: Tensor | None
) -> tuple[float, float, float, int]:
    """Means over the slices that have signal, and how many these are."""
    counted = [index for index, image in enumerate(target) if float(image.max()) > 0]
    if not counted:
        raise BadInputError("the target has no signal", field="target", got="maximum 0")
    each = torch.tensor(
        [
            _compared(
                prediction[index : index + 1],
                target[index : index + 1],
                None if region is None else region[index : index + 1],
            )
            for index in counted
        ],
        dtype=torch.float64,
    )
    nmse, psnr, similarity = each.mean(dim=0).tolist()
    return nmse, psnr, similarity, len(counted)


def foreground(target: Tensor) -> Tensor:
    """Voxels brighter than Otsu's threshold of the whole volume (256 bins between its extremes).

    Source: Otsu 1979, doi:10.1109/TSMC.1979.4310076; as ``skimage.filters.threshold_otsu``.

    Args:
        target: any shape, real.

    Returns:
        bool, same shape; nothing is foreground where all values are equal.
    """
    lowest, highest = float(target.min()), float(target.max())
    if lowest == highest:
        return torch.zeros_like(target, dtype=torch.bool)
    bins = 256
    counts = torch.histc(target.double(), bins=bins, min=lowest, max=highest)
    width = (highest - lowest) / bins
    centres = lowest + width * (torch.arange(bins, device=target.device).double() + 0.5)
    below, above = counts.cumsum(0), counts.flip(0).cumsum(0).flip(0)
    mean_below = (counts * centres).cumsum(0) / below
    mean_above = (counts * centres).flip(0).cumsum(0).flip(0) / above
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return target > centres[int(between.argmax())]


def _everything(_target: Tensor, region: Tensor | None) -> None:
    _refuse_region(region)


def _foreground(target: Tensor, region: Tensor | None) -> Tensor:
    _refuse_region(region)
    return foreground(target)


def _given(_target: Tensor, region: Tensor | None) -> Tensor:
    if region is None:
        raise UsageError(
            "this protocol measures a region, and none is given",
            field="region",
            hint=f"Name one, or use {ProtocolName.FOREGROUND_VOLUME}",
        )
    return region


def _refuse_region(region: Tensor | None) -> None:
    if region is not None:
        raise UsageError(
            "this protocol has no use for a region",
            field="region",
            hint=f"Use {ProtocolName.REGION_VOLUME}",
        )


PROTOCOLS: Mapping[ProtocolName, MetricProtocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            MetricProtocol(
                ProtocolName.FASTMRI_VOLUME,
                "fastMRI's evaluation: central square, the volume's NMSE and PSNR with the volume's"
                " maximum as data range, SSIM (7 x 7 uniform window) averaged over slices",
                by_slice=False,
                region=_everything,
            ),
            MetricProtocol(
                ProtocolName.SLICE,
                "as fastmri-volume, but each slice alone with its own maximum as data range, then"
                " the mean over the slices that have signal",
                by_slice=True,
                region=_everything,
            ),
            MetricProtocol(
                ProtocolName.FOREGROUND_VOLUME,
                "as fastmri-volume, but only voxels above Otsu's threshold of the target volume"
                " count, and SSIM windows centred on them",
                by_slice=False,
                region=_foreground,
            ),
            MetricProtocol(
                ProtocolName.REGION_VOLUME,
                "as fastmri-volume, but only voxels of the region given count, and SSIM windows"
                " centred on them",
                by_slice=False,
                region=_given,
            ),
        )
    }
)
