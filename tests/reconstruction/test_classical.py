from pathlib import Path

import h5py
import numpy as np
import pytest
import sigpy.mri as mr
import torch
from made_kspace import line_mask, made_kspace, phantom, point_mask, smooth_maps
from torch import Tensor

from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.kernels.wavelet import WaveletTransform
from adaptmr.reconstruction.classical import (
    CGSense,
    L1Wavelet,
    TotalVariation,
    ZeroFilled,
    neighbour_differences,
)
from adaptmr.reconstruction.coils import root_sum_of_squares
from adaptmr.reconstruction.encoding import Encoding
from adaptmr.reconstruction.methods import Method, reconstructor
from adaptmr.reconstruction.reconstructor import Reconstructor
from adaptmr.reconstruction.sensitivity import Espirit
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.mask import Mask


def nrmse(image: Tensor, other: Tensor) -> float:
    return float(torch.linalg.norm(image - other) / torch.linalg.norm(other))


def nmse(image: Tensor, target: Tensor) -> float:
    return nrmse(image, target) ** 2


class Problem:
    """One slice with maps that are given, for us and for sigpy."""

    def __init__(self, kspace: Tensor, maps: Tensor, mask: Mask) -> None:
        self.kspace, self.mask = mask.apply(kspace), mask
        self.encoding = Encoding(maps, mask)
        self.weights = mask.tensor().expand(maps.shape[-2:]).numpy().astype(np.float32)

    def maps(self, *_: object) -> Tensor:
        return self.encoding.maps

    def sigpy(self, app: type, weight: float, iterations: int) -> Tensor:
        image = app(
            self.kspace[0].numpy(),
            self.encoding.maps[0].numpy(),
            lamda=weight,
            weights=self.weights,
            max_iter=iterations,
            show_pbar=False,
        ).run()
        return torch.from_numpy(image)[None]

    def misfit(self, image: Tensor) -> float:
        return float(torch.linalg.norm(self.encoding.forward(image) - self.kspace) ** 2 / 2)


def made_problem(axes: int) -> Problem:
    matrix = (48, 44)
    kspace = made_kspace(1, 4, matrix)
    mask = line_mask(44, 12, 0.35) if axes == 1 else point_mask(matrix, (12, 12), 0.3)
    return Problem(kspace, smooth_maps(4, matrix, torch.complex128)[None], mask)


def real_problem(shared_data: Path, name: str, kind: MaskKind) -> Problem:
    with h5py.File(shared_data / "kspace" / f"{name}.h5") as file:
        kspace = torch.from_numpy(file["kspace"][:1])
    spec = MaskSpec(kind=kind, acceleration=4)
    mask = make_mask(spec, (kspace.shape[-2], kspace.shape[-1]), seed=0)
    return Problem(kspace, Espirit()(kspace, mask), mask)


def check_cg_sense(problem: Problem) -> None:
    method = CGSense(maps=problem.maps)
    ours = method.image(problem.kspace, problem.mask)
    assert nrmse(ours, problem.sigpy(mr.app.SenseRecon, method.weight, 100)) < 0.01


def check_wavelet(problem: Problem) -> None:
    method = L1Wavelet(maps=problem.maps, iterations=200, tolerance=1e-5)
    weight = float(method.absolute_weight(problem.kspace, problem.mask))
    ours = method.image(problem.kspace, problem.mask)
    other = problem.sigpy(mr.app.L1WaveletRecon, weight, 400)
    assert nrmse(ours, other) < 0.01
    transform = WaveletTransform((ours.shape[-2], ours.shape[-1]))

    def objective(image: Tensor) -> float:
        return problem.misfit(image) + weight * float(transform.forward(image).abs().sum())

    assert objective(ours) <= objective(other) * (1 + 1e-4)


def check_total_variation(problem: Problem, iterations: int) -> None:
    method = TotalVariation(maps=problem.maps, iterations=iterations, tolerance=0)
    weight = float(method.absolute_weight(problem.kspace, problem.mask))
    ours = method.image(problem.kspace, problem.mask)
    other = problem.sigpy(mr.app.TotalVariationRecon, weight, 3 * iterations)
    assert nrmse(ours, other) < 0.01

    def objective(image: Tensor) -> float:
        penalty = float(neighbour_differences(image).abs().sum())
        return problem.misfit(image) + weight * penalty

    assert objective(ours) <= objective(other) * (1 + 1e-3)


@pytest.mark.parametrize("axes", [1, 2], ids=["lines", "points"])
def test_cg_sense_equals_sigpy(axes: int) -> None:
    check_cg_sense(made_problem(axes))


@pytest.mark.parametrize("axes", [1, 2], ids=["lines", "points"])
def test_wavelet_equals_sigpy(axes: int) -> None:
    check_wavelet(made_problem(axes))


@pytest.mark.parametrize("axes", [1, 2], ids=["lines", "points"])
def test_total_variation_equals_sigpy(axes: int) -> None:
    check_total_variation(made_problem(axes), 800)


