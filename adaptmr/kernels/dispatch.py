"""What all kernels share: the switch that forces the references, the doors, and who runs where.

A kernel has a reference in plain torch (any dtype, torch's own gradients), a lean path on the CPU
and, where triton is installed, one on the GPU. ``ADAPTMR_KERNELS=reference`` in the environment
makes every kernel run its reference.
"""

import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

SWITCH: Final = "ADAPTMR_KERNELS"
_REFERENCE: Final = "reference"
# Below this nobody asks how much memory there is.
_SMALL_BYTES: Final = 1 << 28


def reference_forced() -> bool:
    """Whether the environment asks for the references.

    Raises:
        ValueError: the switch has another value than ``reference``.
    """
    value = os.environ.get(SWITCH, "")
    if value not in ("", _REFERENCE):
        raise ValueError(f"{SWITCH} is {value!r}; it may only be unset or {_REFERENCE!r}")
    return value == _REFERENCE


@lru_cache(1)
def has_triton() -> bool:
    """Whether triton is installed; nothing is imported."""
    return find_spec("triton") is not None


def runs_triton(tensor: Tensor) -> bool:
    """Whether the Triton path is for this tensor: on a GPU, in single precision or below."""
    single = tensor.dtype in (torch.complex64, torch.float32, torch.float16, torch.bfloat16)
    return tensor.is_cuda and single and has_triton()


def alike(**tensors: Tensor) -> None:
    """Check that tensors have one dtype and are on one device.

    Raises:
        TypeError: dtypes differ.
        ValueError: devices differ.
    """
    (first, one), *others = tensors.items()
    for name, other in others:
        if other.dtype != one.dtype:
            raise TypeError(f"{name} is {other.dtype}, but {first} is {one.dtype}")
    same_device(**tensors)


def same_device(**tensors: Tensor) -> None:
    """Check that tensors are on one device.

    Raises:
        ValueError: they are not.
    """
    (first, one), *others = tensors.items()
    for name, other in others:
        if other.device != one.device:
            raise ValueError(f"{name} is on {other.device}, but {first} is on {one.device}")


def multi_coil(name: str, tensor: Tensor) -> None:
    """Check that a tensor is complex with axes (..., coil, readout, phase), at least one coil.

    Raises:
        TypeError: it is not complex.
        ValueError: axes are missing, or there are no coils.
    """
    if not tensor.is_complex():
        raise TypeError(f"{name} is {tensor.dtype}; it has to be complex")
    if tensor.ndim < 3:
        raise ValueError(f"{name} is {tuple(tensor.shape)}, not (..., coil, readout, phase)")
    if 0 in tensor.shape[-3:]:
        raise ValueError(f"{name} is {tuple(tensor.shape)}: no coils, or no pixels")


def same_shape(name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    """Check a shape.

    Raises:
        ValueError: it is another.
    """
    if tuple(tensor.shape) != tuple(expected):
        raise ValueError(f"{name} is {tuple(tensor.shape)}, not {tuple(expected)}")


def positions(mask: Tensor, like: Tensor) -> None:
    """Check that a mask is bool, on the device, and broadcasts over (..., readout, phase).

    Raises:
        TypeError: it is not bool.
        ValueError: it is on another device, or has another size.
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"the mask is {mask.dtype}, not bool")
    same_device(image=like, mask=mask)
    rows, columns = like.shape[-2:]
    # Not a set: sizes may be symbols, which have no hash.
    if tuple(mask.shape) not in ((1, columns), (rows, columns)):
        raise ValueError(
            f"the mask is {tuple(mask.shape)}, not {(1, columns)} or {(rows, columns)}"
        )


def require_memory(what: str, needed: int, device: torch.device) -> None:
    """Refuse what cannot fit, before anything is allocated.

    Raises:
        MemoryError: says how many bytes are needed and how many there are.
    """
    if needed < _SMALL_BYTES or torch.compiler.is_compiling():
        return
    free = _free_bytes(device)
    if free is not None and needed > free:
        raise MemoryError(f"{what} needs {needed} bytes on {device}, of which {free} are free")


def _free_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    sizes = {name: rest for name, _, rest in (line.partition(":") for line in lines)}
    kibibytes = sizes.get("MemAvailable", "").split()
    return int(kibibytes[0]) * 1024 if kibibytes else None
