"""Steps of data consistency: each reads and writes every number once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


@triton.jit
def _dc_step(
    start, sigma, rho, update, energy, normal, step_size,
    image, new_sigma, new_rho, numbers, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Real and imaginary parts alike: two numbers share one energy."""
    offset = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < numbers
    kept = 1.0 - tl.load(step_size)
    added = tl.load(update + offset, mask=inside, other=0.0)
    s = tl.load(sigma + offset, mask=inside, other=0.0) + added
    r = kept * tl.load(rho + offset, mask=inside, other=0.0) + added
    e = tl.load(energy + offset // 2, mask=inside, other=0.0)
    x = tl.load(start + offset, mask=inside, other=0.0) - e * s
    x -= tl.load(normal + offset, mask=inside, other=0.0)
    tl.store(image + offset, x, mask=inside)
    tl.store(new_sigma + offset, s, mask=inside)
    tl.store(new_rho + offset, r, mask=inside)


@triton.jit
def _soft_dc(
    kspace, measured, update, mask, step_size, out, pixels, columns,
    LINES: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """What was measured is read only where the mask is set."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < pixels
    position = offset % columns if LINES else offset
    acquired = tl.load(mask + position, mask=inside, other=0) != 0
    eta = tl.load(step_size)
    for part in tl.static_range(2):
        at = 2 * (tl.program_id(1).to(tl.int64) * pixels + offset) + part
        value = tl.load(kspace + at, mask=inside, other=0.0)
        was = tl.load(measured + at, mask=inside & acquired, other=0.0)
        pulled = tl.where(acquired, value - eta * (value - was), value)
        subtracted = tl.load(update + at, mask=inside, other=0.0)
        tl.store(out + at, pulled - subtracted, mask=inside)


def dc_step(
    start: Tensor,
    sigma: Tensor,
    rho: Tensor,
    update: Tensor,
    energy: Tensor,
    normal: Tensor,
    step_size: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """As of `adaptmr.kernels.image_dc_step.image_dc_step`, complex64."""
    given = [torch.view_as_real(one.contiguous()) for one in (start, sigma, rho, update, normal)]
    made = [torch.empty_like(start, memory_format=torch.contiguous_format) for _ in range(3)]
    image, new_sigma, new_rho = made
    numbers = 2 * start.numel()
    _dc_step[(triton.cdiv(numbers, _BLOCK),)](
        *given[:4],
        energy.contiguous(),
        given[4],
        step_size,
        *(torch.view_as_real(one) for one in made),
        numbers,
        BLOCK=_BLOCK,
    )
    return image, new_sigma, new_rho


def soft_dc(
    kspace: Tensor, measured: Tensor, update: Tensor, mask: Tensor, step_size: Tensor
) -> Tensor:
    """As of `adaptmr.kernels.soft_dc.soft_dc`, complex64."""
    given = [torch.view_as_real(one.contiguous()) for one in (kspace, measured, update)]
    out = torch.empty_like(kspace, memory_format=torch.contiguous_format)
    rows, columns = kspace.shape[-2:]
    pixels = rows * columns
    _soft_dc[(triton.cdiv(pixels, _BLOCK), kspace.numel() // pixels)](
        *given,
        mask.contiguous().view(torch.uint8),
        step_size,
        torch.view_as_real(out),
        pixels,
        columns,
        LINES=mask.shape[0] == 1,
        BLOCK=_BLOCK,
    )
    return out
