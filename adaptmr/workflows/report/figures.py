"""Tensors drawn as PNG: one pixel of the picture per pixel of the image, nothing resampled."""

import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from adaptmr.errors import UsageError
from adaptmr.sampling.mask import Mask
from adaptmr.workflows.report.document import Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Colour: TypeAlias = tuple[int, int, int]

NOT_FINITE: Colour = (0, 114, 178)
"""Colour of values that are not finite: a blue that neither map has."""
ACQUIRED: Colour = (255, 255, 255)
LOW_FREQUENCY: Colour = (240, 185, 60)
SKIPPED: Colour = (25, 25, 25)
PADDING: Colour = (110, 110, 110)

DYNAMIC_RANGE = 80.0
"""Range of a k-space picture in dB below its largest magnitude."""

_LEVELS = 255  # the last of the 256 palette entries marks what is not finite
_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito
_PAINT = 0.45
"""Share of the colour where a class is laid over an image."""
_MARKERS = ("o", "s", "^", "D", "v", "P")


def _png(indices: NDArray[np.uint8], palette: Sequence[int]) -> bytes:
    image = Image.fromarray(indices, mode=None)
    image.putpalette(palette)
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=False)
    return stream.getvalue()


@cache
def _palette(colours: str) -> tuple[int, ...]:
    """256 colours from dark to bright, the last one for values that are not finite."""
    if colours == "grey":
        steps = np.repeat(np.linspace(0, 255, _LEVELS).round().astype(int)[:, None], 3, axis=1)
    else:
        from matplotlib import colormaps

        table = colormaps[colours](np.linspace(0, 1, _LEVELS))[:, :3]
        steps = (table * 255).round().astype(int)
    return (*(int(value) for value in steps.ravel()), *NOT_FINITE)


def _mapped(values: Tensor, low: float, high: float, colours: str) -> bytes:
    if values.ndim != 2:
        raise UsageError(
            "a picture is drawn of one slice",
            got=tuple(values.shape),
            expected="(rows, columns)",
        )
    plain = values.detach().to("cpu", torch.float64).numpy()
    finite = np.isfinite(plain)
    span = high - low if high > low else 1.0
    scaled = np.clip((np.where(finite, plain, low) - low) / span, 0.0, 1.0)
    levels = np.where(finite, np.rint(scaled * (_LEVELS - 1)), _LEVELS)
    return _png(levels.astype(np.uint8), _palette(colours))


def magnitude_picture(image: Tensor, window: tuple[float, float]) -> bytes:
    """A magnitude image in grey.

    Args:
        image: (rows, columns), real or complex; values that are not finite are drawn blue.
        window: the values drawn black and white; those beyond are clipped.

    Returns:
        PNG of (rows, columns) pixels.

    Raises:
        UsageError: the image has another number of axes.
    """
    return _mapped(image.abs(), *window, "grey")


def overlay_picture(image: Tensor, classes: Tensor | None, window: tuple[float, float]) -> bytes:
    """A magnitude image in grey with a map of classes laid over it in colour.

    Args:
        image: (rows, columns).
        classes: (rows, columns) whole numbers; 0 leaves the image as it is. None for no map.
        window: the values drawn black and white; those beyond are clipped.

    Returns:
        PNG of (rows, columns) pixels.

    Raises:
        UsageError: the map is of another size than the image.
    """
    if classes is None:
        return magnitude_picture(image, window)
    if classes.shape != image.shape:
        raise UsageError(
            "a map of classes differs from its image in shape",
            got=tuple(classes.shape),
            expected=tuple(image.shape),
        )
    span = window[1] - window[0] if window[1] > window[0] else 1.0
    grey = ((image.detach().cpu().abs() - window[0]) / span).clamp(0, 1).nan_to_num()
    colours = torch.tensor([_rgb(name) for name in _SERIES]) / 255
    numbers = classes.detach().cpu().long()
    paint = colours[(numbers - 1) % len(_SERIES)]
    mixed = torch.where(
        (numbers > 0)[..., None], (1 - _PAINT) * grey[..., None] + _PAINT * paint, grey[..., None]
    )
    stream = io.BytesIO()
    pixels = (255 * mixed).round().to(torch.uint8).numpy()
    Image.fromarray(pixels, mode=None).save(stream, format="PNG", optimize=False)
    return stream.getvalue()


def _rgb(name: str) -> Colour:
    red, green, blue = (int(name[start : start + 2], 16) for start in (1, 3, 5))
    return red, green, blue


def error_picture(image: Tensor, target: Tensor, largest: float) -> bytes:
    """The absolute difference of two magnitude images, black (0) to bright (``largest``), magma.

    Args:
        image: (rows, columns), real or complex.
        target: (rows, columns).
        largest: the difference drawn brightest; larger ones are clipped.

    Raises:
        UsageError: the shapes differ, or are not those of one slice.
    """
    if image.shape != target.shape:
        raise UsageError(
            "an image and its target differ in shape",
            got=tuple(image.shape),
            expected=tuple(target.shape),
        )
    return _mapped((image.abs() - target.abs()).abs(), 0.0, largest, "magma")


