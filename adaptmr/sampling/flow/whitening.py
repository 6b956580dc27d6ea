"""Whitening of the residual by its expected power spectrum, given the low-frequency image."""

import torch
from torch import Tensor, nn

from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.sampling.flow.layers import ZeroLinear, bounded

_FLOOR = 1e-6
_RADII = 4
_LARGEST_LOG_RATIO = 3.0


class Whitening(nn.Module):
    """Divides each frequency by its expected deviation: circulant, exactly invertible.

    The expected power at frequency k is ``P(k) exp(sum_b c_b B_b(k)) + sigma**2``: the mean over
    the training residuals, times a smooth factor whose coefficients c follow from the image, plus
    the noise that training adds. The B are Chebyshev polynomials of the radius times even angular
    harmonics, so that the filter is real and symmetric.

    Args:
        matrix: (rows, columns) of the images.
        features: length of the description of an image.
        harmonics: highest even angular harmonic is twice this.
    """

    power: Tensor
    basis: Tensor
    fitted: Tensor

    def __init__(self, matrix: tuple[int, int], features: int, harmonics: int) -> None:
        super().__init__()
        basis = spectral_basis(matrix, harmonics)
        self.register_buffer("power", torch.ones(matrix))
        self.register_buffer("basis", basis, persistent=False)
        self.register_buffer("fitted", torch.tensor(False))
        self.coefficients = ZeroLinear(features, len(basis))

    def fit(self, residuals: Tensor) -> None:
        """Take P from residuals (slices, rows, columns); it stays 1 where all of them are zero."""
        power = torch.zeros_like(self.power, dtype=torch.float64)
        for residual in residuals:
            power += fourier(residual.to(self.power)).abs().square()
        power = _symmetric(power / len(residuals))
        if power.any():
            self.power.copy_(power.clamp_min(_FLOOR * power.mean()))
        self.fitted.fill_(True)

    def deviation(self, whole: Tensor, noise: Tensor) -> Tensor:
        """Expected deviation of each frequency, (batch, rows, columns).

        Args:
            whole: (batch, features) description of the images.
            noise: (batch,) standard deviation of the noise.
        """
        exponent = torch.einsum("bi,irc->brc", self.coefficients(whole), self.basis)
        exponent = bounded(exponent, _LARGEST_LOG_RATIO)
        return (self.power * exponent.exp() + noise.square()[:, None, None]).sqrt()


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
