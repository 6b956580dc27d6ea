"""Separable orthonormal wavelet transform of complex images of any size.

Boundaries are zero extended and every coefficient that is then non-zero is kept (PyWavelets' mode
``zero``, which sigpy uses too), so the transform is an isometry, ``adjoint(forward(x)) == x``, for
odd sizes too, with somewhat more coefficients than the image has pixels.

Each axis is filtered by batched products of a small banded matrix with overlapping windows of the
image. The windows are strided views, and a matrix product of this shape runs near the machine's
peak where a strided convolution of a single channel does not.
"""

from dataclasses import dataclass
from functools import cached_property

import pywt
import torch
from torch import Tensor

# Long enough for an efficient matrix product, short enough that few of its products are with zero.
_LONGEST_BLOCK = 24


@dataclass(frozen=True)
class _Filter:
    """Low- and high-pass filter of one axis of ``size`` samples, in ``blocks`` windows.

    Attributes:
        size: samples of the axis.
        low: low-pass taps in PyWavelets' order, the high-pass ones in ``high``.
        high: high-pass taps.
    """

    size: int
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def coefficients(self) -> int:
        """Low-pass coefficients that can be non-zero (as many high-pass ones)."""
        return (self.size + len(self.low) - 1) // 2

    @property
    def blocks(self) -> int:
        """Number of windows."""
        return -(-self.coefficients // _LONGEST_BLOCK)

    @property
    def outputs(self) -> int:
        """Low-pass coefficients per window; the last window may end in zeros."""
        return max(-(-self.coefficients // self.blocks), len(self.low) // 2)

    @property
    def overlap(self) -> int:
        """Samples that a window shares with the next."""
        return len(self.low) - 2

    @cached_property
    def _matrices(self) -> dict[tuple[torch.dtype, torch.device], Tensor]:
        return {}

    def matrix(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """One window's (2 outputs, 2 outputs + overlap) matrix, low-pass rows first."""
        if (dtype, device) not in self._matrices:
            matrix = torch.zeros(2, self.outputs, 2 * self.outputs + self.overlap, dtype=dtype)
            for band, taps in enumerate((self.low, self.high)):
                for row in range(self.outputs):
                    matrix[band, row, 2 * row :][: len(taps)] = torch.tensor(
                        taps[::-1], dtype=dtype
                    )
            self._matrices[dtype, device] = matrix.flatten(0, 1).to(device)
        return self._matrices[dtype, device]

    def analyse(self, signal: Tensor) -> Tensor:
        """(batch, size, *rest) to (batch, blocks, 2 bands, outputs, rest), complex."""
        batch, rest = signal.shape[0], signal.shape[2:]
        rows, columns = 2 * self.outputs * self.blocks, rest.numel()
        # Each sample starts with zeros, which also end the last window of the sample before.
        padded = signal.new_zeros(batch * rows + self.overlap, columns)
        samples = padded[: batch * rows].view(batch, rows, *rest)
        samples.narrow(1, self.overlap, self.size).copy_(signal)
        real = torch.view_as_real(padded).flatten(1)
        windows = real.as_strided(
            (batch * self.blocks, 2 * self.outputs + self.overlap, 2 * columns),
            (2 * self.outputs * 2 * columns, 2 * columns, 1),
        )
        matrix = self.matrix(real.dtype, real.device).expand(len(windows), -1, -1)
        bands = torch.bmm(matrix, windows)
        return torch.view_as_complex(
            bands.view(batch, self.blocks, 2, self.outputs, columns, 2),
        )

    def synthesise(self, bands: Tensor) -> Tensor:
        """Adjoint of `analyse`: (batch, blocks, 2, outputs, rest) to (batch, size, rest)."""
        batch, columns = bands.shape[0], bands.shape[-1]
        real = torch.view_as_real(bands.contiguous()).view(
            batch * self.blocks, 2 * self.outputs, 2 * columns
        )
        matrix = self.matrix(real.dtype, real.device).T.expand(len(real), -1, -1)
        windows = torch.bmm(matrix, real).view(batch, self.blocks, -1, columns, 2)
        step = 2 * self.outputs
        windows[:, 1:, : self.overlap] += windows[:, :-1, step:]
        signal = windows[:, :, :step].reshape(batch, self.blocks * step, columns, 2)
        return torch.view_as_complex(signal)[:, self.overlap : self.overlap + self.size]


@dataclass(frozen=True)
class WaveletTransform:
    """Multi-level 2-D wavelet transform over the last two axes, to the greatest useful depth.

    Source: Mallat, A Wavelet Tour of Signal Processing, section 7.7.

    Attributes:
        size: (rows, columns) of the images.
        wavelet: name of an orthogonal wavelet of PyWavelets.
    """

    size: tuple[int, int]
    wavelet: str = "db4"

    @cached_property
    def _levels(self) -> tuple[tuple[_Filter, _Filter], ...]:
        """Filters of each level, for the first and the second axis of that level's image.

        A level leaves its approximation transposed, which saves a copy, so the axes take turns.
        """
        wavelet = pywt.Wavelet(self.wavelet)
        if not wavelet.orthogonal:
            raise ValueError(f"wavelet {self.wavelet} is not orthogonal")
        low, high = tuple(wavelet.dec_lo), tuple(wavelet.dec_hi)
        levels = []
        first, second = self.size
        for _ in range(pywt.dwtn_max_level(self.size, wavelet)):
            level = _Filter(first, low, high), _Filter(second, low, high)
            levels.append(level)
            first, second = level[1].coefficients, level[0].coefficients
        return tuple(levels)

    def forward(self, image: Tensor) -> Tensor:
        """Coefficients of images.

        Args:
            image: (..., rows, columns), complex.

        Returns:
            (..., coefficients) complex: details from fine to coarse, then the approximation.
        """
        lead = image.shape[:-2]
        approximation = image.reshape(-1, *self.size)
        batch = len(approximation)
        parts = []
        for first, second in self._levels:
            halves = first.analyse(approximation).permute(0, 2, 4, 1, 3).flatten(0, 1)
            bands = second.analyse(halves)
            bands = bands.view(batch, 2, *bands.shape[1:])
            parts += [bands[:, 0, :, 1].flatten(1), bands[:, 1].flatten(1)]
            approximation = bands[:, 0, :, 0].flatten(1, 2)
            approximation = approximation[:, : second.coefficients, : first.coefficients]
        return torch.cat([*parts, approximation.flatten(1)], 1).view(*lead, -1)

    def adjoint(self, coefficients: Tensor) -> Tensor:
        """Images of coefficients: the adjoint of `forward`, and its inverse on its range.

        Args:
            coefficients: (..., coefficients) complex.

        Returns:
            (..., rows, columns) complex.
        """
        lead = coefficients.shape[:-1]
        flat = coefficients.reshape(-1, coefficients.shape[-1])
        batch, start, details = len(flat), 0, []
        for first, second in self._levels:
            shape = (second.blocks, second.outputs, first.blocks * first.outputs)
            bands = flat.new_zeros(batch, 2, shape[0], 2, *shape[1:])
            for part in (bands[:, 0, :, 1], bands[:, 1]):
                count = part[0].numel()
                part.copy_(flat[:, start : start + count].view_as(part))
                start += count
            details.append(bands)
        approximation = flat[:, start:]
        if not self._levels:
            return approximation.view(*lead, *self.size)
        rows, columns = reversed(self._levels[-1])
        approximation = approximation.view(batch, rows.coefficients, columns.coefficients)
        for (first, second), bands in zip(reversed(self._levels), reversed(details), strict=True):
            inner = bands.new_zeros(
                batch, second.blocks * second.outputs, first.blocks * first.outputs
            )
            inner[:, : second.coefficients, : first.coefficients] = approximation
            bands[:, 0, :, 0] = inner.view_as(bands[:, 0, :, 0])
            halves = second.synthesise(bands.flatten(0, 1))
            halves = halves.reshape(batch, 2, second.size, first.blocks, first.outputs)
            approximation = first.synthesise(halves.permute(0, 3, 1, 4, 2))
        return approximation.reshape(*lead, *self.size)
