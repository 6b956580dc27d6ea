"""Spline couplings: conditional on features, on the noise level, and on the flow's other half."""

import torch
from torch import Tensor, nn

from adaptmr.sampling.flow.layers import ActNorm, UnsetConv2d, ZeroConv, usual
from adaptmr.sampling.flow.spline import inverse_spline, spline


class ParameterNetwork(nn.Module):
    """Three convolutions that end in zeros: four spline parameters for each channel.

    The first convolution is the sum of one of the features and one of the flow's own channels:
    when many samples of one image are drawn, the first is needed once.

    Args:
        features: channels of the features.
        own: channels of the flow that are a condition too; may be 0.
        channels: channels to be transformed.
        width: hidden channels.
    """

    def __init__(self, features: int, own: int, channels: int, width: int) -> None:
        super().__init__()
        self.of_features = UnsetConv2d(features, width, 3, padding=1, bias=False)
        self.of_own = UnsetConv2d(own, width, 3, padding=1, bias=False) if own else None
        self.first_norm = ActNorm(width)
        self.second = UnsetConv2d(width, width, 1, bias=False)
        self.second_norm = ActNorm(width)
        self.last = ZeroConv(width, 4 * channels)

    def forward(self, features: Tensor, own: Tensor | None = None) -> Tensor:
        """Spline parameters.

        Args:
            features: (images, features, rows, columns).
            own: (samples, own, rows, columns); the samples are a multiple of the images.

        Returns:
            (samples, 4 * channels, rows, columns), or of the images where there is no ``own``.
        """
        hidden = self.of_features(features)
        if self.of_own is not None and own is not None:
            hidden = repeated(hidden, len(own)) + self.of_own(usual(own))
        hidden, _ = self.first_norm(hidden)
        hidden, _ = self.second_norm(self.second(torch.relu(hidden)))
        parameters: Tensor = self.last(torch.relu(hidden))
        return parameters


def repeated(x: Tensor, samples: int) -> Tensor:
    """(images, ...) again and again until there are as many as samples."""
    times = samples // len(x)
    return x if times == 1 else x.repeat(times, *[1] * (x.ndim - 1))


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
        self.by_features = ParameterNetwork(features, 0, channels, width)
        self.by_noise = ParameterNetwork(1, half, half, width) if noise_conditional else None
        self.by_self = ParameterNetwork(features, half, half, width)

    def forward(self, x: Tensor, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Transform.

        Args:
            x: (samples, channels, rows, columns).
            features: (images, features, rows, columns); the samples are a multiple of the images.
            noise: (images, 1, rows, columns) standard deviation of the noise in the data.

        Returns:
            The transformed channels, and the log-determinant (samples,).
        """
        x, total = self._transform(x, repeated(self.by_features(features), len(x)))
        first, second = x.chunk(2, dim=1)
        if self.by_noise is not None:
            second, volume = self._transform(second, self.by_noise(noise, first))
            total = total + volume
        second, volume = self._transform(second, self.by_self(features, first))
        return torch.cat([first, second], 1), total + volume

    def inverse(self, y: Tensor, features: Tensor, noise: Tensor) -> Tensor:
        """Undo `forward`; arguments as there."""
        first, second = y.chunk(2, dim=1)
        second = self._restore(second, self.by_self(features, first))
        if self.by_noise is not None:
            second = self._restore(second, self.by_noise(noise, first))
        parameters = repeated(self.by_features(features), len(y))
        return self._restore(torch.cat([first, second], 1), parameters)

    def _transform(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        a, b, c, shift = parameters.chunk(4, dim=1)
        y, log_slope = spline(x / self.box, (a, b, c))
        return y * self.box + usual(shift), log_slope.sum((1, 2, 3))

    def _restore(self, y: Tensor, parameters: Tensor) -> Tensor:
        a, b, c, shift = parameters.chunk(4, dim=1)
        return inverse_spline((y - usual(shift)) / self.box, (a, b, c)) * self.box
