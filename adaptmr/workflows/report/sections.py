"""Sections that most reports have: metrics, images beside their target, masks, data, software."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

from adaptmr.errors import UsageError
from adaptmr.reconstruction.metrics import PROTOCOLS, Metrics, ProtocolName
from adaptmr.sampling.mask import Mask
from adaptmr.workflows.report.document import (
    Block,
    Column,
    Gallery,
    GalleryRow,
    Measured,
    Picture,
    Row,
    Scale,
    Section,
    Table,
    Text,
)
from adaptmr.workflows.report.figures import (
    ACQUIRED,
    DYNAMIC_RANGE,
    LOW_FREQUENCY,
    NOT_FINITE,
    PADDING,
    SKIPPED,
    error_picture,
    kspace_picture,
    magnitude_picture,
    mask_picture,
    scale_strip,
    swatch,
)

METRICS: Mapping[str, Column] = MappingProxyType(
    {
        "ssim": Column("SSIM", digits=4, better="higher"),
        "psnr": Column("PSNR", unit="dB", digits=2, better="higher"),
        "nmse": Column("NMSE", digits=4, better="lower"),
    }
)
"""How the metrics of the named protocols are shown."""

ERROR_FACTORS = (100, 50, 20, 10, 5, 2, 1)
"""How much brighter than the images error maps may be drawn."""

_BRIGHT = 0.999  # fraction of the pixels within the window: a few bright vessels do not darken all


@dataclass(frozen=True)
class MethodResult:
    """The metrics of one method under one mask.

    Attributes:
        method: name of the method.
        acceleration: measured acceleration.
        metrics: name of the metric -> value, with its interval where there is one.
        group: what the method is compared within, for example the nominal acceleration.
    """

    method: str
    acceleration: float
    metrics: Mapping[str, Measured | float | None] = field(default_factory=dict)
    group: str = ""


def metric_table(
    title: str, results: Sequence[MethodResult], *, protocol: ProtocolName, n: int, note: str = ""
) -> Table:
    """Methods by metrics, with the measured acceleration of each.

    Args:
        title: heading; none when empty.
        results: the rows; those of a group stand together.
        protocol: what the metrics were measured by; its definition goes into the note.
        n: number of volumes behind each row.
        note: for example which interval it is.
    """
    found = list(dict.fromkeys(name for result in results for name in result.metrics))
    names = sorted(found, key=lambda name: [*METRICS, *found].index(name))
    return Table(
        title,
        (
            Column("Method"),
            Column("Acceleration measured"),
            *(METRICS.get(name, Column(name, digits=4)) for name in names),
        ),
        tuple(
            Row(
                (result.method, result.acceleration, *(result.metrics.get(name) for name in names)),
                result.group,
            )
            for result in results
        ),
        protocol,
        n,
        f"Definition: {PROTOCOLS[protocol].definition}. {note}".strip(),
    )


def comparison(
    name: str,
    targets: Tensor | None,
    images: Mapping[str, Tensor],
    mask: Mask,
    *,
    metrics: Mapping[str, Metrics] = MappingProxyType({}),
    protocol: ProtocolName | None = None,
    kspace: Tensor | None = None,
    slices: Sequence[int] | None = None,
) -> Section:
    """The reconstructions of one volume by several methods from one mask, beside its target.

    Args:
        name: what was reconstructed, for example the name of the file.
        targets: (slices, rows, columns) magnitude, or None when there is no reference.
        images: method -> (slices, rows, columns), real or complex.
        mask: what the methods were given.
        metrics: method -> its metrics of this volume.
        protocol: what the metrics were measured by.
        kspace: (coils, readout, phase) k-space of one slice that is shown with the mask.
        slices: indices of the slices shown; three spread over the volume when not given.

    Returns:
        One section: the metrics when there are any, the images with their error maps on one scale,
        and the mask with the k-space.

    Raises:
        UsageError: images and targets differ in shape, there is no image, or metrics come without
            their protocol.
    """
    shape = _common_shape(name, targets, images)
    chosen = _spread(shape[0]) if slices is None else list(slices)
    if metrics and protocol is None:
        raise UsageError("metrics come without the name of their protocol", field=name)
    values = {method: _values(metrics[method]) for method in images if method in metrics}
    blocks: list[Block] = [_image_gallery(name, targets, images, values, protocol, chosen)]
    if values and protocol is not None:
        rows = [
            MethodResult(method, mask.acceleration, values.get(method, {})) for method in images
        ]
        sizes = sorted({f"{found.size[0]} × {found.size[1]}" for found in metrics.values()})
        note = f"Compared: the central {' or '.join(sizes)} pixels of each slice."
        blocks.append(metric_table("Metrics", rows, protocol=protocol, n=1, note=note))
    readout = shape[1] if kspace is None else kspace.shape[-2]
    blocks.append(mask_gallery("Mask", {"Mask": mask}, readout, kspace))
    return Section(name, tuple(blocks))


def _values(metrics: Metrics) -> dict[str, float | None]:
    """The numbers that are shown; PSNR is infinite where the images are equal."""
    psnr = math.inf if metrics.psnr is None else metrics.psnr
    return {"ssim": metrics.ssim, "psnr": psnr, "nmse": metrics.nmse}


def _common_shape(
    name: str, targets: Tensor | None, images: Mapping[str, Tensor]
) -> tuple[int, ...]:
    stacks = ({} if targets is None else {"target": targets}) | dict(images)
    if not images:
        raise UsageError("there is no image to compare", field=name)
    first, shape = next((method, tuple(stack.shape)) for method, stack in stacks.items())
    for method, stack in stacks.items():
        if stack.ndim != 3 or tuple(stack.shape) != shape:
            raise UsageError(
                f"the images of '{method}' do not fit",
                field=name,
                got=tuple(stack.shape),
                expected=f"(slices, rows, columns), as '{first}': {shape}",
            )
    return shape


def _spread(count: int) -> list[int]:
    """The middle slice of a few, else three at a quarter, a half and three quarters."""
    return [count // 2] if count < 3 else [count // 4, count // 2, (3 * count) // 4]


def bright_level(values: Tensor, share: float = _BRIGHT) -> float:
    """The value that a share of the finite values does not exceed; 0 when there is none."""
    finite = values[values.isfinite()].flatten()
    if not finite.numel():
        return 0.0
    return float(finite.kthvalue(max(1, round(share * finite.numel()))).values)


def brightening(errors: Sequence[float], bright: float) -> int:
    """How much brighter than images error maps are drawn: as much as suits half of them.

    So one bad map does not make the others look perfect.

    Args:
        errors: the bright level of each map.
        bright: that of the images.
    """
    middle = sorted(errors)[(len(errors) - 1) // 2]
    return next((factor for factor in ERROR_FACTORS if middle * factor <= bright), 1)


def _short(value: float) -> str:
    return f"{value:,.0f}" if 1e3 <= value < 1e6 else f"{value:.3g}"


def _image_gallery(
    name: str,
    targets: Tensor | None,
    images: Mapping[str, Tensor],
    metrics: Mapping[str, Mapping[str, float | None]],
    protocol: ProtocolName | None,
    chosen: Sequence[int],
) -> Gallery:
    def picked(stack: Tensor) -> Tensor:
        return stack[list(chosen)].detach().to("cpu").abs()

    shown = {method: picked(stack) for method, stack in images.items()}
    target = None if targets is None else picked(targets)
    reference = torch.stack(list(shown.values())) if target is None else target
    bright = bright_level(reference)
    window = (0.0, bright)
    everything = [*shown.values(), *([] if target is None else [target])]
    legend = [Scale(scale_strip("grey"), "image, in the units of the k-space", "0", _short(bright))]
    bad = sum(int((~stack.isfinite()).sum()) for stack in everything)
    if bad:
        legend.append(Scale(swatch(NOT_FINITE), f"not finite ({bad:,} pixels)"))

    def under(method: str) -> tuple[str, ...]:
        return tuple(
            f"{column.name} {column.show(value)} {column.unit}".rstrip()
            for metric, value in metrics.get(method, {}).items()
            for column in [METRICS.get(metric, Column(metric, digits=4))]
        )

    def magnitude(method: str, image: Tensor, slice_index: int) -> Picture:
        return Picture(
            magnitude_picture(image, window),
            f"Magnitude image, {method}, slice {slice_index} of {name}",
            under(method) if slice_index == chosen[0] else (),
        )

    rows: list[GalleryRow] = []
    factor = 1
    if target is not None:
        levels = [bright_level((stack - target).abs()) for stack in shown.values()]
        factor = brightening(levels, bright)
        legend.append(
            Scale(
                scale_strip("magma"),
                f"absolute error, drawn {factor}× as bright as the image",
                "0",
                _short(bright / factor),
            )
        )
    for position, index in enumerate(chosen):
        pictures = [magnitude(m, stack[position], index) for m, stack in shown.items()]
        if target is None:
            rows.append(GalleryRow(f"slice {index}", tuple(pictures)))
            continue
        reference_picture = magnitude("target", target[position], index)
        rows.append(GalleryRow(f"slice {index}", (reference_picture, *pictures)))
        maps = (
            Picture(
                error_picture(stack[position], target[position], bright / factor),
                f"Absolute error of {method}, slice {index} of {name}, drawn {factor} times as "
                "bright as the image",
            )
            for method, stack in shown.items()
        )
        rows.append(GalleryRow(f"error × {factor}", (None, *maps)))
    heading = () if target is None else ("Target",)
    scope = f"Numbers: whole volume, protocol {protocol}. " if protocol else ""
    return Gallery(
        "Images",
        (*heading, *shown),
        tuple(rows),
        tuple(legend),
        f"{scope}All images share one window and all error maps one scale; values beyond are "
        "clipped. The readout runs downwards, as stored.",
    )


def mask_gallery(
    title: str, masks: Mapping[str, Mask], readout: int, kspace: Tensor | None = None
) -> Gallery:
    """Masks with what they acquire, and the k-space of a slice.

    Args:
        title: heading of the section.
        masks: label -> mask.
        readout: size of the readout axis.
        kspace: (coils, readout, phase) k-space of one slice, or None.
    """
    pictures = [
        Picture(mask_picture(mask, readout), f"Mask {label}: {described[0]}", described)
        for label, mask in masks.items()
        for described in [describe_mask(mask)]
    ]
    legend = [
        Scale(swatch(ACQUIRED), "acquired"),
        Scale(swatch(LOW_FREQUENCY), "acquired, low-frequency block"),
        Scale(swatch(SKIPPED), "not acquired"),
    ]
    if any(mask.encoded is not None and not mask.encoded.all() for mask in masks.values()):
        legend.append(Scale(swatch(PADDING), "zero padding, not counted"))
    columns = list(masks)
    if kspace is not None:
        pictures.append(
            Picture(
                kspace_picture(kspace),
                "Logarithmic magnitude of k-space, root-sum-of-squares over the coils",
                ("root-sum-of-squares over the coils",),
            )
        )
        columns.append("k-space")
        legend.append(
            Scale(
                scale_strip("viridis"),
                "magnitude below the maximum",
                f"−{DYNAMIC_RANGE:.0f} dB",
                "0 dB",
            )
        )
    return Gallery(title, tuple(columns), (GalleryRow("", tuple(pictures)),), tuple(legend))


def describe_mask(mask: Mask) -> tuple[str, ...]:
    """What a mask acquires, in a few lines: acceleration, budget, low-frequency block, origin."""
    kind = "lines" if mask.axes == 1 else "points"
    encoded = mask.positions.size if mask.encoded is None else int(mask.encoded.sum())
    asked = "" if mask.nominal_acceleration is None else f" (asked: {mask.nominal_acceleration:g})"
    block = " × ".join(str(size) for size in mask.low_frequency)
    origin = ", ".join(
        f"{value}" if key == "generator" else f"{key} {value}"
        for key, value in mask.provenance.items()
        if key in ("generator", "seed")
    )
    return (
        f"acceleration {mask.acceleration:.2f} measured{asked}",
        f"{mask.budget:,} of {encoded:,} {kind}, low-frequency block {block}",
        *([origin] if origin else []),
        f"fingerprint {mask.fingerprint[:12]}",
    )


def data_section(used: Sequence[tuple[str, str]], excluded: Sequence[tuple[str, str]]) -> Section:
    """Which data went in, and which did not and why.

    Args:
        used: name of the file, what it holds.
        excluded: name of the file, why it was left out.
    """
    left_out: Block = Text("Excluded", ("No file was excluded.",))
    if excluded:
        left_out = _pairs("Excluded", ("File", "Reason"), excluded)
    return Section("Data", (_pairs("Used", ("File", "Content"), used), left_out))


def facts(title: str, values: Mapping[str, str]) -> Section:
    """Names and values, for example of the environment or the sha256 of each file."""
    return Section(title, (_pairs("", ("Name", "Value"), list(values.items())),))


def _pairs(title: str, headings: tuple[str, str], pairs: Sequence[tuple[str, str]]) -> Table:
    return Table(
        title, tuple(Column(name) for name in headings), tuple(Row(pair) for pair in pairs)
    )
