"""What a comparison adds to the demonstration."""

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict

from adaptmr.reconstruction.methods import Method
from adaptmr.reconstruction.metrics import ProtocolName
from adaptmr.workflows.report import Section

CLASSICAL: Final = (Method.ZERO_FILLED, Method.CG_SENSE, Method.WAVELET)
"""Methods that need no training."""

Interval = tuple[float, float]


class DemoRow(BaseModel):
    """The mean metrics of one method."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: str
    masks: str
    """Where its masks come from."""
    acceleration: float
    """Measured, mean over what ``n`` counts."""
    protocol: ProtocolName
    n: int
    """Slices, or volumes where the protocol measures volumes."""
    ssim: float
    psnr: float | None
    """Null where it is infinite."""
    nmse: float
    interval: Interval | None
    """Of the mean SSIM, 95 % over subjects; null for fewer than two, and for volumes."""
    gain: float | None = None
    """SSIM over the bank's best single pair; null where there is no bank."""
    gain_interval: Interval | None = None
    """Of the gain, paired, 95 % over subjects."""


@dataclass(frozen=True)
class Part:
    """One comparison.

    Attributes:
        verdict: its outcome in a few sentences.
        rows: its numbers.
        sections: what the report shows of it.
    """

    verdict: str
    rows: tuple[DemoRow, ...]
    sections: tuple[Section, ...]
