"""Convolutions of an inference-only U-Net: weights arranged once for channels-last images.

On a CPU, oneDNN's own operators take weights that were rearranged before and add to what is in the
output already, which saves the copy of a concatenation. They are torch's, but not public: where
they are missing the public ones do the same.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS_LAST = torch.channels_last


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution of odd kernel that keeps the size, by torch's public operators."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, module: nn.Conv2d, dtype: torch.dtype, part: slice = slice(None)) -> "Convolution":
        """From a layer, or from those of its input channels that ``part`` names."""
        weight = module.weight.detach()[:, part].to(dtype)
        bias = None if module.bias is None else module.bias.detach().to(dtype)
        if weight.device.type == "cpu" and dtype in _packed_dtypes():
            return PackedConvolution(weight, bias)
        return cls(weight.contiguous(memory_format=CHANNELS_LAST), bias)

    def __call__(self, image: Tensor) -> Tensor:
        """(batch, channels, rows, columns), channels-last, to the same size."""
        return functional.conv2d(image, self.weight, self.bias, padding=self.weight.shape[-1] // 2)

    def add_to(self, total: Tensor, image: Tensor) -> Tensor:
        """``total + self(image)``, in the memory of ``total``."""
        return total.add_(self(image))


@dataclass(frozen=True, eq=False)
class PackedConvolution(Convolution):
    """The same by oneDNN's operators, with weights rearranged for the size of the last image."""

    _last: dict[torch.Size, Tensor] = field(default_factory=dict)

    def __call__(self, image: Tensor) -> Tensor:
        """As of `Convolution`."""
        convolved: Tensor = _onednn()._convolution_pointwise(
            image, self._packed(image), self.bias, *self._geometry, "none", [], ""
        )
        return convolved

    def add_to(self, total: Tensor, image: Tensor) -> Tensor:
        """As of `Convolution`."""
        added: Tensor = _onednn()._convolution_pointwise_.binary(
            total, image, self._packed(image), self.bias, *self._geometry, "add", 1.0, None, [], ""
        )
        return added

    def _packed(self, image: Tensor) -> Tensor:
        """Weights as oneDNN wants them for this size; in another order they cost far more."""
        found = self._last.get(image.shape)
        if found is None:
            arrange: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            found = arrange(self.weight.contiguous().to_mkldnn(), *self._geometry, image.shape)
            self._last.clear()
            self._last[image.shape] = found
        return found

    @property
    def _geometry(self) -> tuple[list[int], list[int], list[int], int]:
        padding = self.weight.shape[-1] // 2
        return [padding, padding], [1, 1], [1, 1], 1


def _onednn() -> Any:
    return torch.ops.mkldnn


def _packed_dtypes() -> tuple[torch.dtype, ...]:
    """What oneDNN's own operators are used for; nothing where this torch lacks them."""
    if not (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")
        and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    ):
        return ()
    return (torch.float32, torch.bfloat16)
