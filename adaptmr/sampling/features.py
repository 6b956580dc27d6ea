"""Few numbers that describe a slice before its mask is chosen, comparable across matrix sizes."""

import torch
from torch import Tensor

from adaptmr.sampling.low_frequency import LowFrequency
from adaptmr.sampling.uncertainty import UncertaintyMap

RINGS = 8
"""Rings of the radial profile, equally wide from the centre to the nearest edge of k-space."""
SECTORS = 6
"""Sectors of the angular profile over half a turn (k and -k count as one direction)."""

_SMALLEST = 1e-12


def features(low_frequency: LowFrequency, uncertainty: UncertaintyMap) -> Tensor:
    """Features of slices from their uncertainty and their low-frequency image.

    Logarithm of the share of the uncertainty in each ring and each sector of k-space, the same of
    the energy of the low-frequency block, and mean, standard deviation, skewness and share of
    bright pixels of the low-frequency image. All are free of the scale of the data.

    Args:
        low_frequency: the slices.
        uncertainty: theirs.

    Returns:
        (batch, 2 * (RINGS + SECTORS) + 4) float64 on the CPU; NaN where the uncertainty is not
        known.
    """
    spread = uncertainty.values.double().cpu()
    energy = torch.view_as_real(low_frequency.kspace).double().cpu().square().sum((1, -1))
    image = low_frequency.image.double().cpu().flatten(1)
    mean, deviation = image.mean(1), image.std(1, correction=0)
    centred = image - mean[:, None]
    skewness = centred.pow(3).mean(1) / deviation.pow(3).clamp(min=_SMALLEST)
    statistics = torch.stack((mean, deviation, skewness, (image > 0.5).double().mean(1)), 1)
    described = torch.cat((_profiles(spread), _profiles(energy), statistics), 1)
    return torch.where(uncertainty.known.cpu()[:, None], described, torch.nan)


def _profiles(values: Tensor) -> Tensor:
    """(batch, RINGS + SECTORS) logarithm of the share of each ring and each sector."""
    rows, columns = (
        (torch.arange(size, dtype=torch.float64) - size // 2) / max(1.0, size / 2)
        for size in values.shape[1:]
    )
    radius = (rows[:, None].square() + columns.square()).sqrt()
    angle = torch.atan2(rows[:, None].expand_as(radius), columns.expand_as(radius)) % torch.pi
    ring = (radius * RINGS).long().clamp(max=RINGS - 1)
    # Sectors are centred on the axes, so that stripes along an axis fall into one.
    sector = (angle / torch.pi * SECTORS).round().long() % SECTORS
    sums = [
        values[:, part == index].sum(1)
        for part, count in ((ring, RINGS), (sector, SECTORS))
        for index in range(count)
    ]
    total = values.sum((1, 2)).clamp(min=_SMALLEST)
    return (torch.stack(sums, 1) / total[:, None] + 1e-6).log()
