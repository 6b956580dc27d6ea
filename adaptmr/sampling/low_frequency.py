"""The low-frequency acquisition: all that is known of a slice before a mask is chosen.

A `LowFrequency` is cut out of k-space first and made from the cut alone, so nothing outside the
block, not even its largest value, can reach what follows.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from adaptmr.data.positions import centred_block
from adaptmr.data.scan import Scan
from adaptmr.errors import BadInputError
from adaptmr.kernels.energy import energy
from adaptmr.kernels.fourier import inverse_fourier


@dataclass(frozen=True, eq=False)
class LowFrequency:
    """Low-frequency data of a batch of slices.

    Attributes:
        image: (batch, rows, columns) real, root-sum-of-squares of the zero-filled coil images of
            the block alone, divided by ``scale``; its maximum is 1, or 0 where nothing was
            received.
        scale: (batch,) the maximum of that image before division, in the units of the images; 1
            where it is zero.
        block: (rows, columns) acquired about the centre; for lines the rows are the whole readout.
        kspace: (batch, coil, block rows, block columns) complex, the block as measured.
    """

    image: Tensor
    scale: Tensor
    block: tuple[int, int]
    kspace: Tensor

    @property
    def batch(self) -> int:
        """Number of slices."""
        return self.image.shape[0]

    @property
    def coils(self) -> int:
        """Number of receive coils."""
        return self.kspace.shape[1]

    @property
    def matrix(self) -> tuple[int, int]:
        """Size of the slices' k-space and images: (rows, columns)."""
        return self.image.shape[1], self.image.shape[2]

    @property
    def region(self) -> tuple[slice, slice]:
        """Index of the block within k-space of size ``matrix``."""
        return block_region(self.matrix, self.block)

    @property
    def coil_images(self) -> Tensor:
        """(batch, coil, rows, columns) complex zero-filled images, in the units of the k-space."""
        return _coil_images(self.kspace, self.matrix, self.block)

    @cached_property
    def fingerprints(self) -> tuple[str, ...]:
        """sha256 of each slice's block, matrix and data: what a decision was made from."""
        head = repr((self.matrix, self.block, tuple(self.kspace.shape[1:]), self.kspace.dtype))
        data = torch.view_as_real(self.kspace.detach().cpu().resolve_conj()).contiguous().numpy()
        return tuple(hashlib.sha256(head.encode() + part.tobytes()).hexdigest() for part in data)

    def __getitem__(self, index: slice) -> "LowFrequency":
        """Some of the slices."""
        return replace(
            self, image=self.image[index], scale=self.scale[index], kspace=self.kspace[index]
        )

    def to(self, device: torch.device | str) -> "LowFrequency":
        """The same data on another device."""
        return replace(
            self,
            image=self.image.to(device),
            scale=self.scale.to(device),
            kspace=self.kspace.to(device),
        )


def acquire(kspace: Tensor, block: tuple[int, int]) -> LowFrequency:
    """Acquire the low-frequency block of slices, retrospectively.

    Args:
        kspace: (batch, coil, readout, phase) complex; only the block is looked at.
        block: (rows, columns) about the centre; `block_of` makes it of a mask's block.

    Raises:
        BadInputError: the k-space has no such block, or values in the block are not finite.
    """
    if kspace.ndim != 4 or not kspace.is_complex():
        raise BadInputError(
            "low-frequency data come from complex k-space of a batch of slices",
            field="kspace",
            got=f"{kspace.dtype} of shape {tuple(kspace.shape)}",
            expected="complex (batch, coil, readout, phase)",
        )
    matrix = (kspace.shape[-2], kspace.shape[-1])
    rows, columns = block_region(matrix, block)
    # A copy: a view would keep all of the k-space within reach.
    measured = kspace[..., rows, columns].clone()
    if not bool(torch.isfinite(torch.view_as_real(measured)).all()):
        raise BadInputError(
            "the low-frequency data are not finite",
            field="kspace",
            got=f"{int((~torch.isfinite(measured)).sum())} NaN or infinite of {measured.numel()}",
            expected="finite numbers",
            hint="Export the scan again, or leave the slice out",
        )
    image = energy(_coil_images(measured, matrix, block), (1,)).sqrt()
    scale = image.amax(dim=(-2, -1))
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return LowFrequency(image / scale[:, None, None], scale, block, measured)


def acquire_scan(scan: Scan, block: tuple[int, int]) -> LowFrequency:
    """Acquire the low-frequency block of all slices of a scan.

    Slices are read one by one and only their blocks are kept. The scan may be undersampled, so
    long as it holds the block.

    Args:
        scan: the scan.
        block: (rows, columns) about the centre.

    Raises:
        BadInputError: the block was not acquired, reaches into zero padding, or is not finite.
    """
    region = block_region(scan.matrix, block)
    held = (scan.acquired & scan.encoded).expand(scan.matrix)[region]
    if not bool(held.all()):
        raise BadInputError(
            "the scan does not hold the low-frequency block",
            file=scan.name,
            field="acquired",
            got=f"{int(held.sum())} of {held.numel()} positions of the block",
            expected="all of them",
            hint="Choose a smaller block, or acquire the centre of k-space fully",
        )
    parts = [acquire(scan.kspace[index : index + 1], block) for index in range(scan.slices)]
    return LowFrequency(
        torch.cat([part.image for part in parts]),
        torch.cat([part.scale for part in parts]),
        block,
        torch.cat([part.kspace for part in parts]),
    )


def block_of(low_frequency: tuple[int, ...], matrix: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of a mask's block, ``Mask.low_frequency``: lines take the whole readout."""
    return (matrix[0], low_frequency[0]) if len(low_frequency) == 1 else _pair(low_frequency)


def block_region(matrix: tuple[int, int], block: tuple[int, int]) -> tuple[slice, slice]:
    """Index of a block of (rows, columns) within k-space of size ``matrix``.

    Raises:
        BadInputError: the block is empty or larger than the matrix.
    """
    if not all(1 <= length <= size for length, size in zip(block, matrix, strict=True)):
        raise BadInputError(
            "the matrix has no such low-frequency block",
            field="block",
            got=tuple(block),
            expected=f"from (1, 1) to {tuple(matrix)}",
            hint="Choose a low-frequency share that leaves at least one position",
        )
    return centred_block(matrix[0], block[0]), centred_block(matrix[1], block[1])


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = sizes
    return rows, columns


def _coil_images(measured: Tensor, matrix: tuple[int, int], block: tuple[int, int]) -> Tensor:
    """Zero-filled images, one axis after the other: no transforms of columns that are all zero."""
    rows, columns = block_region(matrix, block)
    tall = measured.new_zeros(*measured.shape[:-2], matrix[0], block[1])
    tall[..., rows, :] = measured
    wide = measured.new_zeros(*measured.shape[:-2], *matrix)
    wide[..., columns] = inverse_fourier(tall, (-2,))
    return inverse_fourier(wide, (-1,))
