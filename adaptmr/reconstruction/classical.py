"""Reconstruction without learning: zero-filled, CG-SENSE, L1-wavelet and total variation.

All but the first estimate one complex image ``x`` from the acquired k-space ``y`` with the encoding
operator ``A`` and minimise ``1/2 |A x - y|^2`` plus a penalty. Inside, images are scaled to a peak
``|A^H y|`` of 1, which makes the weights of the penalties independent of the units.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.kernels.wavelet import WaveletTransform
from adaptmr.reconstruction.coils import root_sum_of_squares
from adaptmr.reconstruction.encoding import Encoding
from adaptmr.reconstruction.sensitivity import Espirit
from adaptmr.reconstruction.solvers import (
    accelerated_proximal_gradient,
    conjugate_gradient,
    primal_dual,
)
from adaptmr.sampling.mask import Mask

Maps = Callable[[Tensor, Mask], Tensor]
"""``(kspace, mask) -> maps``, both (batch, coil, readout, phase) complex."""


@dataclass(frozen=True)
class ZeroFilled:
    """Root sum of squares of the coil images with zeros where nothing was acquired."""

    def __call__(self, kspace: Tensor, mask: Mask) -> Tensor:
        """As `Reconstructor`."""
        return root_sum_of_squares(inverse_fourier(mask.apply(kspace)))


@dataclass(frozen=True)
class _LeastSquares(ABC):
    """``1/2 |A x - y|^2 + penalty``; `_minimise` is what its children differ in.

    The magnitude image is the root sum of squares of the coil images ``S x`` after the acquired
    samples were put back into their k-space. References are root sums of squares, noise included,
    and this comes closer to them than ``|x|`` (NMSE lower by a tenth to a half on real scans, with
    an exception only where noise prevails). `image` gives ``x``.
    """

    maps: Maps = field(default=Espirit())

    def __call__(self, kspace: Tensor, mask: Mask) -> Tensor:
        """As `Reconstructor`."""
        kspace = mask.apply(kspace)
        encoding = Encoding(self.maps(kspace, mask), mask)
        image = self._solve(encoding, kspace)
        missing = ~mask.tensor(kspace.device)
        filled = torch.where(missing, fourier(encoding.maps * image.unsqueeze(-3)), kspace)
        return root_sum_of_squares(inverse_fourier(filled))

    def image(self, kspace: Tensor, mask: Mask) -> Tensor:
        """The minimiser ``x`` itself: (batch, readout, phase) complex."""
        kspace = mask.apply(kspace)
        return self._solve(Encoding(self.maps(kspace, mask), mask), kspace)

    def _solve(self, encoding: Encoding, kspace: Tensor) -> Tensor:
        right = encoding.adjoint(kspace)
        scale = _peak(right)
        return self._minimise(encoding, right / scale) * scale

    @abstractmethod
    def _minimise(self, encoding: Encoding, right: Tensor) -> Tensor:
        """The minimiser, given ``A^H y`` scaled to a peak of 1."""


@dataclass(frozen=True)
class CGSense(_LeastSquares):
    """Penalty ``weight / 2 |x|^2``, solved by conjugate gradients (Pruessmann et al., MRM 2001).

    Attributes:
        maps: finds the sensitivity maps.
        weight: of the penalty (Tikhonov); the operator has a norm of about 1.
        iterations: most steps taken.
        tolerance: residual, as a share of ``A^H y``, that is small enough.
    """

    weight: float = 0.02
    iterations: int = 30
    tolerance: float = 1e-4

    def _minimise(self, encoding: Encoding, right: Tensor) -> Tensor:
        return conjugate_gradient(
            lambda image: encoding.normal(image) + self.weight * image,
            right,
            self.iterations,
            self.tolerance,
        )


@dataclass(frozen=True)
class _Sparse(_LeastSquares):
    """Penalty ``absolute weight |T x|_1``, T a sparsifying transform.

    Attributes:
        maps: finds the sensitivity maps.
        weight: of the penalty, as a share of the peak of ``|A^H y|``.
        iterations: most steps taken.
        tolerance: change in a step, as a share of the image, that is small enough.
    """

    weight: float = 0.005
    iterations: int = 100
    tolerance: float = 1e-4

    def absolute_weight(self, kspace: Tensor, mask: Mask) -> Tensor:
        """The weight in the units of ``kspace``, one number per image: (batch,)."""
        kspace = mask.apply(kspace)
        right = Encoding(self.maps(kspace, mask), mask).adjoint(kspace)
        return self.weight * _peak(right).flatten()


@dataclass(frozen=True)
class L1Wavelet(_Sparse):
    """``T`` is an orthonormal wavelet transform (Lustig et al., MRM 58:1182, 2007).

    Solved by FISTA. Shrinking the coefficients is the exact proximal map but for the few
    coefficients at the edges of the image that the transform has in excess.

    Attributes:
        wavelet: name of an orthogonal wavelet of PyWavelets.
    """

    wavelet: str = "db4"

    def _minimise(self, encoding: Encoding, right: Tensor) -> Tensor:
        bound = _bound(encoding)
        transform = WaveletTransform((right.shape[-2], right.shape[-1]), self.wavelet)
        threshold = (self.weight / bound).flatten(1)
        return accelerated_proximal_gradient(
            lambda image: (encoding.normal(image) - right) / bound,
            lambda image: transform.adjoint(_soft_threshold(transform.forward(image), threshold)),
            right,
            self.iterations,
            self.tolerance,
        )


@dataclass(frozen=True)
class TotalVariation(_Sparse):
    """``T x`` are the differences of neighbours along both axes, around the edges.

    Solved by the primal-dual method of Condat and Vu (Block et al., MRM 57:1086, 2007, for the
    use in MR).
    """

    weight: float = 0.002
    iterations: int = 120

    def _minimise(self, encoding: Encoding, right: Tensor) -> Tensor:
        bound = _bound(encoding)
        return primal_dual(
            lambda image: (encoding.normal(image) - right) / bound,
            neighbour_differences,
            neighbour_differences_adjoint,
            8.0,
            self.weight / bound,
            right,
            self.iterations,
            self.tolerance,
        )


def neighbour_differences(image: Tensor) -> Tensor:
    """(..., rows, columns) to (2, ..., rows, columns): down and right, around the edges."""
    return torch.stack([image - image.roll(1, -2), image - image.roll(1, -1)])


def neighbour_differences_adjoint(differences: Tensor) -> Tensor:
    """Adjoint of `neighbour_differences`; the square of its norm is at most 8."""
    down, right = differences
    image: Tensor = down - down.roll(-1, -2) + right - right.roll(-1, -1)
    return image


def _bound(encoding: Encoding) -> Tensor:
    """Bound on the norm of the normal operator for each image, (batch, 1, 1)."""
    bound = encoding.energy.amax((-2, -1), keepdim=True)
    return torch.where(bound > 0, bound, 1)


def _peak(image: Tensor) -> Tensor:
    """Largest magnitude of each image, (batch, 1, 1); 1 where there is nothing."""
    peak = image.abs().amax((-2, -1), keepdim=True)
    return torch.where(peak > 0, peak, 1)


def _soft_threshold(values: Tensor, threshold: Tensor) -> Tensor:
    magnitude = values.abs().clamp(min=torch.finfo(threshold.dtype).tiny)
    return values * (1 - threshold / magnitude).clamp(min=0)
