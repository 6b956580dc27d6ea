"""The U-Net against fastMRI's."""

import pytest
import torch
from fastmri.models import Unet
from fastmri.models.varnet import NormUnet
from hypothesis import given, settings
from hypothesis import strategies as st
from network_reference import complex_normal, line_mask, randomise

from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.reconstruction.networks.checkpoint import build
from adaptmr.reconstruction.networks.fastmri_weights import from_fastmri, renamed
from adaptmr.reconstruction.networks.unet import NormalisedUNet, UNetConfig, UNetReconstructor


def unets(pools: int, channels: int = 4) -> tuple[Unet, UNetReconstructor]:
    theirs = Unet(1, 1, chans=channels, num_pool_layers=pools).double()
    randomise(theirs, pools)
    ours = from_fastmri(theirs.state_dict())
    assert isinstance(ours, UNetReconstructor)
    return theirs, ours


@given(rows=st.integers(16, 41), columns=st.integers(16, 41), pools=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_equals_fastmri_at_any_size(rows: int, columns: int, pools: int) -> None:
    theirs, ours = unets(pools)
    image = complex_normal((2, 1, rows, columns), rows).real
    torch.testing.assert_close(ours.network.unet(image), theirs(image), rtol=1e-12, atol=1e-12)


def test_gradients_equal_fastmri() -> None:
    theirs, ours = unets(2)
    image = complex_normal((2, 1, 19, 22), 0).real.requires_grad_()
    probe = complex_normal((2, 1, 19, 22), 1).real
    expected = torch.autograd.grad((theirs(image) * probe).sum(), [image, *theirs.parameters()])
    ours.zero_grad()
    (gradient,) = torch.autograd.grad((ours.network.unet(image) * probe).sum(), image)
    torch.testing.assert_close(gradient, expected[0], rtol=1e-10, atol=1e-12)
    (ours.network.unet(image) * probe).sum().backward()
    gradients = renamed(dict(zip(theirs.state_dict(), expected[1:], strict=True)))
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("matrix", [(33, 27), (16, 48), (20, 21)])
def test_normalised_complex_form_equals_fastmri(matrix: tuple[int, int]) -> None:
    theirs = NormUnet(4, 3).double()
    randomise(theirs, 7)
    ours = NormalisedUNet(2, 4, 3).double()
    names = renamed(theirs.unet.state_dict())
    ours.load_state_dict({n.removeprefix("network."): value for n, value in names.items()})
    image = complex_normal((2, *matrix), 3)
    expected = torch.view_as_complex(theirs(torch.view_as_real(image)[:, None])[:, 0])
    torch.testing.assert_close(ours(image), expected, rtol=1e-11, atol=1e-12)


def test_reconstructor_is_the_normalised_unet_of_the_zero_filled_image() -> None:
    network = build(UNetConfig(channels=4, pools=2), seed=1).double()
    mask = line_mask(27, 5)
    kspace = complex_normal((2, 3, 33, 27), 2)
    image = inverse_fourier(mask.apply(kspace)).abs().square().sum(1).sqrt()
    assert isinstance(network, UNetReconstructor)
    expected = network.network(image).clamp(min=0)
    torch.testing.assert_close(network(kspace, mask), expected, rtol=1e-12, atol=1e-12)


def test_one_pixel_levels_are_finite() -> None:
    network = build(UNetConfig(channels=4, pools=4), seed=0)
    image = network(complex_normal((1, 1, 16, 9), 0, torch.complex64), line_mask(9, 3))
    assert image.isfinite().all()
