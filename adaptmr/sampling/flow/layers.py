"""Invertible layers without conditions, and the convolution that starts as zero.

Sources: Glow (Kingma and Dhariwal 2018, arXiv:1807.03039), RealNVP (Dinh et al. 2017,
arXiv:1605.08803) for squeeze and split.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_LARGEST_LOG_DEVIATION = 3.0
_LARGEST_DEVIATIONS = 8.0


class ActNorm(nn.Module):
    """Scale and shift of each channel; the identity until it is fitted to data.

    ``forward`` never fits by itself: `fitting` does, once, before a training. That it was done is
    part of the saved state.

    Args:
        channels: channels of the input.
    """

    fitted: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, x: Tensor) -> None:
        """Choose scale and shift so that the outputs of ``x`` have mean 0 and variance 1.

        A channel that does not vary keeps its scale.
        """
        x = x.detach().transpose(0, 1).flatten(1)
        deviation = x.std(1, correction=0)
        deviation = torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))
        with torch.no_grad():
            self.log_scale.copy_(-deviation.log())
            self.shift.copy_(-x.mean(1))
            self.fitted.fill_(True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(x + shift) * exp(log_scale)`` and its log-determinant, one number for all images."""
        scale, shift = self.log_scale[:, None, None], self.shift[:, None, None]
        return (x + shift) * scale.exp(), self.log_scale.sum() * (x.shape[-2] * x.shape[-1])

    def inverse(self, y: Tensor) -> Tensor:
        """Undo `forward`."""
        return y * (-self.log_scale[:, None, None]).exp() - self.shift[:, None, None]


@contextmanager
def fitting(network: nn.Module) -> Iterator[None]:
    """While the block runs, each `ActNorm` is fitted to the first data that reach it."""

    def fit_once(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(norm, ActNorm) and not bool(norm.fitted):
            norm.fit(inputs[0])

    norms = [module for module in network.modules() if isinstance(module, ActNorm)]
    handles = [norm.register_forward_pre_hook(fit_once) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class InvertibleConv(nn.Module):
    """1 x 1 convolution with as many outputs as inputs.

    Args:
        channels: channels of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(channels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mixed channels, and the log-determinant, one number for all images."""
        log_volume = torch.linalg.slogdet(self.weight).logabsdet
        return _mix(self.weight, x), log_volume * (x.shape[-2] * x.shape[-1])

    def inverse(self, y: Tensor) -> Tensor:
        """Undo `forward`; the matrix is inverted in double precision."""
        return _mix(torch.linalg.inv(self.weight.double()).to(y.dtype), y)


def _mix(weight: Tensor, x: Tensor) -> Tensor:
    return nn.functional.conv2d(x, weight[:, :, None, None])


class UnsetConv2d(nn.Conv2d):
    """Convolution that draws no first weights: `adaptmr.data.weights.initialise` gives them."""

    def reset_parameters(self) -> None:
        """Leave the weights and the global random state as they are."""


class ZeroLinear(nn.Linear):
    """Linear map that is zero at first."""

    def reset_parameters(self) -> None:
        """Zeros, without a look at the global random state."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class ZeroConv(nn.Module):
    """3 x 3 convolution whose output is zero at first and whose scale is learned as exp(3 l).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        # Not a Conv2d: those get random first weights from a seed.
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.log_scale = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, rows, columns) to (batch, out_channels, rows, columns)."""
        y = nn.functional.conv2d(x, self.weight, self.bias, padding=1)
        return y * (3 * self.log_scale[:, None, None]).exp()


class GaussianSplit(nn.Module):
    """Half of the channels leaves the flow as Gaussian, given the half that goes on.

    Args:
        channels: channels of the input, an even number.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.moments = ZeroConv(channels // 2, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The half that goes on, the other half standardised, and the log-determinant (batch,)."""
        kept, leaving = x.chunk(2, dim=1)
        mean, log_deviation = self._moments(kept)
        latent = (leaving - mean) * (-log_deviation).exp()
        return kept, latent, -log_deviation.sum((1, 2, 3))

    def inverse(self, kept: Tensor, latent: Tensor) -> Tensor:
        """Undo `forward`."""
        mean, log_deviation = self._moments(kept)
        return torch.cat([kept, latent * log_deviation.exp() + mean], dim=1)

    def _moments(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.moments(usual(kept)).chunk(2, dim=1)
        return usual(mean), bounded(raw, _LARGEST_LOG_DEVIATION)


def bounded(x: Tensor, limit: float) -> Tensor:
    """``x``, smoothly kept within ``limit``: far from training, networks give any number."""
    return limit * torch.tanh(x / limit)


def usual(x: Tensor) -> Tensor:
    """Values in standard deviations, kept within what data in training can be.

    Conditions and shifts pass through here, so that an error of rounding in values far from
    training is not amplified from layer to layer, and the inverse stays exact.
    """
    return bounded(x, _LARGEST_DEVIATIONS)


def squeeze(x: Tensor) -> Tensor:
    """(batch, c, 2 r, 2 k) to (batch, 4 c, r, k): each 2 x 2 square becomes channels."""
    return nn.functional.pixel_unshuffle(x, 2)


def unsqueeze(x: Tensor) -> Tensor:
    """Undo `squeeze`."""
    return nn.functional.pixel_shuffle(x, 2)
