"""What every reconstructor has to keep. A new one joins `RECONSTRUCTORS` by one line."""

import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from made_kspace import line_mask, made_kspace, point_mask
from torch import Tensor

from adaptmr.data.weights import initialise
from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.reconstruction.classical import CGSense, L1Wavelet, TotalVariation, ZeroFilled
from adaptmr.reconstruction.networks.checkpoint import build
from adaptmr.reconstruction.networks.unet import UNetConfig
from adaptmr.reconstruction.networks.varnet import VarNetConfig
from adaptmr.reconstruction.reconstructor import Reconstructor
from adaptmr.reconstruction.sensitivity import LowResolutionMaps
from adaptmr.sampling.mask import Mask

VARNET = VarNetConfig(cascades=3, channels=4, pools=2, map_channels=4, map_pools=2)


@dataclass(frozen=True)
class Case:
    reconstruct: Reconstructor
    shifts: bool = True
    """Whether a circular shift of the object shifts the image and changes nothing else."""
    phases: bool = True
    """Whether a constant phase of the k-space leaves the image as it is."""


def network(architecture: UNetConfig | VarNetConfig) -> Reconstructor:
    built = build(architecture, seed=0)
    initialise(built, seed=1)  # the cascades of a new VarNet say nothing yet
    return built.double().requires_grad_(False)


RECONSTRUCTORS: dict[str, Case] = {
    "zero-filled": Case(ZeroFilled()),
    "cg-sense": Case(CGSense()),
    "cg-sense, low-resolution maps": Case(CGSense(maps=LowResolutionMaps())),
    "wavelet": Case(L1Wavelet(iterations=20), shifts=False),
    "tv": Case(TotalVariation(iterations=20)),
    "unet": Case(network(UNetConfig(channels=4, pools=2)), shifts=False),
    "varnet": Case(network(VARNET), shifts=False, phases=False),
}

MATRICES = [(32, 28), (27, 33)]
every_reconstructor = pytest.mark.parametrize("name", RECONSTRUCTORS)
every_matrix = pytest.mark.parametrize("matrix", MATRICES, ids=str)
every_axes = pytest.mark.parametrize("axes", [1, 2], ids=["lines", "points"])


def mask_of(matrix: tuple[int, int], axes: int) -> Mask:
    return line_mask(matrix[1], 10) if axes == 1 else point_mask(matrix, (12, 11))


def close(image: Tensor, expected: Tensor, tolerance: float) -> bool:
    difference = torch.linalg.norm(image - expected)
    return bool(difference <= tolerance * torch.linalg.norm(expected))


@every_reconstructor
@every_matrix
@every_axes
def test_shape_type_and_finite(name: str, matrix: tuple[int, int], axes: int) -> None:
    for dtype, real in ((torch.complex64, torch.float32), (torch.complex128, torch.float64)):
        for coils in (1, 4):
            kspace = made_kspace(2, coils, matrix, dtype)
            image = RECONSTRUCTORS[name].reconstruct(kspace, mask_of(matrix, axes))
            assert image.shape == (2, *matrix)
            assert image.dtype == real
            assert bool(torch.isfinite(image).all())
            assert bool((image >= 0).all())


@every_reconstructor
@every_axes
@pytest.mark.parametrize("factor", [2.0**-30, 1.7e-6, 3.1e5])
def test_scales_with_its_input(name: str, axes: int, factor: float) -> None:
    for dtype, tolerance in ((torch.complex64, 1e-3), (torch.complex128, 1e-8)):
        kspace, mask = made_kspace(2, 3, (27, 30), dtype), mask_of((27, 30), axes)
        reconstruct = RECONSTRUCTORS[name].reconstruct
        assert close(
            reconstruct(factor * kspace, mask), factor * reconstruct(kspace, mask), tolerance
        )


@every_reconstructor
def test_samples_scale_on_their_own(name: str) -> None:
    kspace, mask = made_kspace(2, 3, (28, 30)), mask_of((28, 30), 2)
    reconstruct = RECONSTRUCTORS[name].reconstruct
    factors = torch.tensor([1e-4, 30.0], dtype=torch.float64).view(2, 1, 1)
    scaled = reconstruct(kspace * factors[..., None], mask)
    for image, expected in zip(scaled, reconstruct(kspace, mask) * factors, strict=True):
        assert close(image, expected, 1e-8)


