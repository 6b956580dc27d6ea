"""Instance norm without parameters, then leaky ReLU: one kernel, for channels-last images too.

On a CPU torch's own instance norm turns channels-last images around, and its group norm sums them
naively, which loses digits. Here rows of ``phase * channels`` numbers are summed: by compiled
loops where `adaptmr.kernels.compiled` has them, by calls of torch elsewhere, some rows at a time,
so that they stay in the cache between the passes.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from adaptmr.kernels import compiled
from adaptmr.kernels.dispatch import (
    alike,
    reference_forced,
    require_memory,
    runs_triton,
    same_shape,
)

# Numbers that are worked on at once on a CPU: they stay in the second-level cache.
_BLOCK: Final = 1 << 17
# Squared mean over variance above which the variance is found from differences from the mean.
_FAR_FROM_ZERO: Final = 16.0


def reference(image: Tensor, epsilon: float, slope: float) -> Tensor:
    """The defining formula in plain torch; half precisions are computed in single."""
    wide = image.float() if image.dtype.itemsize == 2 else image
    variance, mean = torch.var_mean(wide, (-2, -1), correction=0, keepdim=True)
    normalised = (wide - mean) * torch.rsqrt(variance + epsilon)
    return functional.leaky_relu(normalised, slope).to(image.dtype)


def instance_norm_act(image: Tensor, epsilon: float = 1e-5, slope: float = 0.2) -> Tensor:
    """Normalise each channel of each image, then leaky ReLU.

    Args:
        image: (batch, channels, rows, columns) real, contiguous or channels-last.
        epsilon: added to the variance.
        slope: of the negative side.

    Returns:
        The same shape, dtype and memory format.

    Raises:
        TypeError: the image is complex or of integers.
        ValueError: it has other than four axes, or no pixels.
        MemoryError: the result does not fit in memory.
    """
    _images(image)
    require_memory("instance_norm_act", image.numel() * image.element_size(), image.device)
    activated: Tensor = _instance_norm_act(image, epsilon, slope)
    return activated


def instance_norm_act_into(
    image: Tensor, out: Tensor, epsilon: float = 1e-5, slope: float = 0.2, *, pool: bool = False
) -> Tensor | None:
    """The same into given memory, for inference: no gradients.

    Args:
        image: (batch, channels, rows, columns) real.
        out: the same shape and dtype; the image itself, or a slice of the channels of a wider
            tensor, too.
        epsilon: added to the variance.
        slope: of the negative side.
        pool: whether a copy, averaged over 2 x 2 pixels, is wanted.

    Returns:
        (batch, channels, rows // 2, columns // 2) channels-last, where wanted.

    Raises:
        TypeError: dtypes differ, or are complex or of integers.
        ValueError: shapes or devices do not fit.
    """
    _images(image)
    alike(image=image, out=out)
    same_shape("out", out, tuple(image.shape))
    if not reference_forced() and runs_triton(image):
        from adaptmr.kernels.triton import norm

        return norm.instance_norm_act(image, out, epsilon, slope, pool=pool)
    if reference_forced():
        out.copy_(reference(image, epsilon, slope))
    elif image.device.type == "cpu" and _has_rows(image):
        for one, into in zip(image.permute(0, 2, 3, 1), out.permute(0, 2, 3, 1), strict=True):
            norm_rows(one.flatten(1)[None], epsilon, slope, into[:, None])
    else:
        normalised = torch.group_norm(image.contiguous(), image.shape[1], eps=epsilon)
        out.copy_(functional.leaky_relu_(normalised, slope))
    return _pooled(out) if pool else None


def norm_rows(parts: Tensor, epsilon: float, slope: float, out: Tensor) -> None:
    """Normalise each channel of one channels-last image on a CPU, then leaky ReLU.

    Args:
        parts: (parts, rows, columns * channels) real, contiguous; an image whose rows lie apart
            where there are several parts.
        epsilon: added to the variance.
        slope: of the negative side.
        out: (rows, parts, columns, channels) of any strides: row after row, one of each part; the
            memory of the image, too, where there is one part.
    """
    channels = out.shape[-1]
    if compiled.runs_compiled(parts):
        into = out if out.is_contiguous() else torch.empty(out.shape)
        compiled.norm_rows(parts, channels, epsilon, slope, into.flatten(2))
        if into is not out:
            out.copy_(into)
        return
    norm = _row_norm(parts.flatten(0, 1), channels, epsilon)
    for which, rows in enumerate(parts):
        norm.apply(rows, slope, out[:, which])


@dataclass(frozen=True, eq=False)
class _RowNorm:
    """What normalises rows of channels-last pixels: ``(rows - shift) * factor + addend``.

    Attributes:
        factor: (columns * channels,) in single precision at least.
        addend: the same.
        shift: the same; None where values are so near zero that the addend alone is as accurate.
    """

    factor: Tensor
    addend: Tensor
    shift: Tensor | None

    def apply(self, rows: Tensor, slope: float, out: Tensor) -> None:
        """Normalise and activate.

        Args:
            rows: (rows, columns * channels) real.
            slope: of the negative side.
            out: (rows, columns, channels) of any strides; may be the rows themselves.
        """
        dense = out[0].is_contiguous() and rows.dtype == self.factor.dtype
        flat = out.flatten(1) if dense else None
        for some in _blocks(rows):
            into = None if flat is None else flat[some]
            block = rows[some]
            if self.shift is not None:
                block = torch.sub(block, self.shift, out=into)
            done = torch.addcmul(self.addend, block, self.factor, out=into)
            functional.leaky_relu_(done, slope)
            if flat is None:
                out[some] = done.view(len(block), *out.shape[1:])


def _row_norm(rows: Tensor, channels: int, epsilon: float) -> _RowNorm:
    """Statistics of rows of channels-last pixels.

    Args:
        rows: (rows, columns * channels) real, on a CPU.
        channels: numbers of a pixel.
        epsilon: added to the variance.
    """
    width = rows.shape[1] // channels
    pixels = len(rows) * width
    mean, squares = _sums(rows, None).view(2, width, channels).sum(1) / pixels
    variance = squares - mean.square()
    if bool((mean.square() > _FAR_FROM_ZERO * variance).any()):
        shift = mean.repeat(width)
        mean, squares = _sums(rows, shift).view(2, width, channels).sum(1) / pixels
        variance = squares - mean.square()
    else:
        shift = None
    factor = torch.rsqrt(variance + epsilon)
    return _RowNorm(factor.repeat(width), (-mean * factor).repeat(width), shift)


def _pooled(image: Tensor) -> Tensor:
    """Averages of 2 x 2 pixels; a convolution is faster on CPUs, as fast pooling is not needed."""
    rows, columns = image.shape[-2:]
    if image.device.type != "cpu" or rows < 2 or columns < 2:
        return functional.avg_pool2d(image, 2)
    quarter = image.new_full((image.shape[1], 1, 2, 2), 0.25)
    return functional.conv2d(image, quarter, stride=2, groups=image.shape[1])


def _sums(rows: Tensor, shift: Tensor | None) -> Tensor:
    """Sums over the rows of the numbers and of their squares, after a shift: two rows."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    some = _blocks(rows)
    squares = rows.new_zeros((some[0].stop, rows.shape[1]), dtype=wide)
    totals = rows.new_empty((len(some), rows.shape[1]), dtype=wide)
    for block, total in zip((rows[one] for one in some), totals, strict=True):
        near = block.to(wide) if shift is None else block - shift
        torch.sum(near, 0, out=total)
        squares[: len(near)].addcmul_(near, near)
    return torch.stack((totals.sum(0), squares.sum(0)))


def _blocks(rows: Tensor) -> list[slice]:
    step = min(len(rows), max(1, _BLOCK // rows.shape[1]))
    return [slice(start, start + step) for start in range(0, len(rows), step)]


def _has_rows(image: Tensor) -> bool:
    """Channels last, densely."""
    return image.shape[1] > 1 and image.permute(0, 2, 3, 1).is_contiguous()


def _images(image: Tensor) -> None:
    if not image.is_floating_point():
        raise TypeError(f"the image is {image.dtype}; it has to be real")
    if image.ndim != 4 or 0 in image.shape:
        raise ValueError(f"the image is {tuple(image.shape)}, not (batch, channels, rows, columns)")


@torch.library.custom_op("adaptmr::instance_norm_act", mutates_args=())
def _instance_norm_act(image: Tensor, epsilon: float, slope: float) -> Tensor:
    out = torch.empty_like(image)
    instance_norm_act_into(image, out, epsilon, slope)
    return out


@_instance_norm_act.register_fake
def _(image: Tensor, _epsilon: float, _slope: float) -> Tensor:
    return torch.empty_like(image)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    del output
    image, epsilon, slope = inputs
    ctx.save_for_backward(image)
    ctx.epsilon, ctx.slope = epsilon, slope


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    """``rstd (g' - mean(g') - xh mean(g' xh))`` with ``g' = g`` or ``slope g``."""
    (image,) = ctx.saved_tensors
    wide = torch.promote_types(image.dtype, torch.float32)
    variance, mean = torch.var_mean(image.to(wide), (-2, -1), correction=0, keepdim=True)
    inverse = torch.rsqrt(variance + ctx.epsilon)
    normalised = (image.to(wide) - mean) * inverse
    slope = ctx.slope
    passed = torch.where(normalised > 0, gradient.to(wide), gradient.to(wide) * slope)
    along = (passed * normalised).mean((-2, -1), keepdim=True)
    back = inverse * (passed - passed.mean((-2, -1), keepdim=True) - normalised * along)
    return back.to(image.dtype), None, None


_instance_norm_act.register_autograd(_backward, setup_context=_setup)
