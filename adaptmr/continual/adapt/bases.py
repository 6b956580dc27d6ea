"""What a change of one tensor is spanned by: modules that give nothing until they are trained.

A tensor is seen as a matrix: its first axis by all others. For a convolution these are the filters
by their weights; for a transposed one, whose first axis is that of the inputs, it is the other way
around, which spans the same changes of low rank.
"""

import math

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn


class Layer(BaseModel):
    """One tensor of a network, and how large its change may be.

    Attributes:
        name: of the parameter within the network.
        shape: of the parameter.
        inputs: its axis of input channels.
        rank: of the change; with 0 the tensor stays as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    shape: tuple[int, ...]
    inputs: int
    rank: int

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the tensor as a matrix."""
        return self.shape[0], math.prod(self.shape[1:])

    @property
    def full_rank(self) -> int:
        """The largest rank that the change can have."""
        return min(self.matrix)

    @property
    def per_rank(self) -> int:
        """Numbers that one more rank costs."""
        return sum(self.matrix)


class Everything(nn.Module):
    """Any change at all: as many numbers as the tensor has."""

    def __init__(self, layer: Layer, generator: torch.Generator, gate: bool = False) -> None:
        del generator, gate
        super().__init__()
        self.values = nn.Parameter(torch.zeros(layer.shape))

    def forward(self, base: Tensor) -> Tensor:
        """The change of ``base``, of its shape."""
        del base
        return self.values


class Scale(nn.Module):
    """A factor for each input channel, as ``1 + value``.

    The outputs of a filter are no place for factors here: the instance norm that follows most
    convolutions takes them out again.
    """

    def __init__(self, layer: Layer, generator: torch.Generator, gate: bool = False) -> None:
        del generator, gate
        super().__init__()
        shape = [1] * len(layer.shape)
        shape[layer.inputs] = layer.shape[layer.inputs]
        self.values = nn.Parameter(torch.zeros(shape))

    def forward(self, base: Tensor) -> Tensor:
        """The change of ``base``, of its shape."""
        return base * self.values

    def without(self, adapted: Tensor) -> Tensor:
        """The tensor that was scaled."""
        return adapted / (1 + self.values)


class LowRank(nn.Module):
    """``up @ down``, perhaps with a factor for each rank between them (Hu et al. 2021, LoRA).

    ``up`` is zero at first, and ``down`` as torch would begin a layer of so many inputs.
    """

    def __init__(self, layer: Layer, generator: torch.Generator, gate: bool = False) -> None:
        super().__init__()
        rows, columns = layer.matrix
        bound = 1 / math.sqrt(columns)
        down = torch.empty(layer.rank, columns).uniform_(-bound, bound, generator=generator)
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(torch.zeros(rows, layer.rank))
        self.gate = nn.Parameter(torch.ones(layer.rank)) if gate else None

    def forward(self, base: Tensor) -> Tensor:
        """The change as a matrix."""
        del base
        down = self.down if self.gate is None else self.gate[:, None] * self.down
        return self.up @ down


class FixedDown(LowRank):
    """`LowRank` whose ``down`` has orthonormal rows that are never trained.

    Only the outputs' side is learned, after Orthogonal Adaptation (Po et al. 2024,
    arXiv:2312.02432), with random rows in place of disjoint ones.
    """

    def __init__(self, layer: Layer, generator: torch.Generator, gate: bool = False) -> None:
        super().__init__(layer, generator, gate)
        rows = torch.linalg.qr(torch.randn(self.down.T.shape, generator=generator)).Q.T
        self.down = nn.Parameter(rows.contiguous(), requires_grad=False)


class Spectrum(nn.Module):
    """Few coefficients at random places of the matrix, to be transformed (FourierFT).

    Gao et al. 2024, arXiv:2405.03003: with an inverse Fourier transform after it, each coefficient
    is a wave over the whole matrix.
    """

    places: Tensor

    def __init__(self, layer: Layer, generator: torch.Generator, gate: bool = False) -> None:
        del gate
        super().__init__()
        self.matrix = layer.matrix
        size = math.prod(self.matrix)
        count = min(size, layer.rank * layer.per_rank)  # as many numbers as low rank has
        places = torch.randperm(size, generator=generator)[:count]
        self.register_buffer("places", places)
        self.values = nn.Parameter(torch.zeros(count))

    def forward(self, base: Tensor) -> Tensor:
        """The coefficients as a matrix."""
        flat = torch.zeros(math.prod(self.matrix), dtype=base.dtype, device=base.device)
        matrix: Tensor = flat.index_put((self.places,), self.values).view(self.matrix)
        return matrix


def waves(matrix: Tensor) -> Tensor:
    """Real part of the inverse Fourier transform of a matrix, orthonormal."""
    real: Tensor = torch.fft.ifft2(matrix, norm="ortho").real
    return real
