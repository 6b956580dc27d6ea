"""Whitening of the residual by what the low-frequency image lets expect of it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.sampling.flow.layers import ZeroConv, ZeroLinear, bounded

_FLOOR = 1e-6
_RADII = 4
_LARGEST_LOG_RATIO = 3.0


class Standardising(nn.Module):
    """Residual to what is nearly white: mean and deviation of pixels, then of frequencies.

    ``z = F^-1 [F ((r - m) / d) / D]``, with m and d (pixels) and D (frequencies) given by the
    features of the low-frequency image. ``D(k)**2 = P(k) exp(sum_b c_b B_b(k)) + sigma**2``: P is
    the mean power of the training residuals at first and then learned, c follows from the image,
    sigma is the noise that training adds. The B are Chebyshev polynomials of the radius times
    even angular harmonics, so that the filter is real and symmetric. Exactly invertible; with its
    first weights and P = 1 the identity.

    Args:
        matrix: (rows, columns) of the images.
        features: channels of the features at half the resolution.
        whole: length of the description of an image.
        harmonics: the highest even angular harmonic is twice this.
    """

    basis: Tensor
    fitted: Tensor

    def __init__(self, matrix: tuple[int, int], features: int, whole: int, harmonics: int) -> None:
        super().__init__()
        basis = spectral_basis(matrix, harmonics)
        self.matrix = matrix
        self.log_power = nn.Parameter(torch.zeros(matrix))
        self.register_buffer("basis", basis, persistent=False)
        self.register_buffer("fitted", torch.tensor(False))
        self.coefficients = ZeroLinear(whole, len(basis))
        self.moments = ZeroConv(features, 8)

    def fit(self, residuals: Tensor) -> None:
        """Take P from residuals (slices, rows, columns); it stays 1 where all of them are zero."""
        power = torch.zeros_like(self.log_power, dtype=torch.float64)
        for residual in residuals:
            power += fourier(residual.to(self.log_power)).abs().square()
        if power.any():
            power = power / len(residuals)
            with torch.no_grad():
                self.log_power.copy_(power.clamp_min(_FLOOR * power.mean()).log())
        self.fitted.fill_(True)

    def multiply_power(self, ratio: Tensor) -> None:
        """Multiply P by a positive ratio (rows, columns), smoothed over 3 x 3 neighbours."""
        log_ratio = bounded(ratio.clamp_min(_FLOOR).log(), _LARGEST_LOG_RATIO)
        around = nn.functional.pad(log_ratio[None, None], (1, 1, 1, 1), mode="circular")
        smooth = nn.functional.avg_pool2d(around, 3, stride=1)[0, 0]
        with torch.no_grad():
            self.log_power.add_(_symmetric(smooth))

    def forward(self, features: Tensor, whole: Tensor, noise: Tensor) -> "Standard":
        """What the images let expect.

        Args:
            features: (batch, features, rows / 2, columns / 2), rounded up.
            whole: (batch, whole) description of the images.
            noise: (batch,) standard deviation of the noise.
        """
        moments = nn.functional.pixel_shuffle(self.moments(features), 2)
        mean, log_deviation = moments[:, :, : self.matrix[0], : self.matrix[1]].unbind(1)
        exponent = torch.einsum("bi,irc->brc", self.coefficients(whole), self.basis)
        exponent = _symmetric(self.log_power) + bounded(exponent, _LARGEST_LOG_RATIO)
        return Standard(
            mean,
            bounded(log_deviation, _LARGEST_LOG_RATIO).exp(),
            (exponent.exp() + noise.square()[:, None, None]).sqrt(),
        )


@dataclass(frozen=True, eq=False)
class Standard:
    """Expected residuals of a batch, each (batch, rows, columns).

    Attributes:
        mean: of each pixel.
        deviation: of each pixel, relative.
        spectrum: deviation of each frequency.
    """

    mean: Tensor
    deviation: Tensor
    spectrum: Tensor

    @property
    def volume(self) -> Tensor:
        """Log-determinant (batch,) of `whiten`."""
        return -(self.deviation.log() + self.spectrum.log()).sum((1, 2))

    def whiten(self, residual: Tensor) -> Tensor:
        """Residuals (batch, rows, columns) to what is nearly standard normal."""
        return filtered((residual - self.mean) / self.deviation, 1 / self.spectrum)

    def colour(self, white: Tensor) -> Tensor:
        """Undo `whiten`; (times, batch, rows, columns) or (batch, rows, columns)."""
        return filtered(white, self.spectrum) * self.deviation + self.mean


def filtered(image: Tensor, gain: Tensor) -> Tensor:
    """Real images (..., rows, columns) with each frequency multiplied by a symmetric gain."""
    return inverse_fourier(fourier(image) * gain).real


def spectral_basis(matrix: tuple[int, int], harmonics: int) -> Tensor:
    """(functions, rows, columns): smooth functions of frequency, the same at k and -k."""
    rows, columns = (
        2 * (torch.arange(size, dtype=torch.float64) - size // 2) / size for size in matrix
    )
    radius = torch.hypot(rows[:, None], columns) / 2**0.5
    angle = torch.atan2(rows[:, None].expand(matrix), columns.expand(matrix))
    order = torch.arange(_RADII, dtype=torch.float64)[:, None, None]
    radial = torch.cos(order * torch.acos((2 * radius - 1).clamp(-1, 1)))
    angular = [torch.ones(matrix, dtype=torch.float64)]
    for harmonic in range(1, harmonics + 1):
        angular += [torch.cos(2 * harmonic * angle), torch.sin(2 * harmonic * angle)]
    products = radial[:, None] * torch.stack(angular)[None]
    return _symmetric(products.flatten(0, 1)).float()


def _symmetric(spectrum: Tensor) -> Tensor:
    """Mean of a centred spectrum (..., rows, columns) and its mirror image through frequency 0."""
    mirrored = spectrum.flip(-2, -1)
    shift = [1 - size % 2 for size in spectrum.shape[-2:]]
    return (spectrum + mirrored.roll(shift, (-2, -1))) / 2
