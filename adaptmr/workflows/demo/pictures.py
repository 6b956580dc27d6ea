"""The way of a scan in pictures: from the low frequencies to the image and what it is worth."""

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from adaptmr.reconstruction.bank.inference import stratum
from adaptmr.sampling.decision import Decision
from adaptmr.sampling.low_frequency import LowFrequency, acquire_scan
from adaptmr.sampling.selection import measure
from adaptmr.workflows.benchmark.examined import METRICS
from adaptmr.workflows.demo.comparison import Comparison
from adaptmr.workflows.report import Gallery, GalleryRow, Picture, Scale
from adaptmr.workflows.report.figures import (
    ACQUIRED,
    DYNAMIC_RANGE,
    LOW_FREQUENCY,
    SKIPPED,
    error_picture,
    kspace_picture,
    magnitude_picture,
    mask_picture,
    scale_strip,
    swatch,
)
from adaptmr.workflows.report.sections import METRICS as COLUMNS
from adaptmr.workflows.report.sections import bright_level, brightening

EXAMPLES: Final = 3
"""Slices shown."""
_BRIGHT: Final = 0.98
"""Share of the pixels within the window: the scalp may be clipped, for the brain to be seen."""


@dataclass(frozen=True, eq=False)
class _Example:
    """One slice on its way.

    Attributes:
        label: contrast and orientation.
        place: file and slice.
        low: what is acquired first, of this slice alone.
        decision: the choice.
        image: (rows, columns) reconstruction.
        target: (rows, columns).
        half: (rows, columns) half the width of the interval; None where there is none.
        metrics: (3,) of the reconstruction.
    """

    label: str
    place: tuple[str, str]
    low: LowFrequency
    decision: Decision
    image: Tensor
    target: Tensor
    half: Tensor | None
    metrics: Tensor


def way_of_a_scan(found: Comparison) -> Gallery:
    """A few slices, each from the low frequencies to the reconstruction, in a row."""
    examples = [_example(found, position) for position in _shown(found)]
    levels = [bright_level(one.target, _BRIGHT) for one in examples]
    maps = [one.image - one.target if one.half is None else one.half for one in examples]
    shares = [
        bright_level(each.abs(), _BRIGHT) / bright
        for each, bright in zip(maps, levels, strict=True)
    ]
    factor = brightening(shares, 1.0)
    rows = [_row(found, one, bright, factor) for one, bright in zip(examples, levels, strict=True)]
    masks = tuple(f"Mask {index}" for index in range(len(found.bank)))
    uncertainty = () if found.bank.sampler is None else ("Uncertainty",)
    half = () if found.bank.calibration is None else ("Interval, ±",)
    return Gallery(
        "",
        ("Low frequencies", *uncertainty, *masks, "Image", *half, "Error"),
        tuple(rows),
        (
            Scale(scale_strip("grey"), "image, each on its own scale", "0", "bright"),
            Scale(swatch(ACQUIRED), "acquired"),
            Scale(swatch(LOW_FREQUENCY), "acquired first: the low frequencies"),
            Scale(swatch(SKIPPED), "not acquired"),
            Scale(
                scale_strip("viridis"),
                "uncertainty below its maximum",
                f"−{DYNAMIC_RANGE:.0f} dB",
                "0 dB",
            ),
            Scale(
                scale_strip("magma"),
                f"error and half the interval's width, drawn {factor}× as bright as the image",
                "0",
                f"{1 / factor:.3g} of bright",
            ),
        ),
        "From left to right: the centre of k-space is acquired; samples of what the slice may look"
        " like differ in k-space where it is uncertain; each mask gets a score from that, and the"
        " best one (framed) is acquired and reconstructed by the network that was trained for it."
        " A pixel whose error is brighter than its interval was missed by it. Shown: the first"
        " slices of different masks, orientations and contrasts.",
    )


def _shown(found: Comparison) -> list[int]:
    """Which slices: of as many masks, orientations and contrasts as there are."""
    traits = [
        (pair, scan.header.orientation, stratum(scan.header))
        for pair, (scan, _) in zip(found.chosen.tolist(), found.examined.slices, strict=True)
    ]
    shown: list[int] = []

    def seen(position: int) -> tuple[int, ...]:
        """How often each of its traits is shown already."""
        columns = zip(*(traits[other] for other in (*shown, position)), strict=True)
        return (*(column.count(column[-1]) for column in columns), position)

    while len(shown) < min(EXAMPLES, len(traits)):
        shown.append(min(set(range(len(traits))) - set(shown), key=seen))
    return sorted(shown)


def _example(found: Comparison, position: int) -> _Example:
    scan, index = found.examined.slices[position]
    number = next(n for n, one in enumerate(found.examined.scans) if one.name == scan.name)
    result = found.results[number]
    assert scan.target is not None  # noqa: S101 - scans of the demonstration have targets
    half = (
        None
        if result.lower is None or result.upper is None
        else (result.upper[index] - result.lower[index]) / 2
    )
    return _Example(
        stratum(scan.header),
        (scan.name, f"slice {index}"),
        acquire_scan(scan, found.bank.masks.block)[index : index + 1],
        result.decisions[index if len(result.decisions) > 1 else 0],
        result.image[index],
        scan.target[index],
        half,
        found.pairs[position, found.chosen[position]],
    )


def _row(found: Comparison, one: _Example, bright: float, factor: int) -> GalleryRow:
    bank, window, largest = found.bank, (0.0, bright), bright / factor
    where = f"{' '.join(one.place)}, {one.label}"
    low = one.low.image[0]
    pictures: list[Picture | None] = [
        Picture(
            magnitude_picture(low, (0.0, bright_level(low, _BRIGHT))),
            f"Image of the low frequencies alone, {where}",
            one.place,
        )
    ]
    if bank.sampler is not None:
        values = measure(bank.sampler, one.low, bank.uncertainty).values[0]
        pictures.append(
            # The square root, as decibels of a variance are half those of a magnitude.
            Picture(kspace_picture(values.sqrt()), f"Uncertainty of k-space, {where}")
        )
    pictures += [
        Picture(
            mask_picture(mask, bank.masks.matrix[0]),
            f"Mask {index}{', chosen' if index == one.decision.index else ''}, {where}",
            _scored(one.decision, index),
            framed=index == one.decision.index,
        )
        for index, mask in enumerate(bank.masks.masks)
    ]
    pictures.append(
        Picture(
            magnitude_picture(one.image, window),
            f"Reconstruction by pair {one.decision.index}, {where}",
            _numbers(one.metrics),
        )
    )
    if bank.calibration is not None:
        pictures.append(
            None
            if one.half is None
            else Picture(
                error_picture(one.half, one.half * 0, largest),
                f"Half the width of each pixel's interval, {where}",
            )
        )
    pictures.append(
        Picture(error_picture(one.image, one.target, largest), f"Absolute error, {where}")
    )
    return GalleryRow(one.label, tuple(pictures))


def _scored(decision: Decision, index: int) -> tuple[str, ...]:
    score = decision.scores[index]
    told = () if score is None else (f"score {score:.3g}",)
    return (*told, "chosen") if index == decision.index else told


def _numbers(metrics: Tensor) -> tuple[str, ...]:
    named = dict(zip(METRICS, metrics.tolist(), strict=True))
    shown = ((COLUMNS[name], named[name]) for name in ("ssim", "psnr"))
    return tuple(
        f"{column.name} {column.show(value)} {column.unit}".rstrip() for column, value in shown
    )
