"""Whitening by what a low-frequency image lets expect."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from adaptmr.kernels.fourier import fourier
from adaptmr.sampling.flow.whitening import Standardising, spectral_basis

quick = settings(max_examples=25, deadline=None)
sizes = st.tuples(st.integers(2, 9), st.integers(2, 9))


def fitted(matrix: tuple[int, int], seed: int = 0) -> tuple[Standardising, torch.Tensor]:
    """A standardising of correlated noise, and that noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(400, *matrix, generator=generator, dtype=torch.float64)
    noise = noise + 0.9 * noise.roll(1, -1) + 0.5 * noise.roll((1, 1), (-2, -1))
    standardising = Standardising(matrix, 2, 3, 2).double()
    standardising.fit(noise)
    return standardising, noise


def perturb(standardising: Standardising) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in standardising.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)


def conditions(matrix: tuple[int, int], batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    half = [-(-size // 2) for size in matrix]
    return (
        torch.randn(batch, 2, *half, generator=generator, dtype=torch.float64),
        torch.randn(batch, 3, generator=generator, dtype=torch.float64),
    )


def noise_levels(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


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
def test_colour_undoes_whiten_and_the_volume_is_that_of_the_jacobian(
    matrix: tuple[int, int], seed: int
) -> None:
    standardising, noise = fitted(matrix, seed)
    perturb(standardising)
    with torch.no_grad():
        standard = standardising(*conditions(matrix, 2), noise_levels(0.2, 0.0))
    residual = noise[:2]
    white = standard.whiten(residual)
    torch.testing.assert_close(standard.colour(white), residual, atol=1e-9, rtol=0)
    twice = standard.colour(torch.stack([white, white]))
    torch.testing.assert_close(twice[1], residual, atol=1e-9, rtol=0)
    jacobian = torch.autograd.functional.jacobian(standard.whiten, residual)
    for index in range(2):
        own = jacobian[index, :, :, index].reshape(residual[0].numel(), -1)
        torch.testing.assert_close(
            standard.volume[index], torch.linalg.slogdet(own).logabsdet, atol=1e-6, rtol=1e-6
        )


def test_first_weights_are_the_identity() -> None:
    standard = Standardising((5, 6), 2, 3, 1).double()(*conditions((5, 6), 2), noise_levels(0, 0))
    image = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(standard.whiten(image), image)
    assert not bool(standard.volume.any())


def test_whitened_noise_is_white() -> None:
    standardising, noise = fitted((7, 8))
    with torch.no_grad():
        standard = standardising(*conditions((7, 8), 400), torch.zeros(400, dtype=torch.float64))
    power = fourier(standard.whiten(noise)).abs().square().mean(0)
    torch.testing.assert_close(power, torch.ones_like(power), atol=1e-6, rtol=0)


def test_added_noise_adds_to_the_power() -> None:
    standardising, _ = fitted((6, 5))
    with torch.no_grad():
        spectrum = standardising(*conditions((6, 5), 2), noise_levels(0.0, 0.7)).spectrum
    added = spectrum[1].square() - spectrum[0].square()
    torch.testing.assert_close(added, torch.full_like(added, 0.49))


def test_all_three_follow_the_image() -> None:
    standardising, _ = fitted((6, 6))
    perturb(standardising)
    with torch.no_grad():
        standard = standardising(*conditions((6, 6), 2), noise_levels(0, 0))
    for values in (standard.mean, standard.deviation, standard.spectrum):
        assert float((values[1] - values[0]).abs().max()) > 0.05


@pytest.mark.parametrize("scale", [1e6, -1e6])
def test_deviations_stay_bounded_far_from_training(scale: float) -> None:
    standardising, _ = fitted((6, 6))
    perturb(standardising)
    features, whole = conditions((6, 6), 1)
    with torch.no_grad():
        near = standardising(0 * features, 0 * whole, noise_levels(0))
        far = standardising(scale * features, scale * whole, noise_levels(0))
    for name in ("deviation", "spectrum"):
        ratio = (getattr(far, name) / getattr(near, name)).log().abs().max()
        assert float(ratio) < 6.5


def test_residuals_that_are_zero_leave_the_identity() -> None:
    standardising = Standardising((4, 5), 2, 3, 1)
    standardising.fit(torch.zeros(3, 4, 5))
    assert bool(standardising.fitted)
    assert not bool(standardising.log_power.any())