REAL = [
    ("brain_16ch_96", MaskKind.VARIABLE_DENSITY_2D),
    ("brain_gre_16ch", MaskKind.VARIABLE_DENSITY_1D),
    ("brain_8ch", MaskKind.VARIABLE_DENSITY_2D),
    ("brain_t2_1ch", MaskKind.VARIABLE_DENSITY_2D),
]


@pytest.mark.parametrize(("name", "kind"), REAL)
@pytest.mark.slow
def test_cg_sense_and_wavelet_equal_sigpy_on_real_scans(
    shared_data: Path, name: str, kind: MaskKind
) -> None:
    problem = real_problem(shared_data, name, kind)
    check_cg_sense(problem)
    check_wavelet(problem)


@pytest.mark.slow
def test_total_variation_equals_sigpy_on_a_real_scan(shared_data: Path) -> None:
    check_total_variation(real_problem(shared_data, *REAL[0]), 600)


NOISY = "brain_gre_bodycoil_2ch"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [MaskKind.VARIABLE_DENSITY_2D, MaskKind.VARIABLE_DENSITY_1D])
def test_wavelet_beats_zero_filled_on_real_scans(shared_data: Path, kind: MaskKind) -> None:
    for path in sorted((shared_data / "kspace").glob("*.h5")):
        with h5py.File(path) as file:
            kspace = torch.from_numpy(file["kspace"][:])
            target = torch.from_numpy(file["reconstruction_rss"][:])
        matrix = (kspace.shape[-2], kspace.shape[-1])
        mask = make_mask(MaskSpec(kind=kind, acceleration=4), matrix, seed=0)
        error = nmse(reconstructor(Method.WAVELET)(kspace, mask), target)
        baseline = nmse(reconstructor(Method.ZERO_FILLED)(kspace, mask), target)
        if path.stem != NOISY:
            assert error < baseline, path.stem


def test_everything_acquired_is_the_reference() -> None:
    kspace = made_kspace(2, 3, (30, 29))
    mask = Mask(np.ones(29, dtype=bool), (29,))
    reference = root_sum_of_squares(inverse_fourier(kspace))
    for method in Method:
        torch.testing.assert_close(reconstructor(method)(kspace, mask), reference)


@pytest.mark.parametrize("axes", [1, 2], ids=["lines", "points"])
def test_methods_beat_zero_filled(axes: int) -> None:
    problem = made_problem(axes)
    full = made_kspace(1, 4, (48, 44))
    target = root_sum_of_squares(inverse_fourier(full))
    baseline = nmse(reconstructor(Method.ZERO_FILLED)(full, problem.mask), target)
    for method in (Method.CG_SENSE, Method.WAVELET, Method.TOTAL_VARIATION):
        assert nmse(reconstructor(method)(full, problem.mask), target) < 0.5 * baseline


def test_zero_filled_is_the_definition() -> None:
    kspace, mask = made_kspace(2, 3, (12, 11)), point_mask((12, 11), (3, 3))
    images = torch.fft.fftshift(
        torch.fft.ifftn(
            torch.fft.ifftshift(kspace * mask.tensor(), dim=(-2, -1)), dim=(-2, -1), norm="ortho"
        ),
        dim=(-2, -1),
    )
    torch.testing.assert_close(ZeroFilled()(kspace, mask), images.abs().square().sum(1).sqrt())


def test_acquired_samples_are_kept() -> None:
    kspace, mask = made_kspace(1, 1, (32, 30)), point_mask((32, 30), (12, 12))
    method = CGSense(weight=0.3)
    image = method(kspace, mask)
    # One coil: |image| has the phase of the filled k-space's image, which a weak fit does not.
    combined = method.image(kspace, mask)
    filled = torch.where(
        mask.tensor(), kspace, fourier(Espirit()(kspace, mask) * combined[:, None])
    )
    torch.testing.assert_close(image, inverse_fourier(filled)[:, 0].abs())


def test_weight_follows_the_data() -> None:
    kspace, mask = made_kspace(2, 3, (32, 30)), point_mask((32, 30), (12, 12))
    kspace[1] *= 7
    method = L1Wavelet(weight=0.02)
    encoding = Encoding(method.maps(mask.apply(kspace), mask), mask)
    expected = 0.02 * encoding.adjoint(kspace).abs().amax((1, 2))
    torch.testing.assert_close(method.absolute_weight(kspace, mask), expected)


def test_no_low_frequency_block_says_what_to_do() -> None:
    positions = np.zeros(30, dtype=bool)
    positions[::2] = True
    with pytest.raises(BadInputError, match="pass maps, or reconstruct zero-filled"):
        CGSense()(made_kspace(1, 3, (32, 30)), Mask(positions, (0,)))
    given = CGSense(maps=lambda *_: smooth_maps(3, (32, 30), torch.complex128)[None])
    image = given(made_kspace(1, 3, (32, 30)), Mask(positions, (0,)))
    assert nmse(image[0], phantom((32, 30)).abs()) < 0.1


def test_every_method_has_a_reconstructor() -> None:
    for method in Method:
        assert isinstance(reconstructor(method), Reconstructor)
