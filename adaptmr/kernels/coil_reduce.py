"""``sum_c conj(S_c) z_c``: images of the coils to one image."""

from typing import Any

import torch
from torch import Tensor

from adaptmr.kernels.coil_expand import coil_expand
from adaptmr.kernels.dispatch import alike, multi_coil, reference_forced, runs_triton, same_shape


def reference(coils: Tensor, maps: Tensor) -> Tensor:
    """The defining sum in plain torch; any complex dtype."""
    return (maps.conj() * coils).sum(-3)


def coil_reduce(coils: Tensor, maps: Tensor) -> Tensor:
    """One image of the coils' images; the adjoint of `adaptmr.kernels.coil_expand.coil_expand`.

    Args:
        coils: (..., coil, readout, phase) complex.
        maps: the same shape and dtype.

    Returns:
        (..., readout, phase).

    Raises:
        TypeError: dtypes differ or are not complex.
        ValueError: shapes or devices do not fit, or there are no coils.
    """
    multi_coil("maps", maps)
    alike(maps=maps, coils=coils)
    same_shape("coils", coils, tuple(maps.shape))
    reduced: Tensor = _coil_reduce(coils, maps)
    return reduced


@torch.library.custom_op("adaptmr::coil_reduce", mutates_args=())
def _coil_reduce(coils: Tensor, maps: Tensor) -> Tensor:
    coils, maps = coils.resolve_conj(), maps.resolve_conj()
    if reference_forced():
        return reference(coils, maps).resolve_conj().contiguous()
    if runs_triton(maps):
        from adaptmr.kernels.triton import coils as launchers

        return launchers.reduce(coils, maps)
    return _summed(coils, maps)


def _summed(coils: Tensor, maps: Tensor) -> Tensor:
    """Coil by coil: no array of the size of all coils is made."""
    total = torch.zeros_like(coils.select(-3, 0), memory_format=torch.contiguous_format)
    for coil in range(coils.shape[-3]):
        conjugate = torch.conj_physical(maps.select(-3, coil))
        total.addcmul_(conjugate, coils.select(-3, coil))
    return total


@_coil_reduce.register_fake
def _(coils: Tensor, _maps: Tensor) -> Tensor:
    return coils.new_empty((*coils.shape[:-3], *coils.shape[-2:]))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    del output
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    coils, maps = ctx.saved_tensors
    wants = ctx.needs_input_grad
    return (
        coil_expand(gradient, maps) if wants[0] else None,
        coil_expand(gradient.conj().resolve_conj(), coils) if wants[1] else None,
    )


_coil_reduce.register_autograd(_backward, setup_context=_setup)
