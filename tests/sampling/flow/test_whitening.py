"""Whitening by the expected spectrum."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from adaptmr.kernels.fourier import fourier
from adaptmr.sampling.flow.whitening import Whitening, filtered, spectral_basis

quick = settings(max_examples=25, deadline=None)
sizes = st.tuples(st.integers(2, 9), st.integers(2, 9))


def fitted(matrix: tuple[int, int], seed: int = 0) -> tuple[Whitening, torch.Tensor]:
    """A whitening of correlated noise, and that noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(400, *matrix, generator=generator, dtype=torch.float64)
    noise = noise + 0.9 * noise.roll(1, -1) + 0.5 * noise.roll((1, 1), (-2, -1))
    whitening = Whitening(matrix, 3, 2).double()
    whitening.fit(noise)
    return whitening, noise


@quick
@given(matrix=sizes, harmonics=st.integers(0, 3))
def test_basis_gives_real_filters(matrix: tuple[int, int], harmonics: int) -> None:
    basis = spectral_basis(matrix, harmonics).double()
    assert basis.shape == (4 * (1 + 2 * harmonics), *matrix)
    image = torch.randn(matrix, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    complex_images = torch.fft.ifft2(
        torch.fft.ifftshift(fourier(image) * basis.exp(), dim=(-2, -1)), norm="ortho"
    )
    assert float(complex_images.imag.abs().max()) < 1e-6 * float(complex_images.abs().max())


@quick
@given(matrix=sizes, seed=st.integers(0, 100))
def test_filter_is_inverted_with_the_volume_of_its_gain(matrix: tuple[int, int], seed: int) -> None:
    whitening, noise = fitted(matrix, seed)
    with torch.no_grad():
        whitening.coefficients.bias += torch.linspace(-0.3, 0.4, 20, dtype=torch.float64)
        whole = torch.zeros(1, 3, dtype=torch.float64)
        deviation = whitening.deviation(whole, torch.tensor([0.2], dtype=torch.float64))[0]
    white = filtered(noise[0], 1 / deviation)
    torch.testing.assert_close(filtered(white, deviation), noise[0], atol=1e-9, rtol=0)
    jacobian = torch.autograd.functional.jacobian(
        lambda image: filtered(image.reshape(matrix), 1 / deviation).flatten(), noise[0].flatten()
    )
    torch.testing.assert_close(
        torch.linalg.slogdet(jacobian).logabsdet, -deviation.log().sum(), atol=1e-6, rtol=1e-6
    )


def test_whitened_noise_is_white() -> None:
    whitening, noise = fitted((7, 8))
    nothing = torch.zeros(1, dtype=torch.float64)
    with torch.no_grad():
        deviation = whitening.deviation(torch.zeros(1, 3, dtype=torch.float64), nothing)
    power = fourier(filtered(noise, 1 / deviation)).abs().square().mean(0)
    torch.testing.assert_close(power, torch.ones_like(power), atol=1e-6, rtol=0)


def test_added_noise_adds_to_the_power() -> None:
    whitening, _ = fitted((6, 5))
    whole = torch.zeros(2, 3, dtype=torch.float64)
    with torch.no_grad():
        deviation = whitening.deviation(whole, torch.tensor([0.0, 0.7], dtype=torch.float64))
    torch.testing.assert_close(
        deviation[1].square() - deviation[0].square(), torch.full((6, 5), 0.49).double()
    )


def test_spectrum_follows_the_image() -> None:
    whitening, _ = fitted((6, 6))
    with torch.no_grad():
        whitening.coefficients.weight += 0.3
        whole = torch.tensor([[0.0, 0.0, 0.0], [1.0, -0.2, 0.5]], dtype=torch.float64)
        deviation = whitening.deviation(whole, torch.zeros(2, dtype=torch.float64))
    assert float((deviation[1] / deviation[0]).log().abs().max()) > 0.1


@pytest.mark.parametrize("scale", [1e6, -1e6])
def test_spectrum_stays_bounded_far_from_training(scale: float) -> None:
    whitening, _ = fitted((6, 6))
    with torch.no_grad():
        whitening.coefficients.weight += 1.0
        near, far = (
            whitening.deviation(torch.full((1, 3), by).double(), torch.zeros(1).double())
            for by in (0.0, scale)
        )
    assert float((far / near).log().abs().max()) <= 1.5 + 1e-9


def test_residuals_that_are_zero_leave_the_identity() -> None:
    whitening = Whitening((4, 5), 3, 1)
    whitening.fit(torch.zeros(3, 4, 5))
    assert torch.equal(whitening.power, torch.ones(4, 5))
