"""The multi-coil Cartesian encoding operator ``A = M F S``."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from adaptmr.errors import BadInputError
from adaptmr.kernels.centering import fold_maps
from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.kernels.normal_op import normal_op
from adaptmr.sampling.mask import Mask


@dataclass(frozen=True, eq=False)
class Encoding:
    """``A = M F S``: image to acquired multi-coil k-space (Pruessmann et al., MRM 2001).

    Attributes:
        maps: (..., coil, readout, phase) complex coil sensitivities.
        mask: positions acquired; the same for every leading index.
    """

    maps: Tensor
    mask: Mask

    def __post_init__(self) -> None:
        if self.maps.ndim < 3 or not self.maps.is_complex():
            raise BadInputError(
                "sensitivity maps are complex, with axes (..., coil, readout, phase)",
                field="maps",
                got=f"{tuple(self.maps.shape)} {self.maps.dtype}",
            )
        if not self.mask.fits(tuple(self.maps.shape)):
            raise BadInputError(
                "the mask does not fit the sensitivity maps",
                field="mask",
                got=self.mask.positions.shape,
                expected=tuple(self.maps.shape[-self.mask.axes :]),
                hint="Make the mask for this matrix size",
            )

    def forward(self, image: Tensor) -> Tensor:
        """(..., readout, phase) image to (..., coil, readout, phase) k-space, zero off the mask."""
        return self.mask.apply(fourier(self.maps * image.unsqueeze(-3)))

    def adjoint(self, kspace: Tensor) -> Tensor:
        """(..., coil, readout, phase) k-space to (..., readout, phase) image."""
        coil_images = inverse_fourier(self.mask.apply(kspace))
        return (self.maps.conj() * coil_images).sum(-3)

    def normal(self, image: Tensor) -> Tensor:
        """``adjoint(forward(image))``, without what cancels in it.

        The centring shifts cancel against phases folded into the maps, and for line masks, which
        are constant along the readout, so does the transform along the readout.
        """
        maps = self._folded_maps
        lead = np.broadcast_shapes(image.shape[:-2], maps.shape[:-3])
        image = image.to(maps.dtype).expand(*lead, -1, -1)
        return normal_op(image, maps.expand(*lead, -1, -1, -1), self._positions)

    @cached_property
    def energy(self) -> Tensor:
        """(..., readout, phase) real: sum over coils of the squared sensitivities.

        Its maximum bounds the norm of `normal`, because the mask and the unitary transform do not
        amplify.
        """
        return torch.view_as_real(self.maps).square().sum((-4, -1))

    @cached_property
    def _folded_maps(self) -> Tensor:
        return fold_maps(self.maps, self._positions)

    @cached_property
    def _positions(self) -> Tensor:
        """(1, phase) or (readout, phase) bool."""
        return self.mask.tensor(self.maps.device)
