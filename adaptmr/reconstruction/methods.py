"""The classical methods by name, with their defaults."""

from enum import StrEnum

from adaptmr.reconstruction.classical import CGSense, L1Wavelet, TotalVariation, ZeroFilled
from adaptmr.reconstruction.reconstructor import Reconstructor


class Method(StrEnum):
    """How an image is made of k-space, without learning."""

    ZERO_FILLED = "zero-filled"
    """Root sum of squares of the coil images, zeros where nothing was acquired."""
    CG_SENSE = "cg-sense"
    """Least squares with ESPIRiT maps and a small Tikhonov penalty."""
    WAVELET = "wavelet"
    """Least squares with ESPIRiT maps and an L1 penalty on wavelet coefficients."""
    TOTAL_VARIATION = "tv"
    """Least squares with ESPIRiT maps and a total variation penalty."""


def reconstructor(method: Method) -> Reconstructor:
    """The reconstructor of that name, with its defaults."""
    return _RECONSTRUCTORS[method]


_RECONSTRUCTORS: dict[Method, Reconstructor] = {
    Method.ZERO_FILLED: ZeroFilled(),
    Method.CG_SENSE: CGSense(),
    Method.WAVELET: L1Wavelet(),
    Method.TOTAL_VARIATION: TotalVariation(),
}
