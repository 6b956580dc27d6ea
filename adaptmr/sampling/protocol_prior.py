"""`ProtocolPrior`: what the header already tells, without any uncertainty.

The control that every adaptive selector has to beat: contrast, orientation and slice position go
a long way (Hong et al.'s released results are matched by a table of slice indices).
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from adaptmr.data.scan import Header
from adaptmr.errors import BadInputError
from adaptmr.sampling.bank import MaskBank, check_losses
from adaptmr.sampling.selector import Evidence


class Situation(BaseModel):
    """Contrast, orientation and part of the volume; None stands for any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    acquisition: str | None
    orientation: str | None
    part: int | None


class Row(BaseModel):
    """Mean training loss of every mask in one situation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    situation: Situation
    losses: tuple[float, ...]
    slices: int = Field(ge=1)


class ProtocolPrior(BaseModel):
    """The mask that did best in training slices of the same protocol and position.

    A situation that did not occur in training is looked up by contrast and orientation alone, then
    by position alone; if that fails too there is no score.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = "protocol prior"
    needs_uncertainty: ClassVar[bool] = False

    parts: int = Field(ge=1)
    """Parts that a volume is divided into, first slice to last."""
    rows: tuple[Row, ...]

    @classmethod
    def fit(
        cls,
        headers: Sequence[Header],
        positions: Tensor,
        losses: Tensor,
        *,
        parts: int = 5,
    ) -> Self:
        """Tabulate training losses.

        Args:
            headers: of the scan of each slice.
            positions: (slices,) where each slice lies in its volume, 0 to 1.
            losses: (slices, J) of every mask; smaller is better.
            parts: parts that a volume is divided into.

        Raises:
            BadInputError: the numbers of slices differ, or losses are not finite.
        """
        check_losses(losses, losses.shape[-1])
        if not len(headers) == len(positions) == len(losses):
            raise BadInputError(
                "headers, positions and losses are of different slices",
                field="losses",
                got=f"{len(headers)}, {len(positions)}, {len(losses)}",
                expected="one each per slice",
            )
        found: dict[Situation, list[Tensor]] = defaultdict(list)
        for header, position, loss in zip(
            headers, positions.tolist(), losses.double(), strict=True
        ):
            for situation in _situations(header, _part(position, parts)):
                found[situation].append(loss)
        return cls(
            parts=parts,
            rows=tuple(
                Row(
                    situation=situation,
                    losses=tuple(torch.stack(members).mean(0).tolist()),
                    slices=len(members),
                )
                for situation, members in found.items()
            ),
        )

    def scores(self, evidence: Evidence, bank: MaskBank) -> Tensor:
        """(batch, J): minus the tabulated losses; NaN where no situation of the slice is known.

        Raises:
            BadInputError: the table is of another number of masks.
        """
        table = {row.situation: row.losses for row in self.rows}
        if any(len(losses) != len(bank) for losses in table.values()):
            raise BadInputError(
                "the protocol prior was made for another bank",
                field="losses",
                expected=f"{len(bank)} masks",
                hint="Fit it on this bank's losses",
            )
        batch = evidence.low_frequency.batch
        nowhere = [None] * batch
        positions = nowhere if evidence.positions is None else evidence.positions.tolist()
        unknown = (float("nan"),) * len(bank)
        rows = []
        for position in positions:
            part = None if position is None else _part(position, self.parts)
            situations = _situations(evidence.header or Header(), part)
            known = next((table[each] for each in situations if each in table), unknown)
            rows.append([-loss for loss in known])
        return torch.tensor(rows, dtype=torch.float64)


def slice_positions(slices: int) -> Tensor:
    """Where each slice lies in its volume: (slices,) from 0 to 1; 0.5 for a single one."""
    return torch.linspace(0, 1, slices) if slices > 1 else torch.full((slices,), 0.5)


def _part(position: float, parts: int) -> int:
    return min(parts - 1, max(0, int(position * parts)))


def _situations(header: Header, part: int | None) -> list[Situation]:
    """From the most to the least specific; none that says nothing."""
    contrast, orientation = header.acquisition, header.orientation
    candidates = [(contrast, orientation, part), (contrast, orientation, None), (None, None, part)]
    kept = [each for each in dict.fromkeys(candidates) if each != (None, None, None)]
    return [Situation(acquisition=a, orientation=o, part=p) for a, o, p in kept]
