"""Operands that tests of the kernels share."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

MATRICES = [(33, 27), (34, 38), (7, 13), (1, 1)]
COILS = [1, 3, 15]


def complex_numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex128) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def masks(rows: int, columns: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "none": torch.zeros(1, columns, dtype=torch.bool),
        "all lines": torch.ones(1, columns, dtype=torch.bool),
        "all points": torch.ones(rows, columns, dtype=torch.bool),
        "lines": torch.rand(1, columns, generator=generator) < 0.4,
        "points": torch.rand(rows, columns, generator=generator) < 0.4,
    }


def layouts(tensor: Tensor) -> Iterator[Tensor]:
    """The same values: contiguous, a slice of something wider, transposed, lazily conjugated."""
    yield tensor.contiguous()
    wide = torch.full((*tensor.shape[:-1], tensor.shape[-1] + 3), torch.nan, dtype=tensor.dtype)
    wide[..., 1:-2] = tensor
    yield wide[..., 1:-2]
    yield tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    if tensor.is_complex():
        yield tensor.conj().resolve_conj().conj()


def every_size() -> list[tuple[int, tuple[int, int]]]:
    return list(itertools.product(COILS, MATRICES))
