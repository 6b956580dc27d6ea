"""The uncertainty of k-space: its value, its invariances, and what happens without one."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from sampling_reference import Gaussian, Given, kspace, slices

from adaptmr.data.doors import open_scan
from adaptmr.errors import BadInputError, UsageError
from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.sampling.low_frequency import LowFrequency, acquire, acquire_scan, block_region
from adaptmr.sampling.posterior import PosteriorSampler
from adaptmr.sampling.uncertainty import (
    SpectralVariance,
    UncertaintyMap,
    sensitivity_maps,
    smoothed,
    uncertainty,
    unit_norm,
)

quick = settings(max_examples=20, deadline=None)
MATRIX, BLOCK = (11, 14), (3, 4)
sizes = st.tuples(st.integers(3, 14), st.integers(3, 14))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, batch: int, matrix=MATRIX, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.rand(n, batch, *matrix, generator=generator(seed), dtype=dtype)


def of(given_images: torch.Tensor, low: LowFrequency | None = None, **rest) -> UncertaintyMap:
    n, batch, *matrix = given_images.shape
    dtype = given_images.dtype.to_complex()
    low = slices(tuple(matrix), BLOCK, dtype, batch=batch) if low is None else low
    return uncertainty(Given(given_images), low, n, generator(), **rest)


@quick
@given(matrix=sizes, n=st.integers(2, 6), batch=st.integers(1, 3))
def test_equals_the_variance_by_numpy(matrix: tuple[int, int], n: int, batch: int) -> None:
    low = slices(matrix, (2, 2), torch.complex128, batch=batch)
    drawn = images(n, batch, matrix)
    found = of(drawn, low)
    spectrum = np.fft.fftshift(np.fft.fft2(drawn.numpy()), axes=(-2, -1))
    variance = spectrum.real.var(0) + spectrum.imag.var(0)
    assert np.allclose(variance, np.var(spectrum, axis=0))
    variance[(..., *low.region)] = 0
    expected = variance / np.linalg.norm(variance, axis=(1, 2), keepdims=True)
    assert np.allclose(found.values.numpy(), expected)
    assert torch.allclose(found.values.flatten(1).norm(dim=1), torch.ones(batch).double())
    assert found.known.all()
    assert found.values.min() >= 0


@quick
@given(matrix=sizes)
def test_real_images_give_a_point_symmetric_variance(matrix: tuple[int, int]) -> None:
    total = SpectralVariance.empty(torch.zeros(1, *matrix, dtype=torch.float64))
    total.add(images(5, 1, matrix), torch.ones(5, 1, dtype=torch.bool))
    variance = total.variance()[0]
    rows, columns = ((2 * (n // 2) - torch.arange(n)) % n for n in matrix)
    assert torch.allclose(variance, variance[rows][:, columns])


@quick
@given(matrix=sizes, n=st.integers(1, 6))
def test_parseval(matrix: tuple[int, int], n: int) -> None:
    # With a unitary transform; N^2 times that with the published one.
    drawn = images(n, 2, matrix)
    total = SpectralVariance.empty(drawn[0])
    total.add(drawn, torch.ones(n, 2, dtype=torch.bool))
    expected = drawn.var(0, correction=0).sum((1, 2))
    assert torch.allclose(total.variance().sum((1, 2)), expected, atol=1e-12)


def test_invariances() -> None:
    drawn = images(6, 2)
    low = slices(MATRIX, BLOCK, torch.complex128, batch=2)
    reference = of(drawn, low).values
    common = images(1, 2, seed=3)
    for changed in (
        drawn + common,
        drawn.roll((3, -5), (2, 3)),
        torch.fft.ifftshift(drawn, dim=(2, 3)),
        7.5 * drawn,
        drawn.flip(0),
        1e-30 * drawn,
    ):
        found = of(changed, low, plausible=(-100.0, 100.0))
        assert torch.allclose(found.values, reference, atol=1e-10)
        assert found.known.all()


def test_scale_enters_the_variance_squared() -> None:
    drawn, use = images(6, 1), torch.ones(6, 1, dtype=torch.bool)
    once, thrice = SpectralVariance.empty(drawn[0]), SpectralVariance.empty(drawn[0])
    once.add(drawn, use)
    thrice.add(3 * drawn, use)
    assert torch.allclose(thrice.variance(), 9 * once.variance())


@quick
@given(cuts=st.sets(st.integers(1, 8), max_size=4), seed=st.integers(0, 99))
def test_streaming_in_any_parts_is_the_same(cuts: set[int], seed: int) -> None:
    drawn = images(9, 3, seed=seed)
    use = torch.rand(9, 3, generator=generator(seed)) > 0.3
    drawn[~use] = torch.nan
    total = SpectralVariance.empty(drawn[0])
    for part, used in zip(
        drawn.tensor_split(sorted(cuts)), use.tensor_split(sorted(cuts)), strict=True
    ):
        total.add(part, used)
    assert torch.equal(total.count, use.sum(0))
    for index in range(3):
        kept = drawn[:, index][use[:, index]]
        expected = fourier(kept).var(0, correction=0) if len(kept) else torch.zeros(MATRIX)
        assert torch.allclose(total.variance()[index], expected.double(), atol=1e-12)


def test_streaming_survives_a_large_common_image() -> None:
    drawn, use = images(50, 1, dtype=torch.float32), torch.ones(1, 1, dtype=torch.bool)
    total = SpectralVariance.empty(drawn[0])
    for image in drawn + 1000:
        total.add(image[None], use)
    expected = fourier(drawn.double()).var(0, correction=0)
    # The textbook sum of squares minus squared sum would lose all digits of the centre here.
    assert torch.allclose(total.variance().double(), expected, rtol=2e-2)


def test_linear_gaussian_converges_at_the_monte_carlo_rate() -> None:
    matrix, block = (8, 9), (3, 3)
    factor = torch.randn(72, 5, generator=generator(1), dtype=torch.float64)
    eye = torch.eye(72, dtype=torch.float64).reshape(72, 8, 9)
    transform = fourier(eye).reshape(72, 72).T
    analytic = (transform @ factor.to(transform.dtype)).abs().square().sum(1).reshape(1, 8, 9)
    expected = unit_norm(analytic, block)
    low = slices(matrix, block, torch.complex128)
    errors, counts = [], (50, 200, 800, 3200)
    for samples in counts:
        runs = [
            uncertainty(
                Gaussian(factor), low, samples, generator(seed), plausible=(-1e9, 1e9)
            ).values
            for seed in range(8)
        ]
        errors.append(float((torch.stack(runs) - expected).square().mean().sqrt()))
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert -0.6 < slope < -0.4
    assert errors[-1] < 0.1 * float(expected.square().mean().sqrt())


def test_published_scatter_of_ten_samples() -> None:
    # Complex white noise: the relative standard deviation of a variance of S samples is
    # 1 / sqrt(S - 1); the published 33 % at S = 10.
    matrix = (64, 64)
    total = SpectralVariance.empty(torch.zeros(1, *matrix))
    noise = torch.randn(10, 1, *matrix, generator=generator(2))
    total.add(noise, torch.ones(10, 1, dtype=torch.bool))
    variance = total.variance().flatten()
    assert float(variance.std() / variance.mean()) == pytest.approx(1 / 3, rel=0.1)


def test_multi_coil_variance_is_summed_over_coils() -> None:
    low = slices(MATRIX, BLOCK, torch.complex128, batch=2, coils=3)
    maps, drawn = sensitivity_maps(low), images(5, 2)
    assert torch.allclose(maps.abs().square().sum(1), torch.ones(2, *MATRIX).double())
    spectrum = fourier(drawn[:, :, None] * maps)
    variance = (spectrum - spectrum.mean(0)).abs().square().mean(0).sum(1)
    found = of(drawn, low, maps=maps)
    assert torch.allclose(found.values, unit_norm(variance, BLOCK))
    assert not torch.allclose(found.values, of(drawn, low).values, atol=1e-3)


def test_maps_of_one_coil_hold_the_phase_and_of_none_nothing() -> None:
    low = slices(MATRIX, BLOCK, torch.complex128)
    assert torch.allclose(
        sensitivity_maps(low)[:, 0] * low.image * low.scale, low.coil_images[:, 0]
    )
    dark = acquire(torch.zeros(1, 2, *MATRIX, dtype=torch.complex64), BLOCK)
    assert not sensitivity_maps(dark).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 1.0, 5.0])
def test_equal_samples_are_not_known(dtype: torch.dtype, offset: float) -> None:
    drawn = images(1, 2, dtype=dtype).repeat(10, 1, 1, 1) + offset
    # Rounding apart, the samples of the second slice are equal too.
    drawn[:, 1] *= 1 + torch.finfo(dtype).eps * torch.rand(10, 1, 1, generator=generator(4))
    found = of(drawn)
    assert not found.known.any()
    assert not found.values.any()
    assert (found.usable == 10).all()


def test_small_but_real_variance_is_known() -> None:
    drawn = 1 + 1e-4 * images(6, 1, dtype=torch.float32)
    assert of(drawn).known.all()


def test_a_slice_without_signal_is_not_known() -> None:
    low = acquire(torch.zeros(1, 2, *MATRIX, dtype=torch.complex64), BLOCK)
    found = of(images(5, 1, dtype=torch.float32), low)
    assert not found.known.any()
    assert not found.values.any()


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf"), 1e3, -5.0])
def test_bad_samples_are_drawn_anew_and_counted(broken: float) -> None:
    drawn = images(8, 2)
    expected = of(drawn)
    mixed = torch.cat((drawn[:3], drawn[:2], drawn[3:]))
    mixed[3:5, 0, 2, 2] = broken
    # The second slice has nothing wrong: its first eight samples are what it is made of.
    found = uncertainty(
        _Endless(mixed), slices(MATRIX, BLOCK, torch.complex128, batch=2), 8, generator()
    )
    assert found.usable.tolist() == [8, 8]
    assert found.rejected.tolist() == [2, 0]
    assert torch.allclose(found.values[0], expected.values[0])
    assert torch.allclose(found.values[1], of(mixed[:8]).values[1])


class _Endless:
    """Goes on where it stopped, over and over."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images, self.place = images, 0

    def sample(self, _low_frequency: LowFrequency, n: int, _generator: torch.Generator):
        index = (self.place + torch.arange(n)) % len(self.images)
        self.place += n
        return self.images[index]


