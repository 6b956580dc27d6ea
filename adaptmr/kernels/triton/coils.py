"""Coil expansion, reduction and masking: each reads and writes every number once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 512


@triton.jit
def _expand(image, maps, out, pixels, coils, BLOCK: tl.constexpr):  # noqa: N803
    """``S_c x``; the program's pixels of the image stay in registers over the coils."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < pixels
    batch = tl.program_id(1).to(tl.int64)
    at = 2 * (batch * pixels + offset)
    real = tl.load(image + at, mask=inside, other=0.0)
    imaginary = tl.load(image + at + 1, mask=inside, other=0.0)
    coil = tl.program_id(2)
    place = 2 * ((batch * coils + coil) * pixels + offset)
    s_real = tl.load(maps + place, mask=inside, other=0.0)
    s_imaginary = tl.load(maps + place + 1, mask=inside, other=0.0)
    tl.store(out + place, s_real * real - s_imaginary * imaginary, mask=inside)
    tl.store(out + place + 1, s_real * imaginary + s_imaginary * real, mask=inside)


@triton.jit
def _reduce(coil_images, maps, out, pixels, COILS: tl.constexpr, BLOCK: tl.constexpr):  # noqa: N803
    """``sum_c conj(S_c) z_c`` in registers."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < pixels
    batch = tl.program_id(1).to(tl.int64)
    real = tl.zeros((BLOCK,), tl.float32)
    imaginary = tl.zeros((BLOCK,), tl.float32)
    for coil in range(COILS):
        place = 2 * ((batch * COILS + coil) * pixels + offset)
        s_real = tl.load(maps + place, mask=inside, other=0.0)
        s_imaginary = tl.load(maps + place + 1, mask=inside, other=0.0)
        z_real = tl.load(coil_images + place, mask=inside, other=0.0)
        z_imaginary = tl.load(coil_images + place + 1, mask=inside, other=0.0)
        real += s_real * z_real + s_imaginary * z_imaginary
        imaginary += s_real * z_imaginary - s_imaginary * z_real
    at = 2 * (batch * pixels + offset)
    tl.store(out + at, real, mask=inside)
    tl.store(out + at + 1, imaginary, mask=inside)


@triton.jit
def _keep_only(kspace, mask, pixels, columns, LINES: tl.constexpr, BLOCK: tl.constexpr):  # noqa: N803
    """Zero outside the mask, in place; what is kept is neither read nor written."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < pixels
    position = offset % columns if LINES else offset
    kept = tl.load(mask + position, mask=inside, other=1) != 0
    at = 2 * (tl.program_id(1).to(tl.int64) * pixels + offset)
    zero = tl.zeros((BLOCK,), tl.float32)
    tl.store(kspace + at, zero, mask=inside & ~kept)
    tl.store(kspace + at + 1, zero, mask=inside & ~kept)


def expand(image: Tensor, maps: Tensor) -> Tensor:
    """As of `adaptmr.kernels.coil_expand.coil_expand`, complex64."""
    image, maps = image.contiguous(), maps.contiguous()
    coils, pixels = maps.shape[-3], image.shape[-2] * image.shape[-1]
    out = torch.empty_like(maps)
    grid = (triton.cdiv(pixels, _BLOCK), image.numel() // pixels, coils)
    _expand[grid](*_floats(image, maps, out), pixels, coils, BLOCK=_BLOCK)
    return out


def reduce(coils: Tensor, maps: Tensor) -> Tensor:
    """As of `adaptmr.kernels.coil_reduce.coil_reduce`, complex64."""
    coils, maps = coils.contiguous(), maps.contiguous()
    number, pixels = coils.shape[-3], coils.shape[-2] * coils.shape[-1]
    out = coils.new_empty((*coils.shape[:-3], *coils.shape[-2:]))
    grid = (triton.cdiv(pixels, _BLOCK), out.numel() // pixels)
    _reduce[grid](*_floats(coils, maps, out), pixels, COILS=number, BLOCK=_BLOCK)
    return out


def keep_only_(kspace: Tensor, mask: Tensor) -> Tensor:
    """Set contiguous complex64 k-space to zero outside a (1, phase) or (readout, phase) mask."""
    rows, columns = kspace.shape[-2:]
    grid = (triton.cdiv(rows * columns, _BLOCK), kspace.numel() // (rows * columns))
    (floats,) = _floats(kspace)
    _keep_only[grid](
        floats,
        mask.contiguous().view(torch.uint8),
        rows * columns,
        columns,
        LINES=mask.shape[0] == 1,
        BLOCK=_BLOCK,
    )
    return kspace


def _floats(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.view_as_real(one) for one in tensors)
