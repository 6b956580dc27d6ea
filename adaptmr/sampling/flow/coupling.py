"""Spline couplings: conditional on features, on the noise level, and on the flow's other half."""

import torch
from torch import Tensor, nn

from adaptmr.sampling.flow.layers import ActNorm, UnsetConv2d, ZeroConv, usual
from adaptmr.sampling.flow.spline import inverse_spline, spline


class ParameterNetwork(nn.Module):
    """Three convolutions that end in zeros: four spline parameters for each channel.

    Args:
        in_channels: channels of the condition.
        channels: channels to be transformed.
        width: hidden channels.
    """

    def __init__(self, in_channels: int, channels: int, width: int) -> None:
        super().__init__()
        self.first = UnsetConv2d(in_channels, width, 3, padding=1, bias=False)
        self.first_norm = ActNorm(width)
        self.second = UnsetConv2d(width, width, 1, bias=False)
        self.second_norm = ActNorm(width)
        self.last = ZeroConv(width, 4 * channels)

    def forward(self, condition: Tensor) -> Tensor:
        """(batch, in_channels, rows, columns) to (batch, 4 * channels, rows, columns)."""
        hidden, _ = self.first_norm(self.first(condition))
        hidden, _ = self.second_norm(self.second(torch.relu(hidden)))
        parameters: Tensor = self.last(torch.relu(hidden))
        return parameters


class SplineCoupling(nn.Module):
    """The up to three couplings of a flow step, each a spline and a shift.

    Forward: all channels given the features; the second half given the first half and the noise
    level, in steps that have this coupling; the second half given the first half and the features.

    Args:
        channels: channels of the flow here, an even number.
        features: channels of the features.
        width: hidden channels of the networks.
        box: width of the interval that splines act on; values outside are only shifted.
        noise_conditional: whether the step has the second coupling.
    """

    def __init__(
        self, channels: int, features: int, width: int, box: float, *, noise_conditional: bool
    ) -> None:
        super().__init__()
        half = channels // 2
        self.box = box
        self.by_features = ParameterNetwork(features, channels, width)
        self.by_noise = ParameterNetwork(half + 1, half, width) if noise_conditional else None
        self.by_self = ParameterNetwork(half + features, half, width)

    def forward(self, x: Tensor, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Transform.

        Args:
            x: (batch, channels, rows, columns).
            features: (batch, features, rows, columns).
            noise: (batch, 1, rows, columns) standard deviation of the noise in the data.

        Returns:
            The transformed channels, and the log-determinant (batch,).
        """
        x, total = self._transform(x, self.by_features(features))
        first, second = x.chunk(2, dim=1)
        if self.by_noise is not None:
            second, volume = self._transform(
                second, self.by_noise(torch.cat([usual(first), noise], 1))
            )
            total = total + volume
        parameters = self.by_self(torch.cat([usual(first), features], 1))
        second, volume = self._transform(second, parameters)
        return torch.cat([first, second], 1), total + volume

    def inverse(self, y: Tensor, features: Tensor, noise: Tensor) -> Tensor:
        """Undo `forward`; arguments as there."""
        first, second = y.chunk(2, dim=1)
        second = self._restore(second, self.by_self(torch.cat([usual(first), features], 1)))
        if self.by_noise is not None:
            second = self._restore(second, self.by_noise(torch.cat([usual(first), noise], 1)))
        return self._restore(torch.cat([first, second], 1), self.by_features(features))

    def _transform(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        a, b, c, shift = parameters.chunk(4, dim=1)
        y, log_slope = spline(x / self.box, (a, b, c))
        return y * self.box + usual(shift), log_slope.sum((1, 2, 3))

    def _restore(self, y: Tensor, parameters: Tensor) -> Tensor:
        a, b, c, shift = parameters.chunk(4, dim=1)
        return inverse_spline((y - usual(shift)) / self.box, (a, b, c)) * self.box
