"""Fold the shifts of centred transforms into maps and data, once, for any size.

With ``c = N // 2`` and the diagonal ``D_n = exp(2 pi i c n / N)`` a centred transform is
``s D F D`` with the plain transform F and ``s = exp(-2 pi i c^2 / N)``. So with ``S' = D S`` and
``k' = conj(s D) k`` the encoding is ``k' = M F S' x``: no shifts are left, the mask keeps its
order, and the normal operator and the magnitude of coil images are what they were.

For masks of lines the transform along the readout does not mix what the mask tells apart: it is
inverted once, and each row is then a problem of its own with a transform along the phase axis.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptmr.kernels.dispatch import alike, multi_coil, positions, require_memory, same_shape
from adaptmr.kernels.fourier import inverse_fourier


@dataclass(frozen=True, eq=False)
class Folded:
    """Encoding whose transforms need no shifts.

    Attributes:
        maps: (..., coil, readout, phase) complex, with the phases of the image side.
        data: the same shape: k-space with the phases of the other side; for masks of lines
            transformed to images along the readout.
        mask: (1, phase) or (readout, phase) bool.
    """

    maps: Tensor
    data: Tensor
    mask: Tensor

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes that are transformed between images and `data`."""
        return transformed_axes(self.mask)


def transformed_axes(mask: Tensor) -> tuple[int, ...]:
    """The axes along which a (1, phase) or (readout, phase) mask tells positions apart."""
    return (-1,) if mask.shape[0] == 1 else (-2, -1)


def centre_phase(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``exp(2 pi i c n / N)`` with ``c = N // 2``: (size,) complex.

    Args:
        size: N.
        dtype: complex; the phase is found in double precision.
        device: where.
    """
    turns = (size // 2 * torch.arange(size, device=device)) % size
    angle = 2 * math.pi * turns.double() / size
    return torch.polar(torch.ones_like(angle), angle).to(dtype)


def image_phase(maps: Tensor, mask: Tensor) -> Tensor:
    """``D`` of maps (..., readout, phase) and their mask; broadcasts over the maps."""
    rows, columns = maps.shape[-2:]
    phase = centre_phase(columns, maps.dtype, maps.device)
    if mask.shape[0] != 1:
        phase = phase * centre_phase(rows, maps.dtype, maps.device)[:, None]
    return phase


def fold_maps(maps: Tensor, mask: Tensor) -> Tensor:
    """``D S``: (..., coil, readout, phase), contiguous."""
    return (maps * image_phase(maps, mask)).contiguous()


def fold_centering(maps: Tensor, kspace: Tensor, mask: Tensor) -> Folded:
    """Fold maps and k-space; once per slice.

    Args:
        maps: (..., coil, readout, phase) complex.
        kspace: the same shape and dtype, centred, zero outside the mask.
        mask: (1, phase) bool for lines, (readout, phase) for points.

    Raises:
        TypeError: dtypes differ or are not complex, or the mask is not bool.
        ValueError: shapes or devices do not fit, or there are no coils.
        MemoryError: the result does not fit in memory.
    """
    multi_coil("maps", maps)
    alike(maps=maps, kspace=kspace)
    same_shape("kspace", kspace, tuple(maps.shape))
    positions(mask, maps)
    require_memory("fold_centering", 2 * maps.numel() * maps.element_size(), maps.device)
    return Folded(fold_maps(maps, mask), fold_data(kspace, mask), mask)


def fold_data(kspace: Tensor, mask: Tensor) -> Tensor:
    """``conj(s D) k``, transformed along the readout where the mask is of lines."""
    rows, columns = kspace.shape[-2:]
    device = kspace.device
    phase = _data_phase(columns, device)
    if mask.shape[0] == 1:
        return inverse_fourier(kspace, (-2,)) * phase.to(kspace.dtype)
    return kspace * (phase * _data_phase(rows, device)[:, None]).to(kspace.dtype)


def _data_phase(size: int, device: torch.device) -> Tensor:
    """``conj(s D)``, (size,) complex128."""
    centre = size // 2
    angle = 2 * math.pi * (centre * centre % size) / size
    scalar = complex(math.cos(angle), math.sin(angle))
    return centre_phase(size, torch.complex128, device).conj() * scalar
