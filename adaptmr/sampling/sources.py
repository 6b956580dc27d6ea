"""Where the masks of a training come from: a rule (`MaskSpec`), one mask, or uncertainties."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np
from torch import Tensor

from adaptmr.errors import BadInputError
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.generators import Seed, numbers
from adaptmr.sampling.informed import DrawRule, informed_mask
from adaptmr.sampling.mask import Mask

_GROUPS: Final = (1, 4, 16)
"""Slices that a mask answers: from one's own mask to about a centroid's."""
_POWERS: Final = (0.5, 2.0)
"""Range of the factor of the rule's exponent, from flatter to more concentrated masks."""


class MaskSource(Protocol):
    """Makes the masks of a training; an implementation is immutable."""

    @property
    def fingerprint(self) -> str:
        """Identity: sources of one fingerprint make the same masks."""
        ...

    def make(self, matrix: tuple[int, int], seed: Seed, padding: tuple[int, int] | None) -> Mask:
        """A mask; the same arguments always make the same.

        Args:
            matrix: (readout, phase) of the k-space.
            seed: of what is random.
            padding: columns that exist, first and last plus one; all when not given.

        Raises:
            AdaptMRError: there is no such mask for this matrix and padding.
        """
        ...


@dataclass(frozen=True)
class FixedMask:
    """One mask for all slices.

    Attributes:
        mask: the mask.
    """

    mask: Mask

    @property
    def fingerprint(self) -> str:
        """That of the mask."""
        return self.mask.fingerprint

    def make(self, matrix: tuple[int, int], seed: Seed, padding: tuple[int, int] | None) -> Mask:
        """The mask, whatever the seed.

        Raises:
            BadInputError: the mask is of another matrix, or acquires padding.
        """
        del seed
        left, right = (0, matrix[1]) if padding is None else padding
        if not self.mask.fits(matrix):
            raise BadInputError(
                "the mask is of another matrix than the scan",
                field="mask",
                got=self.mask.positions.shape,
                expected=matrix[-self.mask.axes :],
            )
        columns = np.flatnonzero(self.mask.positions.any(tuple(range(self.mask.axes - 1))))
        if columns[0] < left or columns[-1] >= right:
            raise BadInputError(
                "the mask acquires what is zero padding in the scan",
                field="padding",
                got=f"columns {columns[0]} to {columns[-1]}",
                expected=f"columns {left} to {right - 1}",
            )
        return self.mask


@dataclass(frozen=True, eq=False)
class UncertaintyDraws:
    """Masks drawn from training uncertainties: of one slice, or the mean of a few at random.

    So a network sees masks like those that a bank, or a slice of its own, will have: for each mask
    the number of slices and the exponent of the draw are random as well.

    Attributes:
        values: (slices, readout, phase) uncertainties.
        frame: lines or points, block, budget.
        rule: how to draw; its seed is not used.
    """

    values: Tensor
    frame: Frame
    rule: DrawRule

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of uncertainties, frame and rule."""
        head = (self.frame.block_only.fingerprint, self.frame.budget, self.rule.model_dump_json())
        digest = hashlib.sha256(repr(head).encode())
        digest.update(self.values.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def make(self, matrix: tuple[int, int], seed: Seed, padding: tuple[int, int] | None) -> Mask:
        """Draw a mask.

        Raises:
            BadInputError: the uncertainties are of another matrix than the scan, or their frame
                reaches into its padding.
        """
        generator = np.random.default_rng(numbers(seed))
        group = int(generator.choice(_GROUPS))
        members = generator.choice(len(self.values), min(group, len(self.values)), replace=False)
        low, high = np.log(_POWERS)
        rule = self.rule.model_copy(
            update={
                "seed": int(generator.integers(2**32)),
                "power": self.rule.power * float(np.exp(generator.uniform(low, high))),
            }
        )
        mask = informed_mask(self.values[members.tolist()].mean(0), self.frame, rule)
        return FixedMask(mask).make(matrix, seed, padding)
