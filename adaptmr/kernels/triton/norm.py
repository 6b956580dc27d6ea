"""Instance norm and leaky ReLU of images of any strides, with a pooled copy.

One pass takes shifted sums of blocks of pixels, the blocks are combined by Chan's rule, one pass
applies. Statistics are in single precision.
"""

from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

_PIXELS: Final = 256
_MOST_CHANNELS: Final = 64


@triton.jit
def _block_statistics(
    image, means, squares, rows, columns, channels, blocks,
    s_batch, s_channel, s_row, s_column,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Mean of a block's pixels and the sum of squared differences from it, for some channels."""
    block, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    pixel = block * PIXELS + tl.arange(0, PIXELS)
    inside = (pixel < rows * columns)[:, None] & (channel < channels)[None, :]
    at = (pixel // columns * s_row + pixel % columns * s_column)[:, None]
    at = batch * s_batch + at + (channel * s_channel)[None, :]
    values = tl.load(image + at, mask=inside, other=0.0).to(tl.float32)
    count = tl.minimum(rows * columns - block * PIXELS, PIXELS)
    mean = tl.sum(values, 0) / count
    away = tl.where(inside, values - mean[None, :], 0.0)
    place = (batch * blocks + block) * channels + channel
    tl.store(means + place, mean, mask=channel < channels)
    tl.store(squares + place, tl.sum(away * away, 0), mask=channel < channels)


@triton.jit
def _apply(
    image, mean, inverse, out, rows, columns, channels, slope,
    s_batch, s_channel, s_row, s_column, o_batch, o_channel, o_row, o_column,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Normalise and activate a block of pixels, for some channels."""
    batch = tl.program_id(1).to(tl.int64)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = (pixel < rows * columns)[:, None] & (channel < channels)[None, :]
    row, column = (pixel // columns)[:, None], (pixel % columns)[:, None]
    there = batch * channels + channel
    centre = tl.load(mean + there, mask=channel < channels, other=0.0)
    scale = tl.load(inverse + there, mask=channel < channels, other=0.0)
    at = batch * s_batch + row * s_row + column * s_column + (channel * s_channel)[None, :]
    values = tl.load(image + at, mask=inside, other=0.0).to(tl.float32)
    values = (values - centre[None, :]) * scale[None, :]
    values = tl.where(values > 0, values, slope * values)
    to = batch * o_batch + row * o_row + column * o_column + (channel * o_channel)[None, :]
    tl.store(out + to, values.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _apply_and_pool(
    image, mean, inverse, out, pooled, rows, columns, channels, slope,
    s_batch, s_channel, s_row, s_column, o_batch, o_channel, o_row, o_column,
    p_batch, p_channel, p_row, p_column,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """The same by 2 x 2 pixels, whose mean is stored too where all four exist."""
    batch = tl.program_id(1).to(tl.int64)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    known = (channel < channels)[None, :]
    wide = (columns + 1) // 2
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    row, column = (pixel // wide)[:, None], (pixel % wide)[:, None]
    there = batch * channels + channel
    centre = tl.load(mean + there, mask=channel < channels, other=0.0)[None, :]
    scale = tl.load(inverse + there, mask=channel < channels, other=0.0)[None, :]
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for corner in tl.static_range(4):
        r, c = 2 * row + corner // 2, 2 * column + corner % 2
        inside = (r < rows) & (c < columns) & known
        at = batch * s_batch + r * s_row + c * s_column + (channel * s_channel)[None, :]
        values = (tl.load(image + at, mask=inside, other=0.0).to(tl.float32) - centre) * scale
        values = tl.where(values > 0, values, slope * values)
        to = batch * o_batch + r * o_row + c * o_column + (channel * o_channel)[None, :]
        tl.store(out + to, values.to(out.dtype.element_ty), mask=inside)
        total += values
    full = (2 * row + 1 < rows) & (2 * column + 1 < columns) & known
    to = batch * p_batch + row * p_row + column * p_column + (channel * p_channel)[None, :]
    tl.store(pooled + to, (total * 0.25).to(pooled.dtype.element_ty), mask=full)


def instance_norm_act(
    image: Tensor, out: Tensor, epsilon: float, slope: float, *, pool: bool
) -> Tensor | None:
    """As of `adaptmr.kernels.instance_norm_act.instance_norm_act_into`."""
    batch, channels, rows, columns = image.shape
    some = min(triton.next_power_of_2(channels), _MOST_CHANNELS)
    parts = triton.cdiv(channels, some)
    size = {"PIXELS": _PIXELS, "CHANNELS": some}
    mean, inverse = _statistics(image, epsilon, size, parts)
    given = (rows, columns, channels, slope, *image.stride(), *out.stride())
    if not pool:
        grid = (triton.cdiv(rows * columns, _PIXELS), batch, parts)
        _apply[grid](image, mean, inverse, out, *given, **size)
        return None
    pooled = torch.empty(
        (batch, channels, rows // 2, columns // 2), dtype=image.dtype, device=image.device
    ).to(memory_format=torch.channels_last)
    quads = triton.cdiv(rows, 2) * triton.cdiv(columns, 2)
    grid = (triton.cdiv(quads, _PIXELS), batch, parts)
    _apply_and_pool[grid](image, mean, inverse, out, pooled, *given, *pooled.stride(), **size)
    return pooled


def _statistics(
    image: Tensor, epsilon: float, size: dict[str, int], parts: int
) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation, (batch, channels) each."""
    batch, channels, rows, columns = image.shape
    blocks = triton.cdiv(rows * columns, _PIXELS)
    means, squares = image.new_empty((2, batch, blocks, channels), dtype=torch.float32)
    _block_statistics[(blocks, batch, parts)](
        image, means, squares, rows, columns, channels, blocks, *image.stride(), **size
    )
    counts = torch.full((blocks, 1), _PIXELS, dtype=torch.float32, device=image.device)
    counts[-1] = rows * columns - (blocks - 1) * _PIXELS
    mean = (means * counts).sum(1) / (rows * columns)
    between = ((means - mean[:, None]).square() * counts).sum(1)
    variance = (squares.sum(1) + between) / (rows * columns)
    return mean, torch.rsqrt(variance + epsilon)
