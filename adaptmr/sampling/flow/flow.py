"""`SuperResolutionFlow`: a conditional normalizing flow from low-frequency data to full images.

Frequency separation and noise conditioning follow Song et al. 2022 (FS-NCSR, arXiv:2204.09679) and
SoftFlow (Kim et al. 2020, arXiv:2006.04604), the flow SRFlow's published description (Lugmayr et
al. 2020, arXiv:2006.14200), the couplings Hong, Park and Chun 2023 (arXiv:2212.04319).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from adaptmr.data.weights import initialise
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import fourier
from adaptmr.sampling.flow.conditioner import Conditioner
from adaptmr.sampling.flow.config import FlowConfig
from adaptmr.sampling.flow.layers import fitting
from adaptmr.sampling.flow.multiscale import MultiscaleFlow
from adaptmr.sampling.flow.whitening import Standard, Standardising
from adaptmr.sampling.low_frequency import LowFrequency
from adaptmr.sampling.pairs import Pairs
from adaptmr.sampling.posterior import check_made_for

_LOG_2_PI = math.log(2 * math.pi)
_IMAGES_AT_ONCE = 32
_IMAGES_TO_FIT = 64
_CALIBRATION_ROUNDS = 2
_CALIBRATION_SAMPLES = 8


class SuperResolutionFlow(nn.Module):
    """Posterior sampler that models full image minus low-frequency image.

    The residual is whitened by what the low-frequency image lets expect, and becomes the top left
    of a canvas whose sides are multiples of ``2**levels``. What the canvas has more is filled with
    standard normal noise e, and the flow f maps the whole canvas to latents z of its size. Since e
    is independent of the image x, ``log p(x) >= E_e[log p(x, e) - log p(e)]`` (Huang et al. 2020,
    augmented flows, arXiv:2002.07101): what padding adds to the likelihood is subtracted, the bits
    per dimension count the pixels of the image alone and are an upper bound, exact where nothing
    is padded. A sample is the top left of ``f^-1(z)``.

    With its first weights f is the identity.

    Args:
        config: architecture.
        matrix: (rows, columns) of the images.
        block: (rows, columns) acquired about the centre.
        seed: seed of the first weights; the global random state is neither read nor written.
    """

    def __init__(
        self,
        config: FlowConfig,
        matrix: tuple[int, int],
        block: tuple[int, int],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.matrix = matrix
        self.block = block
        step = 2**config.levels
        self.canvas = (-(-matrix[0] // step) * step, -(-matrix[1] // step) * step)
        factors = [2 ** (index + 1) for index in range(config.levels)]
        sizes = [(-(-matrix[0] // factor), -(-matrix[1] // factor)) for factor in factors]
        self.conditioner = Conditioner(config, matrix, block, sizes)
        self.standardising = (
            Standardising(
                matrix, self.conditioner.channels, 2 * config.features, config.spectral_harmonics
            )
            if config.spectral_harmonics is not None
            else None
        )
        self.flow = MultiscaleFlow(config, self.conditioner.channels, seed)
        initialise(self, seed)

    def encode(
        self, residual: Tensor, margin: Tensor, low: Tensor, noise: Tensor, disturbance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map residuals to latents.

        Args:
            residual: (batch, rows, columns) full image minus low-frequency image.
            margin: (batch, canvas rows, canvas columns); what lies outside ``residual`` is used.
            low: (batch, rows, columns) low-frequency images.
            noise: (batch,) standard deviation of the noise in ``residual``.
            disturbance: (batch, rows, columns) that noise, from which the conditioner gets what
                lies in the block.

        Returns:
            Latents (batch, canvas rows, canvas columns), and the log-determinant (batch,).
        """
        levels, whole = self.conditioner(low, disturbance)
        standard = self._standard(levels[0], whole, noise)
        white = standard.whiten(residual)
        below, right = self.canvas[0] - self.matrix[0], self.canvas[1] - self.matrix[1]
        inside = functional.pad(torch.ones_like(white), (0, right, 0, below)) > 0
        canvas = torch.where(inside, functional.pad(white, (0, right, 0, below)), margin)
        latents, volume = self.flow(canvas, self._padded(levels), noise)
        return latents, volume + standard.volume

    def decode(self, latents: Tensor, low: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `encode` without disturbance.

        Args:
            latents: (batch or a multiple, canvas rows, canvas columns); a multiple repeats the
                images: latents i, i + batch, ... are of image i.
            low: (batch, rows, columns) low-frequency images.
            noise: (batch,) standard deviation of the noise in the residuals.

        Returns:
            Residuals (latents, rows, columns) and the canvas (latents, canvas rows, canvas
            columns) they were cut from.
        """
        levels, whole = self.conditioner(low, torch.zeros_like(low))
        times = len(latents) // len(low)
        canvas = self.flow.inverse(latents, self._padded(levels), noise)
        white = canvas[:, : self.matrix[0], : self.matrix[1]]
        standard = self._standard(levels[0], whole, noise)
        residuals = standard.colour(white.reshape(times, len(low), *self.matrix)).flatten(0, 1)
        return residuals, canvas

    def bits_per_dimension(self, low: Tensor, full: Tensor, generator: torch.Generator) -> Tensor:
        """Negative log-likelihood of images, noised for training, over ln 2 and their pixels.

        Args:
            low: (batch, rows, columns) low-frequency images.
            full: (batch, rows, columns) full images.
            generator: of the noise levels, the noise and the margin.

        Returns:
            (batch,) bits per dimension.
        """
        shape = (len(low), *self.canvas)
        noise = self.config.noise * _draw(torch.rand, (len(low),), generator, low)
        margin = _draw(torch.randn, shape, generator, low)
        disturbance = _draw(torch.randn, tuple(low.shape), generator, low)
        disturbance = noise[:, None, None] * disturbance
        residual = full - low + disturbance
        latents, volume = self.encode(residual, margin, low, noise, disturbance)
        inside = torch.zeros(self.canvas, dtype=torch.bool, device=low.device)
        inside[: self.matrix[0], : self.matrix[1]] = True
        # log N(z) - log N(e): the normalising constants of as many dimensions as e has cancel.
        squares = latents.square().sum((1, 2)) - torch.where(inside, 0.0, margin.square()).sum(
            (1, 2)
        )
        dimensions = self.matrix[0] * self.matrix[1]
        likelihood = volume - 0.5 * (squares + dimensions * _LOG_2_PI)
        return -likelihood / (math.log(2) * dimensions)

    def loss(self, low: Tensor, full: Tensor, generator: torch.Generator) -> Tensor:
        """Mean bits per dimension of a batch; arguments as `bits_per_dimension`."""
        return self.bits_per_dimension(low, full, generator).mean()

    def prepare(self, pairs: Pairs, generator: torch.Generator) -> None:
        """Fit to training data what is not learned by gradients, once, before a training.

        That is the mean spectrum of the residuals, and scale and shift of each `ActNorm`. A flow
        that was fitted before, such as one that is trained further, stays as it is.
        """
        if self.standardising is not None and not bool(self.standardising.fitted):
            self.standardising.fit(pairs.full - pairs.low)
        chosen = torch.randperm(len(pairs), generator=generator, device=generator.device)
        some = pairs[chosen[:_IMAGES_TO_FIT].to(pairs.low.device)]
        with torch.no_grad(), fitting(self):
            self.bits_per_dimension(some.low, some.full, generator)

    @torch.no_grad()
    def calibrate(self, pairs: Pairs, generator: torch.Generator) -> None:
        """Match the mean spectrum of the samples' variance to that of the errors, after training.

        The likelihood cares for pixels and their neighbours, so that the spectrum of all pixels
        together comes out a little wrong, the more the shorter the training. Here the power P of
        the standardising layer is multiplied by the ratio of the mean squared error of the samples'
        mean to the samples' mean variance, frequency by frequency, smoothed over neighbours. How
        the variance differs between images stays as learned.

        Args:
            pairs: images, best of subjects that the flow was not trained on; some hundred are
                enough, since the ratio is smoothed.
            generator: of the samples.

        Raises:
            BadInputError: the flow was configured without the standardising layer.
        """
        if self.standardising is None:
            raise BadInputError(
                "a flow without whitening has no spectrum to calibrate",
                field="spectral_harmonics",
                got=None,
                expected="a number",
            )
        for _ in range(_CALIBRATION_ROUNDS):
            error = torch.zeros_like(self.standardising.log_power)
            variance = torch.zeros_like(error)
            for index in range(len(pairs)):
                low, full = pairs.low[index].to(error), pairs.full[index].to(error)
                samples = self._residuals(low[None], _CALIBRATION_SAMPLES, generator)[:, 0]
                deviation, mean = torch.var_mean(fourier(samples), 0)
                variance += deviation
                # The mean of n samples has itself a variance, of one n-th.
                miss = (fourier(full - low) - mean).abs().square()
                error += miss * _CALIBRATION_SAMPLES / (_CALIBRATION_SAMPLES + 1)
            self.standardising.multiply_power(error / variance)

    @torch.no_grad()
    def sample(self, low_frequency: LowFrequency, n: int, generator: torch.Generator) -> Tensor:
        """Draw images; see `PosteriorSampler.sample`.

        Latents have the standard deviation ``config.temperature``: with 0, all samples of a slice
        are the same.
        """
        check_made_for(self, low_frequency)
        low = low_frequency.image.to(next(self.parameters()))
        images = self._residuals(low, n, generator) + low
        return images.clamp_min(0).to(low_frequency.image)

    def _residuals(self, low: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """(n, batch, rows, columns) full image minus low-frequency image."""
        batch = len(low)
        latents = _draw(torch.randn, (n, batch, *self.canvas), generator, low)
        noise = low.new_zeros(batch)
        at_once = max(1, _IMAGES_AT_ONCE // batch)
        residuals = []
        for start in range(0, n, at_once):
            part = self.config.temperature * latents[start : start + at_once]
            residual, _ = self.decode(part.flatten(0, 1), low, noise)
            residuals.append(residual.reshape(-1, batch, *self.matrix))
        return torch.cat(residuals)

    def _standard(self, features: Tensor, whole: Tensor, noise: Tensor) -> Standard:
        if self.standardising is None:
            one = whole.new_ones(len(whole), *self.matrix)
            return Standard(torch.zeros_like(one), one, one)
        standard: Standard = self.standardising(features, whole, noise)
        return standard

    def _padded(self, levels: list[Tensor]) -> list[Tensor]:
        """Features of the images continued over the canvas."""
        return [
            functional.pad(
                features,
                (
                    0,
                    self.canvas[1] // 2 ** (index + 1) - features.shape[-1],
                    0,
                    self.canvas[0] // 2 ** (index + 1) - features.shape[-2],
                ),
                mode="replicate",
            )
            for index, features in enumerate(levels)
        ]


def _draw(
    law: Callable[..., Tensor], shape: tuple[int, ...], generator: torch.Generator, like: Tensor
) -> Tensor:
    return law(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like)
