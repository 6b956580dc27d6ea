import fastmri
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_kspace import complex_normal

from adaptmr.kernels.fourier import fourier, inverse_fourier

sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))


@settings(max_examples=25, deadline=None)
@given(matrix=sizes, batch=st.integers(1, 3))
def test_is_the_defining_sum(matrix: tuple[int, int], batch: int) -> None:
    image = complex_normal((batch, *matrix))
    rows, columns = (
        np.exp(-2j * np.pi * np.outer(np.arange(n) - n // 2, np.arange(n) - n // 2) / n) / n**0.5
        for n in matrix
    )
    expected = rows @ image.numpy() @ columns.T
    np.testing.assert_allclose(fourier(image).numpy(), expected, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(matrix=sizes)
def test_equals_fastmri(matrix: tuple[int, int]) -> None:
    image = complex_normal((2, *matrix))
    expected = torch.view_as_complex(fastmri.fft2c(torch.view_as_real(image)))
    torch.testing.assert_close(fourier(image), expected)
    expected = torch.view_as_complex(fastmri.ifft2c(torch.view_as_real(image)))
    torch.testing.assert_close(inverse_fourier(image), expected)


@settings(max_examples=25, deadline=None)
@given(matrix=sizes, dims=st.sampled_from([(-1,), (-2,), (-2, -1), (0, 2)]))
def test_inverse_and_unitary(matrix: tuple[int, int], dims: tuple[int, ...]) -> None:
    image = complex_normal((3, *matrix))
    kspace = fourier(image, dims)
    torch.testing.assert_close(inverse_fourier(kspace, dims), image)
    torch.testing.assert_close(kspace.abs().square().sum(), image.abs().square().sum())


@pytest.mark.parametrize("matrix", [(8, 6), (7, 5), (8, 5)])
def test_centre_is_half_the_size(matrix: tuple[int, int]) -> None:
    kspace = torch.zeros(matrix, dtype=torch.complex128)
    kspace[matrix[0] // 2, matrix[1] // 2] = 1
    flat = inverse_fourier(kspace)
    torch.testing.assert_close(flat, flat[:1, :1].expand(matrix))
    assert float(flat[0, 0].real) > 0


def test_real_input_and_precision() -> None:
    assert fourier(torch.ones(4, 4)).dtype == torch.complex64
    assert fourier(torch.ones(4, 4, dtype=torch.float64)).dtype == torch.complex128