@every_reconstructor
@every_matrix
@every_axes
def test_shifts_with_the_object(name: str, matrix: tuple[int, int], axes: int) -> None:
    if not RECONSTRUCTORS[name].shifts:
        pytest.skip("depends on where the object is")
    kspace, mask = made_kspace(1, 4, matrix), mask_of(matrix, axes)
    shifted = fourier(inverse_fourier(kspace).roll((3, -5), (-2, -1)))
    reconstruct = RECONSTRUCTORS[name].reconstruct
    expected = reconstruct(kspace, mask).roll((3, -5), (-2, -1))
    assert close(reconstruct(shifted, mask), expected, 1e-7)


@every_reconstructor
def test_ignores_a_constant_phase(name: str) -> None:
    if not RECONSTRUCTORS[name].phases:
        pytest.skip("depends on the phase")
    kspace, mask = made_kspace(1, 4, (28, 30)), mask_of((28, 30), 2)
    reconstruct = RECONSTRUCTORS[name].reconstruct
    assert close(reconstruct(kspace * np.exp(0.8j), mask), reconstruct(kspace, mask), 1e-7)


@every_reconstructor
@every_axes
def test_uses_nothing_outside_the_mask(name: str, axes: int) -> None:
    kspace, mask = made_kspace(2, 3, (27, 30), torch.complex64), mask_of((27, 30), axes)
    outside = ~mask.tensor().expand(27, 30)
    reconstruct = RECONSTRUCTORS[name].reconstruct
    expected = reconstruct(kspace, mask)
    for value in (0.0, -1e6, 7j, float("nan"), float("inf")):
        assert torch.equal(reconstruct(kspace.masked_fill(outside, value), mask), expected)


@every_reconstructor
@every_axes
def test_a_batch_is_its_samples(name: str, axes: int) -> None:
    kspace, mask = made_kspace(3, 4, (28, 27)), mask_of((28, 27), axes)
    reconstruct = RECONSTRUCTORS[name].reconstruct
    together = reconstruct(kspace, mask)
    for index in range(3):
        alone = reconstruct(kspace[index : index + 1], mask)
        assert close(together[index : index + 1], alone, 1e-8)


@every_reconstructor
def test_nothing_in_nothing_out(name: str) -> None:
    kspace, mask = made_kspace(2, 3, (28, 27), torch.complex64), mask_of((28, 27), 2)
    kspace[0] = 0
    images = RECONSTRUCTORS[name].reconstruct(kspace, mask)
    assert bool((images[0] == 0).all())
    assert bool((images[1] > 0).any())


@every_reconstructor
def test_any_layout_and_input_unchanged(name: str) -> None:
    kspace, mask = made_kspace(2, 3, (28, 27), torch.complex64), mask_of((28, 27), 1)
    reconstruct = RECONSTRUCTORS[name].reconstruct
    expected = reconstruct(kspace, mask)
    wide = torch.zeros(2, 3, 28, 54, dtype=kspace.dtype)
    layouts = [
        wide[..., ::2].copy_(kspace),
        kspace.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
        kspace.conj().resolve_conj().conj(),
    ]
    for layout in layouts:
        kept = layout.clone()
        assert close(reconstruct(layout, mask), expected, 1e-4)
        assert torch.equal(layout, kept)


@every_reconstructor
def test_leaves_the_global_random_state(name: str) -> None:
    kspace, mask = made_kspace(1, 3, (28, 27), torch.complex64), mask_of((28, 27), 1)
    reconstruct = RECONSTRUCTORS[name].reconstruct
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    first = reconstruct(kspace, mask)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert torch.equal(reconstruct(kspace, mask), first)


@every_reconstructor
def test_is_a_reconstructor(name: str) -> None:
    assert isinstance(RECONSTRUCTORS[name].reconstruct, Reconstructor)