def test_redraws_end() -> None:
    drawn = images(5, 2)
    drawn[:, 0] = torch.nan
    drawn[2:, 1] = torch.nan
    found = uncertainty(
        Given(drawn), slices(MATRIX, BLOCK, torch.complex128, batch=2), 5, generator(), redraws=0
    )
    assert found.usable.tolist() == [0, 2]
    assert found.rejected.tolist() == [5, 3]
    assert found.known.tolist() == [False, True]
    assert torch.isfinite(found.values).all()
    assert not found.values[0].any()


def test_memory_is_bounded_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = images(7, 2)
    expected = of(drawn)
    module = "adaptmr.sampling.uncertainty._AT_ONCE"
    monkeypatch.setattr(module, 3 * drawn[0].numel())
    asked: list[int] = []

    class Watched(_Endless):
        def sample(self, low_frequency, n, generator):
            asked.append(n)
            return super().sample(low_frequency, n, generator)

    low = slices(MATRIX, BLOCK, torch.complex128, batch=2)
    found = uncertainty(Watched(drawn), low, 7, generator())
    assert asked == [3, 3, 1]
    assert torch.allclose(found.values, expected.values)


def test_nothing_outside_the_block_and_no_global_state() -> None:
    measured = kspace((16, 18), batch=2, coils=2)
    low = acquire(measured, (5, 6))
    changed = torch.full_like(measured, torch.nan)
    changed[(..., *low.region)] = measured[(..., *low.region)]
    factor = torch.randn(288, 4, generator=generator(1))
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = uncertainty(Gaussian(factor), low, 10, generator())
    second = uncertainty(Gaussian(factor), acquire(changed, (5, 6)), 10, generator())
    assert torch.equal(first.values, second.values)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_wrong_calls_are_refused() -> None:
    low = slices(MATRIX, BLOCK)
    with pytest.raises(UsageError, match="at least two samples"):
        uncertainty(Given(images(1, 1)), low, 1, generator())

    class Wrong:
        def sample(self, _low_frequency, n, _generator):
            return torch.zeros(n, 1, 5, 5)

    assert isinstance(Wrong(), PosteriorSampler)
    with pytest.raises(BadInputError, match="no images of these slices"):
        uncertainty(Wrong(), low, 4, generator())


