"""`ReconstructionBank`: J (mask, network) pairs, and all that chooses among and judges them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from pydantic import JsonValue
from torch import nn

from adaptmr.data.scan import Scan
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.calibration.intervals import Calibration
from adaptmr.reconstruction.networks.checkpoint import Network
from adaptmr.sampling.bank import MaskBank
from adaptmr.sampling.loss_aware import LossAware
from adaptmr.sampling.persistence import Sampler
from adaptmr.sampling.selection import Adaptation, UncertaintyConfig
from adaptmr.sampling.selector import Selector

if TYPE_CHECKING:
    from adaptmr.reconstruction.bank.inference import BankReconstruction


@dataclass(frozen=True, eq=False)
class ReconstructionBank:
    """J masks, a network for each, and what chooses the pair of a slice; J = 1 is a plain network.

    Attributes:
        masks: the masks.
        networks: (J,) the network of each mask; of a bank from disk each is read when first asked
            for, then kept.
        selector: scores the masks for a slice.
        sampler: draws what a slice may look like; None for a selector that needs no uncertainty.
        sampler_fingerprint: sha256 of the sampler's manifest, for the records; None without one.
        uncertainty: how the uncertainty of a slice is found.
        width: (image (batch, rows, columns), zero-filled image of the same shape) -> heuristic
            width of each pixel's interval, same shape, not negative, in the unit of the images;
            None for a bank that gives no intervals.
        calibration: makes intervals of widths; None where nothing was calibrated.
        provenance: how the bank came to be.
    """

    masks: MaskBank
    networks: Sequence[Network]
    selector: Selector
    sampler: Sampler | None
    sampler_fingerprint: str | None
    uncertainty: UncertaintyConfig
    width: nn.Module | None
    calibration: Calibration | None
    provenance: dict[str, JsonValue]

    def __post_init__(self) -> None:
        if len(self.networks) != len(self.masks):
            raise _unfit("networks", len(self.networks), f"{len(self.masks)}, one for each mask")
        sampler, wanted = self.sampler, (self.masks.matrix, self.masks.block)
        if sampler is None and self.selector.needs_uncertainty:
            raise _unfit("sampler", "none", f"one, for the selector {self.selector.name}")
        if (sampler is None) != (self.sampler_fingerprint is None):
            raise _unfit("sampler_fingerprint", self.sampler_fingerprint, "that of the sampler")
        if sampler is not None and (tuple(sampler.matrix), tuple(sampler.block)) != wanted:
            got = f"block {tuple(sampler.block)} of {tuple(sampler.matrix)}"
            raise _unfit("sampler", got, f"block {wanted[1]} of {wanted[0]}")
        if isinstance(self.selector, LossAware) and self.selector.bank != self.masks.fingerprint:
            got = self.selector.bank[:16]
            raise _unfit("selector", f"one fitted on bank {got}", self.masks.fingerprint[:16])
        if self.calibration is not None and self.width is None:
            raise _unfit(
                "calibration", "one of widths", "none, for there is nothing that gives any"
            )

    def __len__(self) -> int:
        """J, the number of pairs."""
        return len(self.masks)

    @property
    def adaptation(self) -> Adaptation:
        """What chooses the mask of a slice."""
        return Adaptation(
            self.masks, self.selector, self.sampler, self.sampler_fingerprint, self.uncertainty
        )

    def reconstruct(
        self,
        scan: Scan,
        *,
        batch_size: int = 4,
        device: torch.device | None = None,
        nearest: bool = False,
    ) -> "BankReconstruction":
        """As `adaptmr.reconstruction.bank.inference.reconstruct`, on the CPU unless told."""
        from adaptmr.reconstruction.bank import inference

        place = device or inference.CPU
        return inference.reconstruct(
            self, scan, batch_size=batch_size, device=place, nearest=nearest
        )


def _unfit(part: str, got: object, expected: str) -> BadInputError:
    return BadInputError(
        "the parts of the bank do not fit together", field=part, got=got, expected=expected
    )
