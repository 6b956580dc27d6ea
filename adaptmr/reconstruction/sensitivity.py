"""Coil sensitivity maps from the fully acquired centre of k-space (the low-frequency block)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from adaptmr.data.positions import centred_block
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.reconstruction.coils import root_sum_of_squares
from adaptmr.sampling.mask import Mask


def low_frequency_block(kspace: Tensor, mask: Mask) -> tuple[slice, slice]:
    """Index of the low-frequency block over (readout, phase).

    Args:
        kspace: (..., readout, phase).
        mask: the positions acquired; line masks take the whole readout.

    Raises:
        BadInputError: the mask is of another size, or has no low-frequency block.
    """
    if not mask.fits(tuple(kspace.shape)):
        raise BadInputError(
            "the mask does not fit the k-space",
            field="mask",
            got=mask.positions.shape,
            expected=tuple(kspace.shape[-mask.axes :]),
            hint="Make the mask for this matrix size",
        )
    if not all(mask.low_frequency):
        raise BadInputError(
            "sensitivity maps need a fully acquired centre of k-space, and this mask has none",
            field="low_frequency",
            got=mask.low_frequency,
            expected="at least one position per axis",
            hint="Use a mask with a low-frequency block, pass maps, or reconstruct zero-filled",
        )
    rows = slice(0, kspace.shape[-2]) if mask.axes == 1 else mask.block[0]
    return rows, mask.block[-1]


@dataclass(frozen=True)
class LowResolutionMaps:
    """Coil images of the low-frequency block over their root sum of squares.

    The block is weighted by a Hann window, against ringing (McKenzie et al., MRM 2002).

    Attributes:
        width: most positions of the block that are used per axis, about the centre.
    """

    width: int = 24

    def __call__(self, kspace: Tensor, mask: Mask) -> Tensor:
        """Maps of unit root sum of squares, zero where the coil images are.

        Args:
            kspace: (..., coil, readout, phase) complex.
            mask: with a low-frequency block.

        Returns:
            Complex maps of the shape of ``kspace``.

        Raises:
            BadInputError: the mask has no low-frequency block.
        """
        index = _central(low_frequency_block(kspace, mask), self.width)
        windowed = torch.zeros_like(kspace)
        block = kspace[..., *index]
        window = [_hann(length, kspace.real.dtype).to(kspace.device) for length in block.shape[-2:]]
        windowed[..., *index] = block * (window[0][:, None] * window[1])
        coil_images = inverse_fourier(windowed)
        magnitude = root_sum_of_squares(coil_images).unsqueeze(-3)
        return torch.where(magnitude > 0, coil_images / magnitude, 0)


@dataclass(frozen=True)
class Espirit:
    """ESPIRiT: maps as eigenvectors of the projection on the signal space of k-space patches.

    Source: Uecker et al., MRM 71:990 (2014); the first set of maps, phases relative to the first
    coil. The projection is a trigonometric polynomial of low degree at every pixel, so it is
    summed up once in k-space and evaluated by two small matrix products, not by one Fourier
    transform per kernel and coil; its leading eigenvectors come from repeated squaring.

    Attributes:
        kernel: side of the patches; less where the block is too small for the coils.
        width: most positions of the block that are used per axis, about the centre.
        threshold: patch directions whose singular value is below this share of the largest are
            taken for noise.
        crop: maps are zero where the eigenvalue, 1 for a pixel that the model explains, is below.
    """

    kernel: int = 6
    width: int = 24
    threshold: float = 0.02
    crop: float = 0.8

    def __call__(self, kspace: Tensor, mask: Mask) -> Tensor:
        """Maps of unit root sum of squares inside their support, zero outside.

        Args:
            kspace: (..., coil, readout, phase) complex.
            mask: with a low-frequency block.

        Returns:
            Complex maps of the shape of ``kspace``.

        Raises:
            BadInputError: the mask has no low-frequency block.
        """
        rows, columns = _central(low_frequency_block(kspace, mask), self.width)
        calibration = kspace[..., rows, columns].flatten(0, -4)
        correlation = self._correlation(calibration)
        size = kspace.shape[-2:]
        maps = kspace.new_empty(*calibration.shape[:2], *size)
        column_phases = _phases(size[1], correlation.shape[2], correlation)
        row_phases = _phases(size[0], correlation.shape[1], correlation)
        # Few enough pixels at a time that their matrices stay in the processor's cache.
        matrices = len(calibration) * size[1] * calibration.shape[1] ** 2
        together = max(1, 2**17 // matrices)
        for start in range(0, size[0], together):
            some = slice(start, start + together)
            matrix = torch.einsum("yu,buvcd->byvcd", row_phases[some], correlation)
            matrix = torch.einsum("xv,byvcd->byxcd", column_phases, matrix)
            vector, value = _leading_eigenpair(matrix)
            vector = torch.where((value > self.crop)[..., None], vector, 0)
            maps[:, :, some] = vector.movedim(-1, 1)
        return maps.view(kspace.shape)

    def _patch(self, coils: int, block: torch.Size) -> tuple[int, int]:
        """Size of the patches: at most half the block, and few numbers beside so many patches.

        With many fewer patches than numbers in one, their span misses part of the signal space,
        and the maps end inside the object. The share was measured on real scans of 2 to 16 coils.
        """
        for side in range(self.kernel, 0, -1):
            high, wide = (min(side, length // 2 + 1) for length in block)
            count = (block[0] - high + 1) * (block[1] - wide + 1)
            if count > 0.3 * coils * high * wide:
                return high, wide
        return 1, 1

    def _correlation(self, calibration: Tensor) -> Tensor:
        """Fourier coefficients of the operator ``G``: (batch, rows, columns, coil, coil).

        Equation 12 of the source: with P the projection on the space of patches, coefficient
        ``d`` is the sum of P over all pairs of patch positions that lie ``d`` apart, over the
        number of positions.
        """
        batch, coils = calibration.shape[:2]
        high, wide = self._patch(coils, calibration.shape[-2:])
        patches = calibration.unfold(-2, high, 1).unfold(-2, wide, 1)
        columns = patches.permute(0, 1, 4, 5, 2, 3).flatten(4).flatten(1, 3)
        # Eigenvalues are squares of singular values: unit scale keeps them in range.
        columns = columns / _positive(torch.linalg.vector_norm(columns, dim=(1, 2), keepdim=True))
        wide_matrix = columns.shape[1] <= columns.shape[2]
        gram = columns @ columns.mH if wide_matrix else columns.mH @ columns
        values, vectors = torch.linalg.eigh(gram)
        keep = values > self.threshold**2 * values[:, -1:]
        if not wide_matrix:
            vectors = columns @ vectors / _positive(values.clamp(min=0).sqrt())[:, None]
        vectors = vectors * keep[:, None]
        projection = (vectors @ vectors.mH).view(batch, coils, high, wide, coils, high, wide)
        correlation = calibration.new_zeros(batch, 2 * high - 1, 2 * wide - 1, coils, coils)
        for row in range(high):
            for column in range(wide):
                correlation[
                    :,
                    high - 1 - row : 2 * high - 1 - row,
                    wide - 1 - column : 2 * wide - 1 - column,
                ] += projection[:, :, row, column].permute(0, 3, 4, 1, 2)
        return correlation / (high * wide)


def _central(block: tuple[slice, slice], width: int) -> tuple[slice, slice]:
    """The block cut to at most ``width`` positions per axis, about the same centre."""

    def cut(positions: slice) -> slice:
        length = positions.stop - positions.start
        inside = centred_block(length, min(length, width))
        return slice(positions.start + inside.start, positions.start + inside.stop)

    return cut(block[0]), cut(block[1])


def _hann(length: int, dtype: torch.dtype) -> Tensor:
    """Hann window without the zeros at its ends."""
    return torch.hann_window(length + 2, periodic=False, dtype=dtype)[1:-1]


def _phases(size: int, terms: int, like: Tensor) -> Tensor:
    """(size, terms): ``exp(-2 pi i d (q - size // 2) / size)``, d about 0 (terms is odd)."""
    position = torch.arange(size, device=like.device) - size // 2
    shift = torch.arange(terms, device=like.device) - terms // 2
    angle = -2 * torch.pi * (position[:, None] * shift % size).double() / size
    return torch.polar(torch.ones_like(angle), angle).to(like.dtype)


def _positive(values: Tensor) -> Tensor:
    return values.clamp(min=torch.finfo(values.dtype).tiny)


def _leading_eigenpair(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Leading eigenvector, first entry real and positive, and eigenvalue of (..., n, n) matrices.

    The matrices are Hermitian and positive. Six squarings do what 64 steps of power iteration do,
    and need no starting vector: any column of the power will do, the largest is taken.
    """
    power = matrix
    for _ in range(6):
        power = power / _positive(_diagonal(power).sum(-1))[..., None, None]
        power = power @ power
    chosen = _diagonal(power).argmax(-1, keepdim=True)
    vector = power.gather(-1, chosen[..., None, :].expand(*power.shape[:-1], 1))[..., 0]
    vector = vector * torch.exp(-1j * vector[..., :1].angle())
    vector = vector / _positive(_length(vector))[..., None]
    return vector, _length((matrix @ vector[..., None])[..., 0])


def _diagonal(matrix: Tensor) -> Tensor:
    return matrix.real.diagonal(dim1=-2, dim2=-1)


def _length(vector: Tensor) -> Tensor:
    # Much faster than torch's norm of complex numbers; the entries are far from overflow.
    return torch.view_as_real(vector).square().sum((-2, -1)).sqrt()
