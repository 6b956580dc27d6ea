import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_kspace import complex_normal

from adaptmr.kernels.wavelet import WaveletTransform

sizes = st.tuples(st.integers(1, 130), st.integers(1, 130))
wavelets = st.sampled_from(["haar", "db2", "db4", "db8"])


@settings(max_examples=25, deadline=None)
@given(size=sizes, wavelet=wavelets)
def test_coefficients_are_those_of_pywavelets(size: tuple[int, int], wavelet: str) -> None:
    image = complex_normal(size)
    levels = pywt.wavedecn(image.numpy(), wavelet, mode="zero")
    expected = np.sort(np.abs(pywt.coeffs_to_array(levels)[0]).ravel())
    actual = np.sort(WaveletTransform(size, wavelet).forward(image).abs().numpy())
    # Both pad with zeros, by different amounts.
    longest = max(len(expected), len(actual))
    expected, actual = (np.pad(v, (longest - len(v), 0)) for v in (expected, actual))
    np.testing.assert_allclose(actual, expected, atol=1e-11)


@settings(max_examples=25, deadline=None)
@given(size=sizes, wavelet=wavelets, batch=st.integers(1, 3))
def test_isometry(size: tuple[int, int], wavelet: str, batch: int) -> None:
    image = complex_normal((batch, *size))
    transform = WaveletTransform(size, wavelet)
    coefficients = transform.forward(image)
    torch.testing.assert_close(transform.adjoint(coefficients), image)
    torch.testing.assert_close(
        coefficients.abs().square().sum(-1), image.abs().square().sum((-2, -1))
    )


def test_any_leading_axes() -> None:
    transform = WaveletTransform((33, 40))
    image = complex_normal((2, 3, 33, 40))
    coefficients = transform.forward(image)
    assert coefficients.shape[:-1] == (2, 3)
    torch.testing.assert_close(coefficients[1, 2], transform.forward(image[1, 2]))
    torch.testing.assert_close(transform.adjoint(coefficients)[1, 2], image[1, 2])


def test_smooth_images_are_sparse() -> None:
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    image = (rows**2 - columns * rows).to(torch.complex128)
    magnitudes = WaveletTransform((64, 64)).forward(image).abs().sort(descending=True).values
    # db4 has four vanishing moments: inside, a polynomial is in the approximation alone.
    assert float((magnitudes > 1e-6 * magnitudes[0]).double().mean()) < 0.45


def test_refuses_what_is_not_orthogonal() -> None:
    with pytest.raises(ValueError, match=r"bior2\.2 is not orthogonal"):
        WaveletTransform((64, 64), "bior2.2").forward(complex_normal((64, 64)))
