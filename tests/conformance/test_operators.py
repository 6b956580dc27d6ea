"""What every linear operator of the package has to be. A new one joins `OPERATORS` by one line."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_kspace import complex_normal, line_mask, point_mask
from torch import Tensor

from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.kernels.wavelet import WaveletTransform
from adaptmr.reconstruction.classical import (
    neighbour_differences,
    neighbour_differences_adjoint,
)
from adaptmr.reconstruction.coils import mix_coils
from adaptmr.reconstruction.encoding import Encoding

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Size:
    batch: int
    coils: int
    rows: int
    columns: int
    dtype: torch.dtype

    @property
    def image(self) -> tuple[int, ...]:
        return self.batch, self.rows, self.columns

    @property
    def kspace(self) -> tuple[int, ...]:
        return self.batch, self.coils, self.rows, self.columns

    def values(self, *shape: int) -> Tensor:
        return complex_normal(shape, seed=1, dtype=self.dtype)


@dataclass(frozen=True)
class Operator:
    domain: tuple[int, ...]
    forward: Map
    adjoint: Map
    normal: Map | None = None


def encoding(size: Size, *, lines: bool) -> Operator:
    low = min(2, size.rows), min(2, size.columns)
    mask = line_mask(size.columns, low[1]) if lines else point_mask((size.rows, size.columns), low)
    operator = Encoding(size.values(*size.kspace), mask)
    return Operator(size.image, operator.forward, operator.adjoint, operator.normal)


def wavelet(size: Size, name: str) -> Operator:
    transform = WaveletTransform((size.rows, size.columns), name)
    return Operator(size.image, transform.forward, transform.adjoint, lambda image: image)


def coils(size: Size) -> Operator:
    matrix = size.values(2, size.coils)
    return Operator(size.kspace, lambda x: mix_coils(x, matrix), lambda y: mix_coils(y, matrix.mH))


OPERATORS: dict[str, Callable[[Size], Operator]] = {
    "fourier": lambda s: Operator(s.kspace, fourier, inverse_fourier, lambda x: x),
    "fourier, one axis": lambda s: Operator(
        s.kspace, lambda x: fourier(x, (-2,)), lambda y: inverse_fourier(y, (-2,)), lambda x: x
    ),
    "encoding, lines": lambda s: encoding(s, lines=True),
    "encoding, points": lambda s: encoding(s, lines=False),
    "wavelet db4": lambda s: wavelet(s, "db4"),
    "wavelet haar": lambda s: wavelet(s, "haar"),
    "wavelet db6": lambda s: wavelet(s, "db6"),
    "differences": lambda s: Operator(
        s.image, neighbour_differences, neighbour_differences_adjoint
    ),
    "mixing of coils": coils,
}

sizes = st.builds(
    Size,
    batch=st.integers(1, 2),
    coils=st.integers(1, 5),
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    dtype=st.sampled_from([torch.complex64, torch.complex128]),
)
every_operator = pytest.mark.parametrize("name", OPERATORS)


def tolerance(dtype: torch.dtype) -> float:
    return 1e-5 if dtype == torch.complex64 else 1e-12


def close(first: Tensor, second: Tensor) -> bool:
    scale = float(torch.linalg.norm(second.flatten())) + 1e-30
    difference = float(torch.linalg.norm((first - second).flatten()))
    return difference <= tolerance(first.dtype) * scale


@every_operator
@settings(max_examples=20, deadline=None)
@given(size=sizes)
def test_adjoint(name: str, size: Size) -> None:
    operator = OPERATORS[name](size)
    image = complex_normal(operator.domain, seed=2, dtype=size.dtype)
    forward = operator.forward(image)
    other = complex_normal(tuple(forward.shape), seed=3, dtype=size.dtype)
    left = torch.vdot(other.flatten(), forward.flatten())
    right = torch.vdot(operator.adjoint(other).flatten(), image.flatten())
    scale = float(torch.linalg.norm(other) * torch.linalg.norm(forward)) + 1e-30
    assert abs(left - right) <= tolerance(size.dtype) * scale


@every_operator
@settings(max_examples=10, deadline=None)
@given(size=sizes)
def test_linear(name: str, size: Size) -> None:
    operator = OPERATORS[name](size)
    first, second = (complex_normal(operator.domain, s, size.dtype) for s in (4, 5))
    factor = 0.3 - 1.7j
    expected = operator.forward(first) + factor * operator.forward(second)
    assert close(operator.forward(first + factor * second), expected)


@every_operator
@settings(max_examples=20, deadline=None)
@given(size=sizes)
def test_normal(name: str, size: Size) -> None:
    operator = OPERATORS[name](size)
    if operator.normal is None:
        pytest.skip("has no normal form of its own")
    image = complex_normal(operator.domain, seed=6, dtype=size.dtype)
    assert close(operator.normal(image), operator.adjoint(operator.forward(image)))


@every_operator
def test_layout_type_and_purity(name: str) -> None:
    size = Size(2, 3, 11, 14, torch.complex64)
    operator = OPERATORS[name](size)
    plain = complex_normal(operator.domain, seed=7, dtype=size.dtype)
    expected = operator.forward(plain)
    assert expected.dtype == size.dtype
    assert expected.device == plain.device
    wide = complex_normal((*operator.domain[:-1], 2 * operator.domain[-1]), 8, size.dtype)
    layouts = [
        wide[..., ::2].copy_(plain),
        plain.transpose(-1, -2).contiguous().transpose(-1, -2),
        plain.conj().resolve_conj().conj(),
    ]
    for layout in layouts:
        kept = layout.clone()
        assert close(operator.forward(layout), expected)
        assert torch.equal(layout, kept)
    output = expected.conj().resolve_conj().conj()
    assert close(operator.adjoint(output), operator.adjoint(expected))
    if operator.normal is not None:
        for layout in layouts:
            assert close(operator.normal(layout), operator.normal(plain))


@every_operator
def test_gradient_is_the_adjoint(name: str) -> None:
    size = Size(1, 2, 9, 12, torch.complex128)
    operator = OPERATORS[name](size)
    image = complex_normal(operator.domain, seed=9).requires_grad_()
    forward = operator.forward(image)
    cotangent = complex_normal(tuple(forward.shape), seed=10)
    (gradient,) = torch.autograd.grad(forward, image, cotangent)
    assert close(gradient, operator.adjoint(cotangent))
