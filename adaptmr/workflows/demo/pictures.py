"""The way of a scan in pictures: from the low frequencies to the image and what it is worth."""

from typing import Final

from adaptmr.reconstruction.bank.inference import stratum
from adaptmr.sampling.low_frequency import acquire
from adaptmr.workflows.benchmark.examined import METRICS
from adaptmr.workflows.demo.comparison import Comparison
from adaptmr.workflows.report import Gallery
from adaptmr.workflows.slice_pictures import SliceOnItsWay, various, way_of_slices

EXAMPLES: Final = 3
"""Slices shown."""


def way_of_a_scan(found: Comparison) -> Gallery:
    """A few slices, each from the low frequencies to the reconstruction, in a row."""
    traits = [
        (pair, scan.header.orientation, stratum(scan.header))
        for pair, (scan, _) in zip(found.chosen.tolist(), found.examined.slices, strict=True)
    ]
    shown = [_example(found, position) for position in various(traits, EXAMPLES)]
    return way_of_slices(found.bank, shown)


def _example(found: Comparison, position: int) -> SliceOnItsWay:
    scan, index = found.examined.slices[position]
    number = next(n for n, one in enumerate(found.examined.scans) if one.name == scan.name)
    result = found.results[number]
    assert scan.target is not None  # noqa: S101 - scans of the demonstration have targets
    half = (
        None
        if result.lower is None or result.upper is None
        else (result.upper[index] - result.lower[index]) / 2
    )
    metrics = found.pairs[position, found.chosen[position]].tolist()
    return SliceOnItsWay(
        stratum(scan.header),
        (scan.name, f"slice {index}"),
        acquire(scan.kspace[index : index + 1], found.bank.masks.block),
        result.decisions[index if len(result.decisions) > 1 else 0],
        result.image[index],
        scan.target[index],
        half,
        {name: metrics[METRICS.index(name)] for name in ("ssim", "psnr")},
    )
