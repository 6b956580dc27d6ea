"""Invertible layers one by one."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from adaptmr.sampling.flow.layers import (
    ActNorm,
    GaussianSplit,
    InvertibleConv,
    ZeroConv,
    ZeroLinear,
    fitting,
    squeeze,
    unsqueeze,
)

quick = settings(max_examples=25, deadline=None)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def perturb(module: nn.Module, by: float = 0.3) -> nn.Module:
    module.double()
    with torch.no_grad():
        for index, weight in enumerate(module.parameters()):
            weight += by * normal(*weight.shape, seed=index)
    return module


def jacobian_volume(function, x: torch.Tensor) -> torch.Tensor:
    size = x.numel()
    jacobian = torch.autograd.functional.jacobian(function, x).reshape(size, size)
    return torch.linalg.slogdet(jacobian).logabsdet


def test_norm_is_the_identity_until_it_is_fitted() -> None:
    x = normal(3, 4, 5, 2)
    norm = ActNorm(4).double()
    y, volume = norm(x)
    assert torch.equal(y, x)
    assert float(volume.detach()) == 0
    assert not bool(norm.fitted)


def test_norm_is_fitted_once_and_only_when_asked() -> None:
    norm = ActNorm(4).double()
    first, second = 3 + 5 * normal(6, 4, 5, 5), 7 * normal(6, 4, 5, 5, seed=1)
    with fitting(norm):
        y, _ = norm(first)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(y.var((0, 2, 3), correction=0), torch.ones(4, dtype=torch.float64))
    with fitting(norm):
        again, _ = norm(first)
        other, _ = norm(second)
    assert torch.equal(again, y)
    assert float(other.std().detach()) > 1.2
    restored = ActNorm(4).double()
    restored.load_state_dict(norm.state_dict())
    with fitting(restored):
        torch.testing.assert_close(restored(second)[0], other)


def test_norm_of_constant_channels_stays_finite() -> None:
    norm = ActNorm(2)
    with fitting(norm):
        y, volume = norm(torch.full((2, 2, 3, 3), 4.0))
    assert torch.equal(y, torch.zeros_like(y))
    assert float(volume.detach()) == 0


@pytest.mark.parametrize("layer", [ActNorm(3), InvertibleConv(3)], ids=["norm", "mix"])
def test_layer_is_inverted_and_its_volume_is_that_of_the_jacobian(layer: nn.Module) -> None:
    perturb(layer)
    x = normal(1, 3, 2, 3)
    y, volume = layer(x)
    torch.testing.assert_close(layer.inverse(y), x, atol=1e-12, rtol=0)
    torch.testing.assert_close(volume, jacobian_volume(lambda x: layer(x)[0], x))


def test_split_is_inverted_and_its_volume_is_that_of_the_jacobian() -> None:
    split = perturb(GaussianSplit(4))
    x = normal(2, 4, 3, 2)
    kept, latent, volume = split(x)
    assert kept.shape == latent.shape == (2, 2, 3, 2)
    torch.testing.assert_close(split.inverse(kept, latent), x, atol=1e-12, rtol=0)
    for index in range(2):
        expected = jacobian_volume(lambda x: torch.cat(split(x[None])[:2], 1), x[index])
        torch.testing.assert_close(volume[index], expected)


def test_split_is_the_standard_normal_at_first() -> None:
    x = normal(1, 4, 3, 3)
    kept, latent, volume = GaussianSplit(4).double()(x)
    assert torch.equal(torch.cat([kept, latent], 1), x)
    assert float(volume.detach()) == 0


@quick
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
)
def test_squeeze_keeps_each_square_together(
    batch: int, channels: int, rows: int, columns: int
) -> None:
    x = normal(batch, channels, 2 * rows, 2 * columns)
    y = squeeze(x)
    assert y.shape == (batch, 4 * channels, rows, columns)
    assert torch.equal(y[0, :4, 0, 0], x[0, 0, :2, :2].flatten())
    assert torch.equal(unsqueeze(y), x)


def test_layers_that_start_as_zero_do_and_take_no_random_numbers() -> None:
    state = torch.get_rng_state()
    convolution, linear = ZeroConv(3, 2), ZeroLinear(4, 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert not bool(convolution(torch.ones(1, 3, 4, 4)).any())
    assert not bool(linear(torch.ones(2, 4)).any())
