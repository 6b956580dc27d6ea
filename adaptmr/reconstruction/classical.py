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
from adaptmr.reconstruction.solvers import accelerated_proximal_gradient, conjugate_gradient
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
    """``1/2 |A x - y|^2 + penalty``; `_minimise` is what its children differ in."""

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

    weight: float = 0.01
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
    """Penalty ``absolute weight |T x|_1``, solved by the accelerated proximal gradient method.

    Attributes:
        maps: finds the sensitivity maps.
        weight: of the penalty, as a share of the peak of ``|A^H y|``.
        iterations: most steps taken.
        tolerance: change in a step, as a share of the image, that is small enough.
    """

    weight: float = 0.003
    iterations: int = 60
    tolerance: float = 1e-4

    def absolute_weight(self, kspace: Tensor, mask: Mask) -> Tensor:
        """The weight in the units of ``kspace``, one number per image: (batch,)."""
        kspace = mask.apply(kspace)
        right = Encoding(self.maps(kspace, mask), mask).adjoint(kspace)
        return self.weight * _peak(right).flatten()

    def _minimise(self, encoding: Encoding, right: Tensor) -> Tensor:
        bound = encoding.energy.amax((-2, -1), keepdim=True)
        bound = torch.where(bound > 0, bound, 1)
        return accelerated_proximal_gradient(
            lambda image: (encoding.normal(image) - right) / bound,
            self._proximal(right, self.weight / bound),
            right,
            self.iterations,
            self.tolerance,
        )

    @abstractmethod
    def _proximal(self, like: Tensor, weight: Tensor) -> Callable[[Tensor], Tensor]:
        """Proximal map of ``weight |T x|_1``, weight (batch, 1, 1)."""


@dataclass(frozen=True)
class L1Wavelet(_Sparse):
    """``T`` is an orthonormal wavelet transform (Lustig et al., MRM 58:1182, 2007).

    Attributes:
        wavelet: name of an orthogonal wavelet of PyWavelets.
    """

    wavelet: str = "db4"

    def _proximal(self, like: Tensor, weight: Tensor) -> Callable[[Tensor], Tensor]:
        transform = WaveletTransform((like.shape[-2], like.shape[-1]), self.wavelet)

        def shrink(image: Tensor) -> Tensor:
            coefficients = transform.forward(image)
            return transform.adjoint(_soft_threshold(coefficients, weight.flatten(1)))

        return shrink


@dataclass(frozen=True)
class TotalVariation(_Sparse):
    """``T x`` are the differences of neighbours along both axes, around the edges.

    Source: Block et al., MRM 57:1086 (2007); the proximal map by a fast gradient method on its
    dual (Beck and Teboulle, IEEE TIP 18:2419, 2009), started where the step before ended.

    Attributes:
        inner_iterations: steps on the dual per step on the image.
    """

    weight: float = 0.002
    inner_iterations: int = 8

    def _proximal(self, like: Tensor, weight: Tensor) -> Callable[[Tensor], Tensor]:
        dual = like.new_zeros(2, *like.shape)
        step = 1 / (8 * weight)

        def smooth(image: Tensor) -> Tensor:
            nonlocal dual
            point, momentum = dual, 1.0
            for _ in range(self.inner_iterations):
                moved = point + step * _differences(image - weight * _differences_adjoint(point))
                following = moved / moved.abs().clamp(min=1)
                grown = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
                point = following + (momentum - 1) / grown * (following - dual)
                dual, momentum = following, grown
            return image - weight * _differences_adjoint(dual)

        return smooth


def _peak(image: Tensor) -> Tensor:
    """Largest magnitude of each image, (batch, 1, 1); 1 where there is nothing."""
    peak = image.abs().amax((-2, -1), keepdim=True)
    return torch.where(peak > 0, peak, 1)


def _soft_threshold(values: Tensor, threshold: Tensor) -> Tensor:
    magnitude = values.abs().clamp(min=torch.finfo(threshold.dtype).tiny)
    return values * (1 - threshold / magnitude).clamp(min=0)


def _differences(image: Tensor) -> Tensor:
    return torch.stack([image - image.roll(1, -2), image - image.roll(1, -1)])


def _differences_adjoint(dual: Tensor) -> Tensor:
    down, right = dual
    adjoint: Tensor = down - down.roll(-1, -2) + right - right.roll(-1, -1)
    return adjoint
