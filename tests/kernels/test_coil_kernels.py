"""Expansion, reduction, normal operator and folding against plain formulas in complex128."""

from collections.abc import Callable

import pytest
import torch
from made_operands import MATRICES, complex_numbers, every_size, layouts, masks
from torch import Tensor
from torch.autograd import gradcheck
from torch.library import opcheck

from adaptmr.kernels import coil_expand, coil_reduce, normal_op, soft_dc
from adaptmr.kernels.centering import fold_centering
from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.kernels.instance_norm_act import instance_norm_act

EXPAND, REDUCE, NORMAL = coil_expand.coil_expand, coil_reduce.coil_reduce, normal_op.normal_op


def defining_normal(image: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    kspace = fourier(maps * image.unsqueeze(-3))
    kept = torch.where(mask, kspace, torch.zeros((), dtype=kspace.dtype))
    return (maps.conj() * inverse_fourier(kept)).sum(-3)


@pytest.mark.parametrize(("coils", "matrix"), every_size())
def test_expand_and_reduce_are_adjoint_and_as_defined(coils: int, matrix: tuple[int, int]) -> None:
    maps, image = complex_numbers(2, coils, *matrix), complex_numbers(2, *matrix, seed=1)
    others = complex_numbers(2, coils, *matrix, seed=2)
    expanded = maps * image[:, None]
    reduced = (maps.conj() * others).sum(1)
    for one, several, same in zip(layouts(image), layouts(others), layouts(maps), strict=True):
        torch.testing.assert_close(EXPAND(one, same), expanded)
        torch.testing.assert_close(REDUCE(several, same), reduced)
    left = torch.vdot(EXPAND(image, maps).flatten(), others.flatten())
    torch.testing.assert_close(left, torch.vdot(image.flatten(), REDUCE(others, maps).flatten()))


@pytest.mark.parametrize(("coils", "matrix"), every_size())
def test_folded_normal_operator_is_that_of_centred_kspace(
    coils: int, matrix: tuple[int, int]
) -> None:
    maps, image = complex_numbers(2, coils, *matrix), complex_numbers(2, *matrix, seed=1)
    for mask in masks(*matrix).values():
        folded = fold_centering(maps, torch.zeros_like(maps), mask)
        expected = defining_normal(image, maps, mask)
        for one, same in zip(layouts(image), layouts(folded.maps), strict=True):
            torch.testing.assert_close(NORMAL(one, same, mask), expected)
        torch.testing.assert_close(normal_op.reference(image, folded.maps, mask), expected)


@pytest.mark.parametrize("matrix", MATRICES)
def test_folded_data_are_the_coil_images_but_for_a_phase(matrix: tuple[int, int]) -> None:
    maps = complex_numbers(1, 3, *matrix)
    for mask in masks(*matrix).values():
        kept = torch.where(mask, complex_numbers(1, 3, *matrix, seed=3), 0)
        folded = fold_centering(maps, kept, mask)
        images = torch.fft.ifftn(folded.data, dim=folded.axes, norm="ortho")
        torch.testing.assert_close(images.abs(), inverse_fourier(kept).abs())
        start = REDUCE(images, folded.maps)  # the adjoint: phases cancel
        torch.testing.assert_close(start, (maps.conj() * inverse_fourier(kept)).sum(1))


def test_normal_operator_is_self_adjoint_and_bounded() -> None:
    maps, image = complex_numbers(4, 12, 10), complex_numbers(12, 10, seed=1)
    other = complex_numbers(12, 10, seed=2)
    for name, mask in masks(12, 10).items():
        applied = NORMAL(image, maps, mask)
        left, right = torch.vdot(other.flatten(), applied.flatten()), NORMAL(other, maps, mask)
        torch.testing.assert_close(left, torch.vdot(right.flatten(), image.flatten()))
        assert float(torch.vdot(image.flatten(), applied.flatten()).real) >= -1e-12
        if name.startswith("all"):
            torch.testing.assert_close(applied, maps.abs().square().sum(0) * image)


@pytest.mark.parametrize("matrix", [(33, 27), (34, 38), (1, 1)])
def test_soft_data_consistency(matrix: tuple[int, int]) -> None:
    kspace, measured, update = (complex_numbers(2, 3, *matrix, seed=s) for s in range(3))
    for eta in (0.0, 0.3, 1.0):
        step = torch.tensor(eta, dtype=torch.float64)
        for mask in masks(*matrix).values():
            poisoned = torch.where(mask, measured, torch.nan)
            expected = torch.where(mask, kspace + eta * (measured - kspace), kspace) - update
            for one in layouts(kspace):
                found = soft_dc.soft_dc(one, poisoned, update, mask, step)
                torch.testing.assert_close(found, expected)
            torch.testing.assert_close(
                soft_dc.reference(kspace, measured, update, mask, step), expected
            )


def operators(mask: Tensor) -> dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]]:
    image, maps, kspace, other = (
        complex_numbers(*shape, seed=seed)
        for seed, shape in enumerate([(2, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5)])
    )
    step = torch.tensor(0.7, dtype=torch.float64)
    return {
        "coil_expand": (EXPAND, (image, maps)),
        "coil_reduce": (REDUCE, (kspace, maps)),
        "normal_op": (NORMAL, (image, maps, mask)),
        "soft_dc": (soft_dc.soft_dc, (kspace, maps, other, mask, step)),
    }


