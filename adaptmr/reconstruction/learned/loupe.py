"""One learned mask for all inputs (LOUPE; hypothesis class H1)."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat
from torch import Tensor, nn

from adaptmr.reconstruction.learned.binarise import most_probable, to_budget
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.low_frequency import LowFrequency
from adaptmr.sampling.mask import Mask


class LoupeConfig(BaseModel):
    """How probabilities follow from parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["loupe"] = "loupe"
    slope: PositiveFloat = 10.0
    """Probabilities are ``sigmoid(slope * parameter)`` before they are rescaled to the budget."""


class Loupe(nn.Module):
    """A probability per line or point (Bahadir et al., arXiv:1901.01960), equal at first.

    Args:
        config: how.
        frame: lines or points, block and budget.
    """

    def __init__(self, config: LoupeConfig, frame: Frame) -> None:
        super().__init__()
        self.config = config
        self.frame = frame
        self.parameter = nn.Parameter(torch.zeros(frame.encoded.shape))

    def forward(self, _low_frequency: LowFrequency | None = None) -> Tensor:
        """(1, *positions) probabilities, whatever the input."""
        return to_budget(torch.sigmoid(self.config.slope * self.parameter), self.frame)[None]

    def mask(self) -> Mask:
        """The mask of the most probable positions."""
        return most_probable(self(), self.frame, [{"generator": "loupe"}])[0]

    def masks(self, low_frequency: LowFrequency) -> tuple[Mask, ...]:
        """The mask, once for each slice."""
        return (self.mask(),) * low_frequency.batch
