"""A mask for each input, from its low-frequency data (adaptive sampling; hypothesis class H2)."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from adaptmr.data.weights import initialise
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.learned.binarise import most_probable, to_budget
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.low_frequency import LowFrequency
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.unet import UNet


class PolicyConfig(BaseModel):
    """Size of a `Policy`; the defaults are those of Hong et al. (ECCV 2024)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["policy"] = "policy"
    channels: PositiveInt = 32
    """Channels of the first level, doubled at each pool."""
    pools: PositiveInt = 4
    slope: PositiveFloat = 10.0
    """Of the part that all inputs share, as `LoupeConfig.slope`."""


class Policy(nn.Module):
    """A U-Net from the low-frequency image to a probability per line or point.

    The image is the root sum of squares over coils, which is what combining the coils with their
    low-resolution sensitivities gives, normalised to zero mean and unit variance. The U-Net's
    output is read as a map of k-space, as published; lines take its mean along the readout. Its
    sum with a map that all inputs share, and that alone would be `Loupe`, is passed through a
    sigmoid and rescaled to the budget. The U-Net's last layer starts at zero: at first all
    positions are equally probable, and nothing is adaptive.

    Args:
        config: size of the U-Net.
        frame: lines or points, block and budget.
        seed: of the first weights; the global random state stays as it is.
    """

    def __init__(self, config: PolicyConfig, frame: Frame, seed: int) -> None:
        super().__init__()
        self.config = config
        self.frame = frame
        with torch.device("meta"):
            unet = UNet(1, 1, config.channels, config.pools)
        self.unet = unet.to_empty(device="cpu")
        initialise(self.unet, seed)
        nn.init.zeros_(self.unet.last.weight)
        if self.unet.last.bias is not None:
            nn.init.zeros_(self.unet.last.bias)
        self.shared = nn.Parameter(torch.zeros(frame.encoded.shape))

    def forward(self, low_frequency: LowFrequency) -> Tensor:
        """(batch, *positions) probabilities.

        Raises:
            BadInputError: the low-frequency data are of another matrix or block.
        """
        self._check(low_frequency)
        image = low_frequency.image
        deviation = image.std((-2, -1), keepdim=True)
        image = (image - image.mean((-2, -1), keepdim=True)) / torch.where(
            deviation > 0, deviation, 1
        )
        rows, columns = low_frequency.matrix
        step = 2**self.config.pools
        padded = functional.pad(image, (0, -columns % step, 0, -rows % step))
        output = self.unet(padded[:, None].to(self.shared.dtype))[:, 0, :rows, :columns]
        if self.frame.axes == 1:
            output = output.mean(-2)
        return to_budget(torch.sigmoid(self.config.slope * self.shared + output), self.frame)

    def select(self, low_frequency: LowFrequency) -> Mask:
        """The mask of one slice.

        Args:
            low_frequency: of a single slice.

        Raises:
            BadInputError: several slices, or another matrix or block than the policy's.
        """
        if low_frequency.batch != 1:
            raise BadInputError(
                "a mask is selected for one slice",
                field="low_frequency",
                got=f"{low_frequency.batch} slices",
                expected="one",
            )
        return self.masks(low_frequency)[0]

    def masks(self, low_frequency: LowFrequency) -> tuple[Mask, ...]:
        """The masks of the most probable positions, one for each slice.

        Raises:
            BadInputError: as `forward`.
        """
        # Slice by slice: how sums are ordered may depend on the size of a batch, and a mask must
        # not depend on which slices came along.
        return tuple(
            most_probable(
                self(low_frequency[index : index + 1]),
                self.frame,
                [{"generator": "policy", "input": low_frequency.fingerprints[index]}],
            )[0]
            for index in range(low_frequency.batch)
        )

    def _check(self, low_frequency: LowFrequency) -> None:
        axes = self.frame.axes
        matrix, block = low_frequency.matrix[-axes:], low_frequency.block[-axes:]
        whole = axes == 2 or low_frequency.block[0] == low_frequency.matrix[0]
        if matrix != self.frame.encoded.shape or block != self.frame.low_frequency or not whole:
            raise BadInputError(
                "the policy was made for another matrix or low-frequency block",
                field="low_frequency",
                got=f"matrix {low_frequency.matrix}, block {low_frequency.block}",
                expected=f"positions {self.frame.encoded.shape}, "
                f"block {self.frame.low_frequency}" + (", whole readout" if axes == 1 else ""),
                hint="Use the policy that was trained for this scan",
            )
