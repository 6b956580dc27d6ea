"""SSIM against scikit-image and fastMRI."""

import pytest
import torch
from fastmri.losses import SSIMLoss
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from adaptmr.errors import BadInputError
from adaptmr.reconstruction.similarity import ssim

sizes = st.integers(7, 24)


def images(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@given(rows=sizes, columns=sizes, seed=st.integers(0, 99), data_range=st.floats(0.1, 10.0))
@settings(max_examples=25, deadline=None)
def test_equals_scikit_image(rows: int, columns: int, seed: int, data_range: float) -> None:
    target = images((2, rows, columns), seed)
    prediction = target + 0.3 * images((2, rows, columns), seed + 1)
    expected = [
        structural_similarity(y.numpy(), x.numpy(), win_size=7, data_range=data_range)
        for x, y in zip(prediction, target, strict=True)
    ]
    ours = ssim(prediction, target, data_range)
    assert ours.tolist() == pytest.approx(expected, abs=1e-12)


def test_value_and_gradient_equal_fastmri_with_a_range_per_image() -> None:
    target = images((3, 20, 17), 0)
    prediction = (target + 0.2 * images((3, 20, 17), 1)).requires_grad_()
    data_range = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    reference = SSIMLoss().double()
    reference.w.fill_(1 / 49)  # its window is rounded to float32
    theirs = reference(prediction[:, None], target[:, None], data_range)
    ours = (1 - ssim(prediction, target, data_range)).mean()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    (expected,) = torch.autograd.grad(theirs, prediction)
    (gradient,) = torch.autograd.grad(ours, prediction)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-14)


def test_float32_stays_close_to_float64_on_a_bright_background() -> None:
    target = 100 + images((1, 40, 40), 3)
    prediction = target + 0.1 * images((1, 40, 40), 4)
    exact = ssim(prediction, target, 1.0)
    single = ssim(prediction.float(), target.float(), 1.0)
    assert single.item() == pytest.approx(exact.item(), abs=2e-4)


def test_identical_images_have_similarity_one() -> None:
    image = images((2, 3, 12, 9), 5)
    assert torch.equal(ssim(image, image, 1.0), torch.ones(2, 3, dtype=torch.float64))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(BadInputError, match="different shapes"):
        ssim(images((1, 8, 8), 0), images((1, 8, 9), 0), 1.0)
    with pytest.raises(BadInputError, match="smaller than the SSIM window"):
        ssim(images((1, 8, 6), 0), images((1, 8, 6), 0), 1.0)
