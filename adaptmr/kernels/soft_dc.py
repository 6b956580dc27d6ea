"""Soft data consistency in k-space: ``k - eta M (k - k0) - a``.

For networks whose cascades need multi-coil k-space; those that see coil-combined images use
`adaptmr.kernels.image_dc_step`.
"""

from typing import Any

import torch
from torch import Tensor

from adaptmr.kernels.dispatch import (
    alike,
    multi_coil,
    positions,
    reference_forced,
    require_memory,
    runs_triton,
    same_device,
    same_shape,
)


def reference(
    kspace: Tensor, measured: Tensor, update: Tensor, mask: Tensor, step_size: Tensor
) -> Tensor:
    """The defining formula in plain torch; any complex dtype."""
    zero = torch.zeros((), dtype=kspace.dtype, device=kspace.device)
    return kspace - torch.where(mask, kspace - measured, zero) * step_size - update


def soft_dc(
    kspace: Tensor, measured: Tensor, update: Tensor, mask: Tensor, step_size: Tensor
) -> Tensor:
    """Pull k-space towards what was measured, and subtract an update; 1 makes it hard.

    Args:
        kspace: (..., coil, readout, phase) complex.
        measured: the same shape and dtype; only read where the mask is set.
        update: the same shape and dtype.
        mask: (1, phase) or (readout, phase) bool.
        step_size: one real number, eta.

    Returns:
        K-space of the same shape.

    Raises:
        TypeError: dtypes do not fit, or the mask is not bool.
        ValueError: shapes or devices do not fit, or there are no coils.
        MemoryError: the result does not fit in memory.
    """
    multi_coil("kspace", kspace)
    alike(kspace=kspace, measured=measured, update=update)
    same_shape("measured", measured, tuple(kspace.shape))
    same_shape("update", update, tuple(kspace.shape))
    positions(mask, kspace)
    same_device(kspace=kspace, step_size=step_size)
    if step_size.dtype != kspace.real.dtype or step_size.numel() != 1:
        raise TypeError(
            f"step_size is {step_size.dtype} of {step_size.numel()} numbers,"
            f" not one of {kspace.real.dtype}"
        )
    require_memory("soft_dc", kspace.numel() * kspace.element_size(), kspace.device)
    pulled: Tensor = _soft_dc(kspace, measured, update, mask, step_size.reshape(()))
    return pulled


@torch.library.custom_op("adaptmr::soft_dc", mutates_args=())
def _soft_dc(
    kspace: Tensor, measured: Tensor, update: Tensor, mask: Tensor, step_size: Tensor
) -> Tensor:
    kspace, measured, update = (one.resolve_conj() for one in (kspace, measured, update))
    if reference_forced():
        return reference(kspace, measured, update, mask, step_size).contiguous()
    if runs_triton(kspace):
        from adaptmr.kernels.triton import images

        return images.soft_dc(kspace, measured, update, mask, step_size)
    # (1 - w) k + w k0 - a; what was not measured may hold anything, NaN too.
    result = torch.sub(kspace, update).contiguous()
    if mask.shape[0] == 1:
        columns = mask[0].nonzero()[:, 0]
        towards = measured[..., columns] - kspace[..., columns]
        return result.index_add_(-1, columns, towards * step_size)
    flat, where = result.flatten(-2), mask.flatten().nonzero()[:, 0]
    towards = measured.flatten(-2)[..., where] - kspace.flatten(-2)[..., where]
    flat.index_add_(-1, where, towards * step_size)
    return result


@_soft_dc.register_fake
def _(
    kspace: Tensor, _measured: Tensor, _update: Tensor, _mask: Tensor, _step_size: Tensor
) -> Tensor:
    return kspace.new_empty(kspace.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    del output
    kspace, measured, _update, mask, step_size = inputs
    ctx.save_for_backward(kspace, measured, mask, step_size)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, Tensor]:
    """``(1 - eta M) g``, ``eta M g``, ``-g`` and ``-Re sum conj(g) M (k - k0)``."""
    kspace, measured, mask, step_size = ctx.saved_tensors
    zero = torch.zeros((), dtype=gradient.dtype, device=gradient.device)
    pulled = torch.where(mask, gradient, zero) * step_size
    away = torch.where(mask, kspace - measured, zero)
    of_step = -(gradient.conj() * away).real.sum()
    return gradient - pulled, pulled, -gradient, None, of_step


_soft_dc.register_autograd(_backward, setup_context=_setup)
