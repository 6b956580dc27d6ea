"""`Frame`: what all masks of a bank share, whatever their high frequencies."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from adaptmr.data.positions import centred_block
from adaptmr.errors import BadInputError, UsageError
from adaptmr.sampling.mask import Mask


class Positions(StrEnum):
    """What a mask is made of."""

    LINES = "lines"
    """Columns along the whole readout."""
    POINTS = "points"
    """Single positions, which need two phase-encode axes (a 3-D scan)."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Lines or points, the low-frequency block, the padding, and the budget to be spent exactly.

    Attributes:
        encoded: bool, (phase,) for lines or (readout, phase) for points: positions that exist.
        low_frequency: size of the block, one number per position axis.
        budget: positions to acquire, the block included.
    """

    encoded: NDArray[np.bool_]
    low_frequency: tuple[int, ...]
    budget: int

    def __post_init__(self) -> None:
        # The mask of the block alone checks sizes and padding.
        block = int(self.block_only.budget)
        if not block < self.budget <= int(self.encoded.sum()):
            raise UsageError(
                "the budget leaves nothing to choose beyond the low-frequency block"
                if block >= self.budget
                else "the budget exceeds the positions that exist",
                field="budget",
                got=f"{self.budget} positions",
                expected=f"from {block + 1} to {int(self.encoded.sum())}",
                hint="Change the acceleration or the low-frequency share",
            )

    @classmethod
    def of(
        cls,
        matrix: tuple[int, int],
        low_frequency: tuple[int, ...],
        acceleration: float,
        padding: tuple[int, int] | None = None,
    ) -> Self:
        """The frame of an acceleration: ``round(encoded / acceleration)`` positions.

        Args:
            matrix: (readout, phase).
            low_frequency: one number for lines, two for points.
            acceleration: positions that exist over positions acquired, the block included.
            padding: columns ``padding[0] <= column < padding[1]`` exist; all when not given.

        Raises:
            UsageError: the block alone takes the budget.
            BadInputError: the block does not fit the matrix, or reaches into the padding.
        """
        encoded = np.zeros(matrix[-len(low_frequency) :], dtype=np.bool_)
        left, right = (0, matrix[1]) if padding is None else padding
        encoded[..., left:right] = True
        return cls(encoded, low_frequency, round(int(encoded.sum()) / acceleration))

    @classmethod
    def of_mask(cls, mask: Mask) -> Self:
        """The frame that a mask fills."""
        assert mask.encoded is not None  # noqa: S101 - set by Mask
        return cls(mask.encoded, mask.low_frequency, mask.budget)

    @property
    def axes(self) -> int:
        """1 for lines, 2 for points."""
        return self.encoded.ndim

    @property
    def block_only(self) -> Mask:
        """The mask of the low-frequency block alone."""
        positions = np.zeros_like(self.encoded)
        index = tuple(
            centred_block(size, length)
            for size, length in zip(self.encoded.shape, self.low_frequency, strict=False)
        )
        positions[index] = True
        return Mask(positions, self.low_frequency, self.encoded)

    @property
    def candidates(self) -> NDArray[np.bool_]:
        """Positions that may be chosen: they exist and are not in the block."""
        outside: NDArray[np.bool_] = self.encoded & ~self.block_only.positions
        return outside

    @property
    def count(self) -> int:
        """Positions to choose beyond the block."""
        return self.budget - self.block_only.budget

    def weights(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Uncertainty per position: summed over the readout for lines, zero where no candidate.

        Args:
            values: (readout, phase), not negative.

        Raises:
            BadInputError: another matrix, or values that are negative or not finite.
        """
        if values.ndim != 2 or values.shape[-self.axes :] != self.encoded.shape:
            raise BadInputError(
                "the uncertainty is of another matrix than the masks",
                field="uncertainty",
                got=values.shape,
                expected=f"(readout, {self.encoded.shape[0]})"
                if self.axes == 1
                else self.encoded.shape,
            )
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise BadInputError(
                "the uncertainty has values that are negative or not finite",
                field="uncertainty",
                got=f"{int((~(values >= 0) | np.isinf(values)).sum())} of {values.size}",
                expected="none",
            )
        per_position = values.astype(np.float64)
        if self.axes == 1:
            per_position = per_position.sum(0)
        return np.where(self.candidates, per_position, 0.0)

    def mask(self, chosen: NDArray[np.bool_], provenance: dict[str, Any]) -> Mask:
        """The mask of the block and the chosen candidates.

        Raises:
            BadInputError: the budget is not met exactly.
        """
        positions = self.block_only.positions | chosen
        if int(positions.sum()) != self.budget:
            raise BadInputError(
                "the chosen positions do not meet the budget",
                field="mask",
                got=int(positions.sum()),
                expected=self.budget,
            )
        return Mask(
            positions,
            self.low_frequency,
            self.encoded,
            nominal_acceleration=float(self.encoded.sum()) / self.budget,
            provenance=provenance,
        )
