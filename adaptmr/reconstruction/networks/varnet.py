"""End-to-end VarNet in complex image-space form."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor, nn

from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.reconstruction.encoding import Encoding
from adaptmr.reconstruction.networks.sensitivity import SensitivityNetwork
from adaptmr.reconstruction.networks.unet import NormalisedUNet
from adaptmr.sampling.mask import Mask


class VarNetConfig(BaseModel):
    """Size of a `VarNet`. Convolutions like multiples of 16 channels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["varnet"] = "varnet"
    cascades: PositiveInt = 12
    channels: PositiveInt = 16
    """Channels of the first level of each cascade's U-Net, doubled at each pool."""
    pools: PositiveInt = 4
    map_channels: PositiveInt = 16
    """The same for the network that estimates the coil maps."""
    map_pools: PositiveInt = 4


class VarNet(nn.Module):
    """End-to-end VarNet (Sriram et al. 2020, arXiv:2004.06688), exact and in image space.

    With the coil maps S, the Fourier transform F, ``A = F S`` and the mask M, a cascade of the
    paper is ``k <- k - eta M (k - k0) - A R(A^H k)``. The same output follows from images
    alone. With ``E = sum_c |S_c|^2``, ``N = A^H M A``, ``x_0 = A^H k0`` and ``sigma = rho = 0``::

        r     = R_t(x_t)
        sigma = sigma + r
        rho   = (1 - eta_t) rho + r
        x_t+1 = x_0 - E sigma - N (rho - sigma)

    and the coil images of the last k-space are ``F^-1 (k0 - M A (rho - sigma)) - S sigma``.
    (Where acquired, ``e = M (k - k0)`` obeys ``e <- (1 - eta) e - M A r``, so ``e = -M A rho``;
    elsewhere ``k = k0 - A sigma``.) Each cascade thus costs one normal operator on one image. In
    the first cascade k is k0, so its eta has no effect: there is no such parameter.

    Args:
        config: size of the network.
    """

    def __init__(self, config: VarNetConfig) -> None:
        super().__init__()
        self.config = config
        self.sensitivities = SensitivityNetwork(config.map_channels, config.map_pools)
        self.regularisers = nn.ModuleList(
            NormalisedUNet(2, config.channels, config.pools) for _ in range(config.cascades)
        )
        self.step_sizes = nn.Parameter(torch.ones(config.cascades - 1))

    def forward(self, kspace: Tensor, mask: Mask) -> Tensor:
        """Reconstruct, see `adaptmr.reconstruction.reconstructor.Reconstructor`.

        Args:
            kspace: (batch, coil, readout, phase) complex.
            mask: positions acquired, with a low-frequency block for the coil maps.

        Returns:
            (batch, readout, phase) magnitude images, root sum of squares over the coils.

        Raises:
            BadInputError: the mask has no low-frequency block, or is of another size.
        """
        return self.from_measured(mask.apply(kspace), mask)

    def from_measured(self, measured: Tensor, mask: Mask) -> Tensor:
        """Reconstruct k-space that is masked already.

        The same as `forward`, but what is measured is taken as it is, so that gradients with
        respect to positions outside the mask are not cut off: learned masks need them.

        Args:
            measured: (batch, coil, readout, phase) complex, zero outside the mask.
            mask: positions acquired; a constant for gradients.

        Returns:
            (batch, readout, phase) magnitude images.

        Raises:
            BadInputError: as `forward`.
        """
        return self._refined(measured, mask, self.sensitivities(measured, mask))

    def coil_images(self, kspace: Tensor, mask: Mask) -> Tensor:
        """The complex image of each coil; `forward` gives their root sum of squares.

        Args:
            kspace: (batch, coil, readout, phase) complex.
            mask: as of `forward`.

        Returns:
            (batch, coil, readout, phase) complex.

        Raises:
            BadInputError: as `forward`.
        """
        measured = mask.apply(kspace)
        return self._coil_images(measured, mask, self.sensitivities(measured, mask))

    def reconstruct(self, kspace: Tensor, mask: Mask, maps: Tensor) -> Tensor:
        """Reconstruct with given coil maps.

        Args:
            kspace: (batch, coil, readout, phase) complex.
            mask: positions acquired.
            maps: (batch, coil, readout, phase) complex, of any norm.

        Returns:
            (batch, readout, phase) magnitude images.

        Raises:
            BadInputError: the mask or the maps are of another size.
        """
        if maps.shape != kspace.shape:
            raise BadInputError(
                "the coil maps do not fit the k-space",
                field="maps",
                got=tuple(maps.shape),
                expected=tuple(kspace.shape),
            )
        return self._refined(mask.apply(kspace), mask, maps)

    def _refined(self, measured: Tensor, mask: Mask, maps: Tensor) -> Tensor:
        magnitude: Tensor = torch.linalg.vector_norm(
            self._coil_images(measured, mask, maps), dim=-3
        )
        return magnitude

    def _coil_images(self, measured: Tensor, mask: Mask, maps: Tensor) -> Tensor:
        encoding = Encoding(maps, mask)
        # The adjoint without its mask, which changes nothing but would stop gradients.
        start = image = (maps.conj() * inverse_fourier(measured)).sum(-3)
        rho = sigma = self.regularisers[0](image)
        for cascade in range(1, self.config.cascades):
            image = start - encoding.energy * sigma
            if cascade > 1:  # before, rho is sigma
                image = image - encoding.normal(rho - sigma)
            update = self.regularisers[cascade](image)
            rho = (1 - self.step_sizes[cascade - 1]) * rho + update
            sigma = sigma + update
        outside = maps * sigma[:, None]
        images: Tensor = inverse_fourier(measured - encoding.forward(rho - sigma)) - outside
        return images
