"""`PosteriorSampler`: what the full image may look like, given its low frequencies."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from adaptmr.errors import BadInputError
from adaptmr.sampling.low_frequency import LowFrequency


@runtime_checkable
class PosteriorSampler(Protocol):
    """Draws images that the low-frequency data leave possible.

    A sampler is deterministic given the generator, neither reads nor changes the global random
    state, and uses nothing but the low-frequency data.
    """

    def sample(self, low_frequency: LowFrequency, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` images per slice.

        Args:
            low_frequency: the slices.
            n: samples per slice.
            generator: where the randomness comes from.

        Returns:
            (n, batch, rows, columns) root-sum-of-squares magnitude images in the normalised units
            of ``low_frequency`` (the images' own units divided by ``scale``).

        Raises:
            BadInputError: the sampler was made for another matrix or block.
        """
        ...


class Sized(Protocol):
    """What has images of one matrix, and of these one low-frequency block."""

    @property
    def matrix(self) -> tuple[int, int]:
        """(rows, columns) of the images."""
        ...

    @property
    def block(self) -> tuple[int, int]:
        """(rows, columns) acquired about the centre."""
        ...


def check_made_for(sampler: Sized, data: Sized) -> None:
    """Check that a sampler was made for the matrix and the block of some data.

    Raises:
        BadInputError: it was not.
    """
    for field, expected, got in (
        ("matrix", sampler.matrix, data.matrix),
        ("block", sampler.block, data.block),
    ):
        if tuple(got) != tuple(expected):
            raise BadInputError(
                f"the sampler was trained for another {field}",
                field=field,
                got=tuple(got),
                expected=tuple(expected),
                hint="Train a sampler for this size, or crop the scan to the sampler's",
            )