def test_maps_go_together_and_apart() -> None:
    found = of(images(4, 3))
    again = UncertaintyMap.concatenate([found[:1], found[1:]])
    assert torch.equal(again.values, found.values)
    assert found[torch.tensor([True, False, True])].batch == 2
    assert found.matrix == MATRIX


def test_eight_bits_would_add_a_floor() -> None:
    # Why everything stays in floating point: rounding to 8 bits lifts the far end of the spectrum.
    smooth = torch.hann_window(64, dtype=torch.float64)
    base = smooth[:, None] * smooth
    strengths = torch.linspace(0.9, 1.0, 10, dtype=torch.float64)[:, None, None, None]
    drawn = base * strengths
    rounded = torch.floor(255 * drawn) / 255
    far = (slice(None), slice(0, 8), slice(0, 8))
    low = slices((64, 64), (8, 8), torch.complex128)
    assert of(rounded, low).values[far].mean() > 100 * of(drawn, low).values[far].mean()


def test_real_scan(shared_data: Path) -> None:
    low = acquire_scan(open_scan(shared_data / "kspace" / "brain_8ch.h5"), (24, 24))
    noisy = low.image + 0.05 * torch.randn(8, *low.image.shape, generator=generator())
    for maps in (None, sensitivity_maps(low)):
        found = uncertainty(Given(noisy), low, 8, generator(), maps=maps)
        assert found.known.all()
        assert float(found.values.norm()) == pytest.approx(1, abs=1e-5)


