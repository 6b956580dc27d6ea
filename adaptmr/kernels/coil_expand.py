"""``S_c x``: one image to the images that the coils see."""

from typing import Any

import torch
from torch import Tensor

from adaptmr.kernels.dispatch import (
    alike,
    multi_coil,
    reference_forced,
    require_memory,
    runs_triton,
    same_shape,
)


def reference(image: Tensor, maps: Tensor) -> Tensor:
    """The defining product in plain torch; any complex dtype."""
    return maps * image.unsqueeze(-3)


def coil_expand(image: Tensor, maps: Tensor) -> Tensor:
    """Images of the coils; the adjoint of `adaptmr.kernels.coil_reduce.coil_reduce`.

    Args:
        image: (..., readout, phase) complex.
        maps: (..., coil, readout, phase) complex, the same leading axes.

    Returns:
        (..., coil, readout, phase).

    Raises:
        TypeError: dtypes differ or are not complex.
        ValueError: shapes or devices do not fit, or there are no coils.
        MemoryError: the result does not fit in memory.
    """
    multi_coil("maps", maps)
    alike(maps=maps, image=image)
    same_shape("image", image, (*maps.shape[:-3], *maps.shape[-2:]))
    require_memory("coil_expand", maps.numel() * maps.element_size(), maps.device)
    expanded: Tensor = _coil_expand(image, maps)
    return expanded


@torch.library.custom_op("adaptmr::coil_expand", mutates_args=())
def _coil_expand(image: Tensor, maps: Tensor) -> Tensor:
    image, maps = image.resolve_conj(), maps.resolve_conj()
    if not reference_forced() and runs_triton(maps):
        from adaptmr.kernels.triton import coils

        return coils.expand(image, maps)
    return torch.mul(maps, image.unsqueeze(-3)).contiguous()


@_coil_expand.register_fake
def _(_image: Tensor, maps: Tensor) -> Tensor:
    return maps.new_empty(maps.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    del output
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    from adaptmr.kernels.coil_reduce import coil_reduce

    image, maps = ctx.saved_tensors
    wants = ctx.needs_input_grad
    return (
        coil_reduce(gradient, maps) if wants[0] else None,
        coil_expand(image.conj().resolve_conj(), gradient) if wants[1] else None,
    )


_coil_expand.register_autograd(_backward, setup_context=_setup)
