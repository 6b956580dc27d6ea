from itertools import pairwise

import fastmri
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_kspace import complex_normal, made_kspace, phantom, point_mask, smooth_maps

from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.reconstruction.coils import (
    compression_matrix,
    mix_coils,
    noise_covariance,
    periphery_covariance,
    root_sum_of_squares,
    sense_combine,
    whitening_matrix,
)
from adaptmr.sampling.mask import Mask

coil_counts = st.integers(1, 8)


@settings(max_examples=15, deadline=None)
@given(coils=coil_counts, rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_root_sum_of_squares_is_fastmris(coils: int, rows: int, columns: int) -> None:
    images = complex_normal((2, coils, rows, columns))
    expected = fastmri.rss_complex(torch.view_as_real(images), dim=1)
    torch.testing.assert_close(root_sum_of_squares(images), expected)
    torch.testing.assert_close(root_sum_of_squares(images.conj()), expected)


@settings(max_examples=15, deadline=None)
@given(coils=coil_counts)
def test_sense_combination_undoes_the_maps(coils: int) -> None:
    maps = complex_normal((coils, 9, 8))
    maps[:, 2] = 0
    image = phantom((9, 8))
    combined = sense_combine(maps * image, maps)
    assert bool((combined[2] == 0).all())
    image[2] = 0
    torch.testing.assert_close(combined, image)


@settings(max_examples=15, deadline=None)
@given(coils=coil_counts, seed=st.integers(0, 99))
def test_whitening_makes_the_covariance_one(coils: int, seed: int) -> None:
    samples = complex_normal((coils, coils), seed) @ complex_normal((coils, 400), seed + 1)
    covariance = noise_covariance(samples)
    white = whitening_matrix(covariance) @ samples
    identity = torch.eye(coils, dtype=torch.complex128)
    torch.testing.assert_close(noise_covariance(white), identity, atol=1e-8, rtol=0)


def test_noise_needs_samples_and_live_coils() -> None:
    with pytest.raises(BadInputError, match=r"got 3 samples of 4 coils; expected at least 4"):
        noise_covariance(complex_normal((4, 3)))
    samples = complex_normal((4, 100))
    samples[2] = 0
    with pytest.raises(BadInputError, match="not positive definite"):
        whitening_matrix(noise_covariance(samples))


def test_periphery_finds_the_noise() -> None:
    matrix = (128, 120)
    mixing = torch.eye(4, dtype=torch.complex128) + 0.4 * complex_normal((4, 4), 3)
    noise = mix_coils(complex_normal((4, *matrix), 4), mixing)
    rows, columns = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in matrix)
    # A smooth object, so that the corners of its k-space are empty, as they nearly are in vivo.
    image = torch.exp(-8 * (rows[:, None] ** 2 + columns**2))
    signal = 200 * fourier(smooth_maps(4, matrix, torch.complex128) * image)
    mask = point_mask(matrix, (10, 10), share=0.5)
    found = periphery_covariance(mask.apply(signal + noise), mask)
    true = mixing @ mixing.mH
    assert float(torch.linalg.norm(found - true) / torch.linalg.norm(true)) < 0.1


def test_compression_keeps_what_it_can() -> None:
    kspace = made_kspace(2, 6, (30, 28), noise=0.0)
    energy = kspace.abs().square().sum((1, 2, 3))
    kept = [
        mix_coils(kspace, compression_matrix(kspace, n)).abs().square().sum((1, 2, 3)) / energy
        for n in range(1, 7)
    ]
    assert all(bool((more >= less).all()) for less, more in pairwise(kept))
    torch.testing.assert_close(kept[-1], torch.ones(2, dtype=torch.float64))
    assert float(kept[2].min()) > 0.95
    samples = kspace.flatten(-2)
    singular = torch.linalg.svdvals(samples).square()
    torch.testing.assert_close(kept[1], singular[:, :2].sum(1) / singular.sum(1))


def test_full_compression_keeps_the_image() -> None:
    kspace = made_kspace(1, 5, (22, 19))
    matrix = compression_matrix(kspace, 5)
    before = root_sum_of_squares(inverse_fourier(kspace))
    torch.testing.assert_close(
        root_sum_of_squares(inverse_fourier(mix_coils(kspace, matrix))), before
    )
    torch.testing.assert_close(mix_coils(mix_coils(kspace, matrix), matrix.mH), kspace)


@pytest.mark.parametrize("coils", [0, 5])
def test_compression_to_an_impossible_number(coils: int) -> None:
    with pytest.raises(BadInputError, match=r"expected 1 to 4"):
        compression_matrix(complex_normal((4, 8, 8)), coils)


def test_covariance_of_a_single_line_mask() -> None:
    kspace = complex_normal((2, 3, 16, 12))
    covariance = periphery_covariance(kspace, Mask(torch.ones(12, dtype=torch.bool).numpy(), (12,)))
    assert covariance.shape == (2, 3, 3)
    torch.testing.assert_close(covariance, covariance.mH)