@quick
@given(matrix=st.tuples(st.integers(8, 17), st.integers(8, 17)), deviation=st.floats(0.3, 2))
def test_smoothing_is_scipys_mean_of_what_lies_outside(
    matrix: tuple[int, int], deviation: float
) -> None:
    variance = images(1, 2, matrix)[0]
    rows, columns = block_region(matrix, (3, 2))
    outside = torch.ones(matrix, dtype=torch.float64)
    outside[rows, columns] = 0
    found = smoothed(variance, (3, 2), deviation)
    assert torch.equal(found[:, outside == 0], torch.zeros(2, 6, dtype=torch.float64))
    axes = [np.minimum(np.arange(n), n - np.arange(n)) for n in matrix]
    # The Gaussian in the domain of its transform, which wraps around as often as it takes.
    response = [np.exp(-2 * (np.pi * deviation * axis / len(axis)) ** 2) for axis in axes]

    def mean(values: torch.Tensor) -> np.ndarray:
        spectrum = scipy.fft.fft2(values.numpy()) * response[0][:, None] * response[1]
        return scipy.fft.ifft2(spectrum).real

    inside = outside.numpy() == 0
    expected = mean(variance * outside) / np.where(inside, 1, mean(outside))
    assert np.allclose(found.numpy(), np.where(inside, 0, expected), atol=1e-9)


@quick
@given(matrix=st.tuples(st.integers(8, 17), st.integers(8, 17)))
def test_smoothing_keeps_what_is_constant_and_its_symmetry(matrix: tuple[int, int]) -> None:
    block = (3, 3)
    constant = unit_norm(torch.ones(1, *matrix, dtype=torch.float64), block)
    assert torch.allclose(smoothed(constant, block, 1.0), constant)
    found = of(images(4, 1, matrix), slices(matrix, block, torch.complex128), smoothing=1.0)
    rows, columns = ((2 * (n // 2) - torch.arange(n)) % n for n in matrix)
    values = found.values[0]
    assert torch.allclose(values, values[rows][:, columns])
    assert values.norm() == pytest.approx(1)
    assert torch.equal(smoothed(constant, block, 0.0), constant)


def test_smoothing_makes_few_samples_worth_many() -> None:
    matrix, block = (33, 40), (5, 5)
    low = slices(matrix, block, torch.complex128)
    distance = sum(
        ((torch.arange(n) - n // 2).double()[(...,) + (None,) * (1 - axis)] / n) ** 2
        for axis, n in enumerate(matrix)
    )
    truth = unit_norm(1 / (0.02 + distance)[None], block)
    white = torch.randn(10, 1, *matrix, generator=generator(), dtype=torch.float64)
    drawn = inverse_fourier(fourier(white) * truth.sqrt()).real
    rough, smooth = (of(drawn, low, smoothing=s).values for s in (0.0, 1.0))
    assert (smooth - truth).norm() < 0.5 * (rough - truth).norm()