def kspace_picture(kspace: Tensor) -> bytes:
    """The root-sum-of-squares of k-space over the coils, in dB below its maximum, viridis.

    Args:
        kspace: (coils, readout, phase) or (readout, phase) complex; ``DYNAMIC_RANGE`` dB are
            drawn, and what lies below or is zero has the darkest colour.
    """
    coils = kspace.detach().to("cpu").abs().to(torch.float64).reshape(-1, *kspace.shape[-2:])
    magnitude = coils.square().sum(0).sqrt()
    finite = magnitude[magnitude.isfinite()]
    largest = float(finite.max()) if finite.numel() else 0.0
    tiny = 10 ** (-DYNAMIC_RANGE / 20)
    relative = magnitude / largest if largest > 0 else magnitude
    return _mapped(20 * torch.log10(relative.clamp_min(tiny)), -DYNAMIC_RANGE, 0.0, "viridis")


def mask_picture(mask: Mask, readout: int | None = None) -> bytes:
    """A mask as it covers k-space; lines run along the readout, which is drawn downwards.

    Args:
        mask: lines or points.
        readout: size of the readout axis, for lines; square when not given.
    """
    indices = np.where(mask.positions, 1, 0).astype(np.uint8)
    low = np.zeros_like(mask.positions)
    low[mask.block] = True
    indices[low & mask.positions] = 2
    if mask.encoded is not None:
        indices[~mask.encoded] = 3
    if mask.axes == 1:
        indices = np.repeat(indices[None, :], readout or indices.size, axis=0)
    return _png(indices, (*SKIPPED, *ACQUIRED, *LOW_FREQUENCY, *PADDING))


def scale_strip(colours: str) -> bytes:
    """The colours of ``grey``, ``magma`` or ``viridis`` from low to high, one pixel high."""
    return _png(np.arange(_LEVELS, dtype=np.uint8)[None, :], _palette(colours))


def swatch(colour: Colour) -> bytes:
    """One pixel of a colour."""
    return _png(np.zeros((1, 1), dtype=np.uint8), colour)


def picture_row(pictures: Sequence[tuple[str, bytes]], framed: int | None = None) -> bytes:
    """Pictures side by side, each below its title.

    Args:
        pictures: titles, and PNG as the functions above draw them.
        framed: index of the picture that gets a frame; none when not given.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.0 * len(pictures), 2.3), dpi=150, layout="constrained")
    for number, (title, png) in enumerate(pictures):
        axes = figure.add_subplot(1, len(pictures), number + 1)
        axes.imshow(Image.open(io.BytesIO(png)).convert("RGB"), interpolation="nearest")
        axes.set_title(title, fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color(_SERIES[1])
            spine.set_linewidth(3.0 if number == framed else 0.0)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str
) -> bytes:
    """A small line chart, for example of training; draw it with density 2.

    Args:
        series: name -> points (x, y) in the order they are joined.
        x_label: name and unit of the horizontal axis.
        y_label: name and unit of the vertical axis.
    """
    figure = _figure(height=2.8)
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(series.items()):
        few = len(points) <= 40
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            label=name,
            color=_SERIES[number % len(_SERIES)],
            marker=_MARKERS[number % len(_MARKERS)] if few else None,
            markersize=3.5,
            linewidth=1.4,
        )
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if len(series) > 1:
        axes.legend(frameon=False)
    return _drawn(figure)


def interval_chart(values: Mapping[str, Mapping[str, Measured | float]], *, x_label: str) -> bytes:
    """Values by method as points with their intervals; draw it with density 2.

    Args:
        values: group, for example the acceleration -> method -> value; a group has one colour
            and one marker, a method one line.
        x_label: name and unit of the values, with the protocol.
    """
    methods = list(dict.fromkeys(method for group in values.values() for method in group))
    figure = _figure(height=0.8 + 0.32 * max(2, len(methods)))
    axes = figure.add_subplot()
    for number, (group, by_method) in enumerate(values.items()):
        # Groups of one method lie a little apart, so that intervals do not cover each other.
        shift = 0.16 * (number - (len(values) - 1) / 2)
        for method, value in by_method.items():
            known = value if isinstance(value, Measured) else Measured(value, value, value)
            axes.errorbar(
                known.value,
                methods.index(method) + shift,
                xerr=[[max(0.0, known.value - known.low)], [max(0.0, known.high - known.value)]],
                color=_SERIES[number % len(_SERIES)],
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=5,
                capsize=3,
                linestyle="none",
                label=group if method == next(iter(by_method)) else None,
            )
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_xlabel(x_label)
    if len(values) > 1:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _drawn(figure)


def _figure(height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, height), dpi=200, layout="constrained")


def _drawn(figure: "Figure") -> bytes:
    for axes in figure.axes:
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    # Without its software entry a PNG depends on nothing but its content.
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