@pytest.mark.parametrize("kind", ["lines", "points"])
@pytest.mark.parametrize("name", ["coil_expand", "coil_reduce", "normal_op", "soft_dc"])
def test_gradients_and_registration(name: str, kind: str) -> None:
    function, operands = operators(masks(4, 5)[kind])[name]
    leaves = [one if one.dtype == torch.bool else one.clone().requires_grad_() for one in operands]
    assert gradcheck(function, leaves)
    operator = getattr(torch.ops.adaptmr, name).default
    opcheck(operator, tuple(leaves))
    strided = [one if one.ndim < 3 else next(iter(list(layouts(one))[2:])) for one in operands]
    opcheck(operator, tuple(strided))


@pytest.mark.parametrize("name", ["coil_expand", "coil_reduce", "normal_op", "soft_dc"])
def test_reference_can_be_forced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, operands = operators(masks(4, 5)["lines"])[name]
    lean = function(*operands)
    monkeypatch.setenv("ADAPTMR_KERNELS", "reference")
    torch.testing.assert_close(function(*operands), lean)
    monkeypatch.setenv("ADAPTMR_KERNELS", "fast")
    with pytest.raises(ValueError, match="ADAPTMR_KERNELS"):
        function(*operands)


def test_bad_operands_are_refused() -> None:
    maps, image = complex_numbers(3, 4, 5), complex_numbers(4, 5)
    lines = torch.ones(1, 5, dtype=torch.bool)
    with pytest.raises(TypeError, match="image is torch"):
        EXPAND(image.to(torch.complex64), maps)
    with pytest.raises(TypeError, match="complex"):
        REDUCE(maps.real, maps.real)
    with pytest.raises(ValueError, match="no coils"):
        EXPAND(image, maps[:0])
    with pytest.raises(ValueError, match="image is"):
        NORMAL(image[:3], maps, lines)
    with pytest.raises(TypeError, match="bool"):
        NORMAL(image, maps, lines.float())
    with pytest.raises(ValueError, match="the mask is"):
        NORMAL(image, maps, lines[:, :4])
    with pytest.raises(ValueError, match="on meta"):
        NORMAL(image, maps, lines.to("meta"))
    with pytest.raises(ValueError, match="on meta"):
        EXPAND(image.to("meta"), maps)
    with pytest.raises(TypeError, match="step_size"):
        soft_dc.soft_dc(maps, maps, maps, lines, torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["lines", "points"])
@pytest.mark.parametrize("name", ["coil_expand", "coil_reduce", "normal_op", "soft_dc", "fold"])
def test_every_operand_has_to_fit_the_others(name: str, kind: str) -> None:
    mask = masks(4, 5)[kind]
    maps = complex_numbers(2, 3, 4, 5)
    listed = {**operators(mask), "fold": (fold_centering, (maps, maps, mask))}
    function, operands = listed[name]
    for place, one in enumerate(operands):
        other = one.float() if one.dtype in (torch.bool, torch.float64) else one.cfloat()
        wrong = {"dtype": (TypeError, other), "device": (ValueError, one.to("meta"))}
        if one.ndim > 2:
            wrong["shape"] = (ValueError, one[..., :-1])
        for error, instead in wrong.values():
            with pytest.raises(error, match=r"not|but|mask|complex"):
                function(*operands[:place], instead, *operands[place + 1 :])
    coilless = [one[:, :0] if one.ndim == 4 else one for one in operands]
    with pytest.raises(ValueError, match="no coils"):
        function(*coilless)


def test_what_cannot_fit_says_how_many_bytes_it_needs() -> None:
    size = 1 << 20
    maps = torch.zeros(1, 1, 1, dtype=torch.complex64).expand(64, size, size)
    image, mask = maps[0], torch.ones(1, 1, dtype=torch.bool).expand(1, size)
    step, needed = torch.ones(()), 64 * size * size * 8
    for run, bytes_ in [
        (lambda: EXPAND(image, maps), needed),
        (lambda: soft_dc.soft_dc(maps, maps, maps, mask, step), needed),
        (lambda: fold_centering(maps, maps, mask), 2 * needed),
        (lambda: instance_norm_act(maps.real[None]), needed // 2),
    ]:
        with pytest.raises(MemoryError, match=f" {bytes_} bytes"):
            run()
