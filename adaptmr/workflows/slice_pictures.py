"""Slices on their way through a bank, in pictures: from the low frequencies to the image."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.sampling.decision import Decision
from adaptmr.sampling.low_frequency import LowFrequency
from adaptmr.sampling.selection import measure
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
from adaptmr.workflows.report.sections import METRICS, bright_level, brightening

_BRIGHT: Final = 0.98
"""Share of the pixels within the window: the scalp may be clipped, for the brain to be seen."""


@dataclass(frozen=True, eq=False)
class SliceOnItsWay:
    """One slice, from what is acquired first to its image.

    Attributes:
        label: contrast and orientation.
        place: file and slice.
        low: what was acquired first, of this slice alone; None where nothing was chosen by it.
        decision: the choice.
        image: (rows, columns) reconstruction.
        target: (rows, columns); None where there is no reference.
        half: (rows, columns) half the width of the interval; None where there is none.
        metrics: name -> value, of the reconstruction.
    """

    label: str
    place: tuple[str, str]
    low: LowFrequency | None
    decision: Decision
    image: Tensor
    target: Tensor | None
    half: Tensor | None
    metrics: dict[str, float]

    @property
    def bright(self) -> float:
        """The value drawn white."""
        return bright_level(self.image if self.target is None else self.target, _BRIGHT)

    @property
    def dim(self) -> Tensor | None:
        """What is to be drawn brighter than images: the interval, or else the error."""
        if self.half is not None or self.target is None:
            return self.half
        return (self.image - self.target).abs()


def various(traits: Sequence[tuple[Hashable, ...]], count: int) -> list[int]:
    """Positions of a few, ascending, that differ in as many traits as they can; earliest first."""
    shown: list[int] = []

    def seen(position: int) -> tuple[int, ...]:
        """How often each of its traits is shown already."""
        columns = zip(*(traits[other] for other in (*shown, position)), strict=True)
        return (*(column.count(column[-1]) for column in columns), position)

    while len(shown) < min(count, len(traits)):
        shown.append(min(set(range(len(traits))) - set(shown), key=seen))
    return sorted(shown)


def way_of_slices(bank: ReconstructionBank, slices: Sequence[SliceOnItsWay]) -> Gallery:
    """Slices in rows: low frequencies, uncertainty, masks, image, interval, error.

    Columns for which no slice has anything are left out.
    """
    dim = [
        (bright_level(one.dim, _BRIGHT), one.bright)
        for one in slices
        if one.dim is not None and one.bright > 0
    ]
    factor = brightening([level / bright for level, bright in dim], 1.0) if dim else 1
    has_low = any(one.low is not None for one in slices)
    drawn: dict[str, list[Picture | None]] = {}
    if has_low:
        drawn["Low frequencies"] = [_low(one) for one in slices]
    if has_low and bank.sampler is not None:
        drawn["Uncertainty"] = [_uncertainty(bank, one) for one in slices]
    for index in range(len(bank)):
        drawn[f"Mask {index}"] = [_mask(bank, index, one) for one in slices]
    drawn["Image"] = [_image(one) for one in slices]
    if any(one.half is not None for one in slices):
        drawn["Interval, ±"] = [_half(one, factor) for one in slices]
    if any(one.target is not None for one in slices):
        drawn["Error"] = [_error(one, factor) for one in slices]
    columns = zip(*drawn.values(), strict=True)
    rows = (GalleryRow(one.label, row) for one, row in zip(slices, columns, strict=True))
    return Gallery("", tuple(drawn), tuple(rows), _legend(drawn, factor), _note(drawn))


def _legend(drawn: dict[str, list[Picture | None]], factor: int) -> tuple[Scale, ...]:
    legend = [
        Scale(scale_strip("grey"), "image, each on its own scale", "0", "bright"),
        Scale(swatch(ACQUIRED), "acquired"),
        Scale(swatch(LOW_FREQUENCY), "acquired first: the low frequencies"),
        Scale(swatch(SKIPPED), "not acquired"),
    ]
    if "Uncertainty" in drawn:
        low = f"−{DYNAMIC_RANGE:.0f} dB"
        legend.append(Scale(scale_strip("viridis"), "uncertainty below its maximum", low, "0 dB"))
    shown = {"Error": "error", "Interval, ±": "half the interval's width"}
    told = " and ".join(text for name, text in shown.items() if name in drawn)
    if told:
        label = f"{told}, drawn {factor}× as bright as the image"
        legend.append(Scale(scale_strip("magma"), label, "0", f"{1 / factor:.3g} of bright"))
    return tuple(legend)


def _note(drawn: dict[str, list[Picture | None]]) -> str:
    sentences = []
    if "Uncertainty" in drawn:
        sentences.append(
            "From left to right: the centre of k-space is acquired; samples of what the slice may"
            " look like differ in k-space where it is uncertain; each mask gets a score from that,"
            " and the best one (framed) is acquired and reconstructed by the network that was"
            " trained for it."
        )
    else:
        sentences.append("The mask that was used is framed; its network reconstructed the slice.")
    if {"Error", "Interval, ±"} <= drawn.keys():
        sentences.append("A pixel whose error is brighter than its interval was missed by it.")
    sentences.append("Shown: the first slices of different masks, orientations and contrasts.")
    return " ".join(sentences)


def _where(one: SliceOnItsWay) -> str:
    return f"{' '.join(one.place)}, {one.label}"


def _low(one: SliceOnItsWay) -> Picture | None:
    if one.low is None:
        return None
    image = one.low.image[0]
    return Picture(
        magnitude_picture(image, (0.0, bright_level(image, _BRIGHT))),
        f"Image of the low frequencies alone, {_where(one)}",
        one.place,
    )


def _uncertainty(bank: ReconstructionBank, one: SliceOnItsWay) -> Picture | None:
    if one.low is None or bank.sampler is None:
        return None
    values = measure(bank.sampler, one.low, bank.uncertainty).values[0]
    # The square root, as decibels of a variance are half those of a magnitude.
    return Picture(kspace_picture(values.sqrt()), f"Uncertainty of k-space, {_where(one)}")


def _mask(bank: ReconstructionBank, index: int, one: SliceOnItsWay) -> Picture:
    chosen, score = index == one.decision.index, one.decision.scores[index]
    told = () if score is None else (f"score {score:.3g}",)
    return Picture(
        mask_picture(bank.masks.masks[index], bank.masks.matrix[0]),
        f"Mask {index}{', chosen' if chosen else ''}, {_where(one)}",
        (*told, "chosen") if chosen else told,
        framed=chosen,
    )


def _image(one: SliceOnItsWay) -> Picture:
    numbers = (
        f"{METRICS[name].name} {METRICS[name].show(value)} {METRICS[name].unit}".rstrip()
        for name, value in one.metrics.items()
    )
    return Picture(
        magnitude_picture(one.image, (0.0, one.bright)),
        f"Reconstruction by pair {one.decision.index}, {_where(one)}",
        (*(one.place if one.low is None else ()), *numbers),
    )


def _half(one: SliceOnItsWay, factor: int) -> Picture | None:
    if one.half is None:
        return None
    return Picture(
        error_picture(one.half, one.half * 0, one.bright / factor),
        f"Half the width of each pixel's interval, {_where(one)}",
    )


def _error(one: SliceOnItsWay, factor: int) -> Picture | None:
    if one.target is None:
        return None
    return Picture(
        error_picture(one.image, one.target, one.bright / factor),
        f"Absolute error, {_where(one)}",
    )
