"""Coil sensitivity maps from the low frequencies, by a network."""

import torch
from torch import Tensor, nn

from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.reconstruction.networks.unet import NormalisedUNet
from adaptmr.sampling.mask import Mask


def require_low_frequency(mask: Mask) -> None:
    """Check that a mask has a block to take coil maps from.

    Raises:
        BadInputError: it has none.
    """
    if not all(mask.low_frequency):
        raise BadInputError(
            "the mask has no fully acquired low-frequency block to take coil maps from",
            field="low_frequency",
            got=mask.low_frequency,
            expected="at least one position along each axis",
            hint="Use a mask with a calibration region, or a reconstruction without coil maps",
        )


class SensitivityNetwork(nn.Module):
    """Maps from the low-frequency block, coil by coil (Sriram et al. 2020, arXiv:2004.06688, 3.2).

    One U-Net sees the low-resolution complex image of each coil; its outputs are divided by their
    root sum of squares.

    Args:
        channels: channels of the first level.
        pools: number of times the image is halved.
    """

    def __init__(self, channels: int, pools: int) -> None:
        super().__init__()
        self.network = NormalisedUNet(2, channels, pools)

    def forward(self, kspace: Tensor, mask: Mask) -> Tensor:
        """Estimate the maps.

        Args:
            kspace: (batch, coil, readout, phase) complex; only the low-frequency block is used.
            mask: its ``low_frequency`` block is where all positions were acquired.

        Returns:
            (batch, coil, readout, phase) complex, of unit root sum of squares, and zero where all
            coils are zero.

        Raises:
            BadInputError: the mask has no low-frequency block, or is of another size.
        """
        require_low_frequency(mask)
        images = inverse_fourier(mask.low_frequency_only().apply(kspace))
        maps: Tensor = self.network(images.flatten(0, 1)).view_as(images)
        norm = torch.linalg.vector_norm(maps, dim=-3, keepdim=True)
        return maps / torch.where(norm > 0, norm, 1)
