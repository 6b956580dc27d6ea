"""The Triton paths on CPU tensors, in triton's interpreter; a process of its own, started by
test_triton_kernels.py with TRITON_INTERPRET=1. Prints each case's largest relative difference."""

import itertools
import json
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from adaptmr.kernels import coil_expand, coil_reduce, image_dc_step, instance_norm_act, soft_dc
from adaptmr.kernels.triton import coils, images, norm


def different(found: Tensor, expected: Tensor) -> float:
    scale = float(expected.abs().max()) or 1.0
    return float((found.to(expected.dtype) - expected).abs().max()) / scale


def cases() -> dict[str, Callable[[], float]]:
    made: dict[str, Callable[[], float]] = {}
    torch.manual_seed(0)
    for count, (rows, columns) in itertools.product((1, 3), ((33, 27), (34, 37), (40, 64))):
        name = f"{count} coils of {rows}x{columns}"
        maps = torch.randn(2, count, rows, columns, dtype=torch.complex64)
        other = torch.randn(2, count, columns, rows, dtype=torch.complex64).mT
        image = torch.randn(2, rows, columns, dtype=torch.complex64)
        made[f"expand {name}"] = lambda i=image, m=maps: different(
            coils.expand(i, m), coil_expand.reference(i, m)
        )
        made[f"reduce {name}"] = lambda z=other, m=maps: different(
            coils.reduce(z, m), coil_reduce.reference(z, m)
        )
        four = [torch.randn_like(image) for _ in range(4)]
        energy = torch.rand(2, rows, columns)
        step = torch.tensor(0.7)
        made[f"step {name}"] = lambda i=image, f=four, e=energy, s=step: max(
            different(*pair)
            for pair in zip(
                images.dc_step(i, *f[:3], e, f[3], s),
                image_dc_step.reference(i, *f[:3], e, f[3], s),
                strict=True,
            )
        )
        for kind, mask in masks(rows, columns).items():
            poisoned = torch.where(mask, maps, torch.nan)  # what was not measured is not read
            made[f"soft dc {kind} {name}"] = lambda k=other, p=poisoned, m=mask, o=maps, s=step: (
                different(images.soft_dc(k, p, o, m, s), soft_dc.reference(k, p, o, m, s))
            )
            made[f"keep {kind} {name}"] = lambda k=maps, m=mask: different(
                coils.keep_only_(k.clone(), m), torch.where(m, k, 0)
            )
    for channels, size, pool in itertools.product((1, 3, 18), ((1, 1), (7, 9), (17, 12)), (0, 1)):
        for layout, mean in itertools.product(("dense", "channels last", "slice"), (0.3, 30.0)):
            image = torch.randn(2, channels, *size) + mean
            wide = torch.full((2, 2 * channels, *size), torch.nan)
            if layout != "dense":
                image = image.contiguous(memory_format=torch.channels_last)
                wide = wide.to(memory_format=torch.channels_last)
            out = wide[:, channels:] if layout == "slice" else torch.full_like(image, torch.nan)
            made[f"norm {channels} {size} {pool} {layout} mean {mean}"] = (
                lambda i=image, o=out, p=pool: normalised(i, o, bool(p))
            )
    return made


def masks(rows: int, columns: int) -> dict[str, Tensor]:
    return {
        "none": torch.zeros(1, columns, dtype=torch.bool),
        "all": torch.ones(rows, columns, dtype=torch.bool),
        "lines": torch.arange(columns)[None] % 3 == 0,
        "points": torch.rand(rows, columns) < 0.3,
    }


def normalised(image: Tensor, out: Tensor, pool: bool) -> float:
    expected = instance_norm_act.reference(image.double(), 1e-5, 0.2).float()
    pooled = norm.instance_norm_act(image, out, 1e-5, 0.2, pool=pool)
    found = [different(out, expected)]
    if pooled is not None and pooled.numel():
        found.append(different(pooled, torch.nn.functional.avg_pool2d(expected, 2)))
    return max(found)


json.dump({name: case() for name, case in cases().items()}, sys.stdout)
