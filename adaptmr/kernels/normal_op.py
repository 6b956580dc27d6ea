"""``sum_c conj(S_c) F^H M F S_c x``: the normal operator of Cartesian multi-coil encoding.

The transforms are plain, without shifts: maps that were folded by
`adaptmr.kernels.centering.fold_centering` make them those of centred k-space. For masks of lines
the transform along the readout cancels, and each row is an operator of its own.
"""

from itertools import product
from typing import Any

import torch
from torch import Tensor

from adaptmr.kernels.centering import transformed_axes
from adaptmr.kernels.coil_expand import coil_expand
from adaptmr.kernels.coil_reduce import coil_reduce
from adaptmr.kernels.dispatch import (
    alike,
    multi_coil,
    positions,
    reference_forced,
    require_memory,
    runs_triton,
    same_shape,
)

# Complex numbers that are worked on at once on a CPU: they stay in the second-level cache.
_BLOCK = 1 << 15


def _filtered(coils: Tensor, mask: Tensor) -> Tensor:
    """``F^H M F`` of each coil's image, in plain torch."""
    kspace = torch.fft.fftn(coils, dim=transformed_axes(mask), norm="ortho")
    filtered: Tensor = torch.fft.ifftn(
        torch.where(mask, kspace, torch.zeros((), dtype=kspace.dtype, device=kspace.device)),
        dim=transformed_axes(mask),
        norm="ortho",
    )
    return filtered


def reference(image: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    """The defining formula in plain torch; any complex dtype."""
    return (maps.conj() * _filtered(maps * image.unsqueeze(-3), mask)).sum(-3)


def normal_op(image: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    """Apply the normal operator; self-adjoint and positive.

    Args:
        image: (..., readout, phase) complex.
        maps: (..., coil, readout, phase) complex, folded; the same leading axes.
        mask: (1, phase) bool for lines or (readout, phase) for points, in the order of the folded
            k-space, which is that of the centred one.

    Returns:
        (..., readout, phase).

    Raises:
        TypeError: dtypes differ or are not complex, or the mask is not bool.
        ValueError: shapes or devices do not fit, or there are no coils.
        MemoryError: it does not fit in memory.
    """
    multi_coil("maps", maps)
    alike(maps=maps, image=image)
    same_shape("image", image, (*maps.shape[:-3], *maps.shape[-2:]))
    positions(mask, image)
    if maps.is_cuda:
        require_memory("normal_op", 2 * maps.numel() * maps.element_size(), maps.device)
    applied: Tensor = _normal_op(image, maps, mask)
    return applied


@torch.library.custom_op("adaptmr::normal_op", mutates_args=())
def _normal_op(image: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    image, maps = image.resolve_conj(), maps.resolve_conj()
    if reference_forced():
        return reference(image, maps, mask).resolve_conj().contiguous()
    if maps.is_cuda:
        return _on_gpu(image, maps, mask)
    result = torch.empty_like(image, memory_format=torch.contiguous_format)
    each = _by_rows if mask.shape[0] == 1 else _by_coils
    for one in product(*map(range, image.shape[:-2])):  # views: maps may be expanded
        each(image[one], maps[one], mask, result[one])
    return result


def _weighted(kspace: Tensor, weights: Tensor) -> Tensor:
    """K-space times real weights, one for each real and imaginary part: fast long rows."""
    kspace = kspace.contiguous()  # strides follow those of the maps; what flatten copied is lost
    torch.view_as_real(kspace).flatten(-2).mul_(weights)
    return kspace


def _by_rows(image: Tensor, maps: Tensor, mask: Tensor, out: Tensor) -> None:
    """Lines: some rows of all coils at a time."""
    rows, columns = image.shape
    weights = (mask[0].to(image.real.dtype) / columns).repeat_interleave(2)
    step = max(1, _BLOCK // (len(maps) * columns))
    for start in range(0, rows, step):
        some = slice(start, start + step)
        sensitivities = maps[:, some]
        kspace = _weighted(torch.fft.fft(sensitivities * image[some]), weights)
        coils = torch.fft.ifft(kspace, norm="forward")
        coils *= torch.conj_physical(sensitivities)
        torch.sum(coils, 0, out=out[some])


def _by_coils(image: Tensor, maps: Tensor, mask: Tensor, out: Tensor) -> None:
    """Points: one coil at a time."""
    weights = (mask.to(image.real.dtype) / mask.numel()).repeat_interleave(2, 1)
    out.zero_()
    for sensitivities in maps:
        kspace = _weighted(torch.fft.fft2(sensitivities * image), weights)
        coil = torch.fft.ifft2(kspace, norm="forward")
        out.addcmul_(coil, torch.conj_physical(sensitivities))


def _on_gpu(image: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    kspace = torch.fft.fftn(coil_expand(image, maps), dim=transformed_axes(mask), norm="ortho")
    if runs_triton(kspace):
        from adaptmr.kernels.triton import coils

        coils.keep_only_(kspace, mask)
    else:
        kspace.masked_fill_(~mask, 0)
    return coil_reduce(torch.fft.ifftn(kspace, dim=transformed_axes(mask), norm="ortho"), maps)


@_normal_op.register_fake
def _(image: Tensor, _maps: Tensor, _mask: Tensor) -> Tensor:
    return image.new_empty(image.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    del output
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    """``N`` for the image; ``B(S x) conj(g) + B(S g) conj(x)`` for the maps, ``B = F^H M F``."""
    image, maps, mask = ctx.saved_tensors
    wants = ctx.needs_input_grad
    of_image = normal_op(gradient, maps, mask) if wants[0] else None
    if not wants[1]:
        return of_image, None, None
    of_maps = _filtered(coil_expand(image, maps), mask) * gradient.conj().unsqueeze(-3)
    of_maps = of_maps + _filtered(coil_expand(gradient, maps), mask) * image.conj().unsqueeze(-3)
    return of_image, of_maps, None


_normal_op.register_autograd(_backward, setup_context=_setup)
