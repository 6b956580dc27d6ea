"""The flow as a whole: inverse, volume, likelihood, samples."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from pydantic import ValidationError
from small_flows import PUBLISHED, SMALL, data, perturbed

from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import fourier
from adaptmr.sampling.flow.config import HONG2024, FlowConfig
from adaptmr.sampling.flow.flow import SuperResolutionFlow
from adaptmr.sampling.flow.layers import ActNorm
from adaptmr.sampling.low_frequency import LowFrequency, acquire
from adaptmr.sampling.pairs import Pairs
from adaptmr.sampling.posterior import PosteriorSampler

few = settings(max_examples=10, deadline=None)
SIZES = [((8, 8), (2, 2)), ((11, 7), (4, 3)), ((5, 14), (5, 4)), ((13, 16), (13, 2))]


def low_frequency(
    matrix: tuple[int, int], block: tuple[int, int], batch: int = 2, dtype=torch.complex64
) -> LowFrequency:
    generator = torch.Generator().manual_seed(3)
    kspace = torch.randn(batch, 2, *matrix, generator=generator, dtype=torch.complex128)
    return acquire(kspace.to(dtype), block)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth_pairs(matrix: tuple[int, int], block: tuple[int, int], count: int, seed: int) -> Pairs:
    """Blurred spots, and what their low frequencies leave of them."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[: matrix[0], : matrix[1]]
    images = []
    for _ in range(count):
        at, size = generator.uniform(0.3, 0.7, 2) * matrix, generator.uniform(0.1, 0.3)
        distance = np.hypot((rows - at[0]) / matrix[0], (columns - at[1]) / matrix[1])
        images.append((distance < size) + 0.02 * generator.normal(size=matrix))
    kspace = torch.fft.fftshift(torch.fft.fft2(torch.tensor(np.stack(images))), dim=(-2, -1))
    known = acquire(kspace[:, None].to(torch.complex64), block)
    full = torch.tensor(np.stack(images)).abs() * math.sqrt(math.prod(matrix))
    return Pairs(known.image, (full / known.scale[:, None, None]).float(), block)


@pytest.mark.parametrize("config", [SMALL, PUBLISHED], ids=["ours", "published"])
@pytest.mark.parametrize(("matrix", "block"), SIZES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_decode_undoes_encode(
    config: FlowConfig,
    matrix: tuple[int, int],
    block: tuple[int, int],
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    flow = perturbed(config, matrix, block, dtype, by=0.07)
    residual, margin, low, noise, disturbance = data(flow, 3)
    with torch.no_grad():
        latents, _ = flow.encode(residual, margin, low, noise, disturbance)
        back, canvas = flow.decode(latents, low, noise)
    assert float((latents[:, : matrix[0], : matrix[1]] - residual).abs().max()) > 0.1
    torch.testing.assert_close(back, residual, atol=tolerance, rtol=0)
    rows, columns = matrix
    torch.testing.assert_close(canvas[:, rows:], margin[:, rows:], atol=tolerance, rtol=0)
    torch.testing.assert_close(
        canvas[:, :, columns:], margin[:, :, columns:], atol=tolerance, rtol=0
    )


@few
@given(rows=st.integers(4, 19), columns=st.integers(4, 19), data_=st.data())
def test_any_size_is_inverted(rows: int, columns: int, data_: st.DataObject) -> None:
    block = data_.draw(st.tuples(st.integers(1, rows), st.integers(1, columns)))
    flow = perturbed(SMALL, (rows, columns), block, torch.float64)
    residual, margin, low, noise, disturbance = data(flow, 1)
    with torch.no_grad():
        latents, _ = flow.encode(residual, margin, low, noise, disturbance)
        back, _ = flow.decode(latents, low, noise)
    torch.testing.assert_close(back, residual, atol=1e-9, rtol=0)


@pytest.mark.parametrize("config", [SMALL, PUBLISHED], ids=["ours", "published"])
@pytest.mark.parametrize(
    ("matrix", "block"), [((8, 4), (2, 2)), ((5, 7), (3, 2)), ((4, 8), (4, 3))]
)
def test_log_determinant_is_that_of_the_jacobian(
    config: FlowConfig, matrix: tuple[int, int], block: tuple[int, int]
) -> None:
    flow = perturbed(config, matrix, block, torch.float64)
    residual, margin, low, noise, disturbance = data(flow, 1)

    def latents(residual: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
        return flow.encode(residual, margin, low, noise, disturbance)[0].flatten()

    by_residual, by_margin = torch.autograd.functional.jacobian(latents, (residual, margin))
    outside = torch.ones(flow.canvas, dtype=torch.bool)
    outside[: matrix[0], : matrix[1]] = False
    jacobian = torch.cat([by_residual.flatten(1), by_margin.flatten(1)[:, outside.flatten()]], 1)
    expected = torch.linalg.slogdet(jacobian).logabsdet
    _, got = flow.encode(residual, margin, low, noise, disturbance)
    assert abs(float(expected)) > 0.1
    torch.testing.assert_close(got[0], expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("matrix", "block"), SIZES)
def test_first_weights_are_the_identity(matrix: tuple[int, int], block: tuple[int, int]) -> None:
    flow = SuperResolutionFlow(SMALL, matrix, block, seed=4)
    residual, margin, low, noise, disturbance = data(flow, 2)
    latents, volume = flow.encode(residual, margin, low, 0 * noise, disturbance)
    rows, columns = matrix
    torch.testing.assert_close(latents[:, :rows, :columns], residual, atol=1e-5, rtol=0)
    torch.testing.assert_close(latents[:, rows:], margin[:, rows:], atol=1e-5, rtol=0)
    torch.testing.assert_close(volume, torch.zeros_like(volume), atol=1e-3, rtol=0)


def test_padding_adds_nothing_to_the_likelihood() -> None:
    """At the identity the density is the standard normal of the image's own pixels."""
    config = SMALL.model_copy(update={"noise": 0.0})
    flow = SuperResolutionFlow(config, (7, 9), (3, 3)).double()
    residual, _, low, _, _ = data(flow, 3)
    got = flow.bits_per_dimension(low, low + residual, seeded())
    normal = 0.5 * (residual.square().sum((1, 2)) + 63 * math.log(2 * math.pi))
    torch.testing.assert_close(got, normal / (63 * math.log(2)), atol=1e-5, rtol=0)


def test_likelihood_is_a_density() -> None:
    """Its integral over all images of 2 x 2 pixels, by importance sampling, is one."""
    config = SMALL.model_copy(update={"noise": 0.0, "levels": 1, "splits": 0, "noise_steps": (0,)})
    flow = perturbed(config, (2, 2), (1, 1), torch.float64)
    low = torch.full((1, 2, 2), 0.7, dtype=torch.float64)
    noise, count = torch.zeros(1, dtype=torch.float64), 20_000
    with torch.no_grad():
        latents = torch.randn(4000, 2, 2, generator=seeded(), dtype=torch.float64)
        spread, _ = flow.decode(latents, low, noise)
        # Wider than the model, along its own axes.
        proposal = torch.distributions.MultivariateNormal(
            spread.flatten(1).mean(0), 2 * spread.flatten(1).T.cov()
        )
        normal = torch.randn(count, 4, generator=seeded(1), dtype=torch.float64)
        draws = (proposal.loc + normal @ proposal.scale_tril.T).reshape(-1, 2, 2)
        many = low.expand(count, 2, 2)
        bits = flow.bits_per_dimension(many, many + draws, seeded(2))
    log_model = -bits * 4 * math.log(2)
    weights = (log_model - proposal.log_prob(draws.flatten(1))).exp()
    error = 5 * float(weights.std()) / math.sqrt(count)
    assert error < 0.2
    assert float(weights.mean()) == pytest.approx(1, abs=error)


@pytest.mark.parametrize("config", [SMALL, PUBLISHED], ids=["ours", "published"])
def test_far_from_training_all_is_finite(config: FlowConfig) -> None:
    flow = perturbed(config, (13, 12), (4, 4), by=0.3)
    _, margin, low, noise, disturbance = data(flow, 2)
    latents = 10 * torch.randn(2, *flow.canvas, generator=seeded())
    for image in (low, 1e3 * low, torch.zeros_like(low), low.round()):
        with torch.no_grad():
            residual, _ = flow.decode(latents, image, noise)
            there, volume = flow.encode(1e3 * low, margin, image, noise, disturbance)
        for values in (residual, there, volume):
            assert bool(torch.isfinite(values).all())


def test_samples_obey_the_protocol() -> None:
    flow = perturbed(SMALL, (11, 9), (4, 3))
    known = low_frequency((11, 9), (4, 3), batch=3)
    assert isinstance(flow, PosteriorSampler)
    state = torch.get_rng_state()
    first = flow.sample(known, 5, seeded(7))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == (5, 3, 11, 9)
    assert first.dtype is torch.float32
    assert bool(torch.isfinite(first).all())
    assert bool((first >= 0).all())
    assert not first.requires_grad
    assert torch.equal(flow.sample(known, 5, seeded(7)), first)
    assert not torch.equal(flow.sample(known, 5, seeded(8)), first)
    assert float(first.var(0).max()) > 0


def test_samples_of_many_slices_and_of_one_agree_in_law() -> None:
    """The order of images within a batch of samples: each slice is given its own features."""
    config = SMALL.model_copy(update={"temperature": 0.0})
    flow = perturbed(config, (12, 8), (4, 4))
    known = low_frequency((12, 8), (4, 4), batch=5)
    together = flow.sample(known, 9, seeded())
    for index in range(5):
        alone = flow.sample(known[index : index + 1], 2, seeded())
        torch.testing.assert_close(together[:, index], alone[:1, 0].expand(9, 12, 8))


def test_zero_temperature_has_no_variance() -> None:
    flow = perturbed(SMALL.model_copy(update={"temperature": 0.0}), (11, 9), (4, 3))
    samples = flow.sample(low_frequency((11, 9), (4, 3)), 6, seeded())
    assert float(samples.var(0).max()) == 0


def test_double_precision_data_keep_it() -> None:
    flow = perturbed(SMALL, (8, 8), (2, 2))
    assert flow.sample(
        low_frequency((8, 8), (2, 2), dtype=torch.complex128), 1, seeded()
    ).dtype is (torch.float64)


@pytest.mark.parametrize(
    ("matrix", "block", "field"), [((9, 9), (2, 2), "matrix"), ((8, 8), (3, 2), "block")]
)
def test_data_of_another_size_are_refused(
    matrix: tuple[int, int], block: tuple[int, int], field: str
) -> None:
    flow = SuperResolutionFlow(SMALL, (8, 8), (2, 2))
    with pytest.raises(BadInputError, match=f"trained for another {field}"):
        flow.sample(low_frequency(matrix, block), 1, seeded())


def test_first_weights_come_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (SuperResolutionFlow(SMALL, (8, 8), (2, 2), s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.conditioner.first.weight, other.conditioner.first.weight)


def test_bfloat16_conditioner_stays_near_and_the_flow_exact() -> None:
    reduced = SMALL.model_copy(update={"conditioner_precision": "bfloat16"})
    flow, full = (perturbed(config, (12, 10), (4, 4)) for config in (reduced, SMALL))
    residual, margin, low, noise, disturbance = data(flow, 2)
    with torch.no_grad():
        latents, _ = flow.encode(residual, margin, low, noise, disturbance)
        back, _ = flow.decode(latents, low, noise)
        expected, _ = full.encode(residual, margin, low, noise, disturbance)
    torch.testing.assert_close(back, residual, atol=1e-4, rtol=0)
    assert 0 < float((latents - expected).abs().mean()) < 0.05


def test_preparation_standardises_once() -> None:
    flow = SuperResolutionFlow(SMALL, (16, 16), (4, 4))
    pairs = smooth_pairs((16, 16), (4, 4), 40, 0)
    flow.prepare(pairs, seeded())
    norms = [module for module in flow.modules() if isinstance(module, ActNorm)]
    assert all(bool(norm.fitted) for norm in norms)
    with torch.no_grad():
        bits = flow.loss(pairs.low, pairs.full, seeded())
        plain = SuperResolutionFlow(SMALL, (16, 16), (4, 4)).loss(pairs.low, pairs.full, seeded())
    assert float(bits) < float(plain) - 1
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    flow.prepare(smooth_pairs((16, 16), (4, 4), 10, 1), seeded())
    for name, value in flow.state_dict().items():
        assert torch.equal(value, before[name])


def test_calibration_matches_the_spectrum_of_samples_to_that_of_errors() -> None:
    """The flow is made to expect too much at low and too little at high frequencies."""
    flow = SuperResolutionFlow(SMALL, (16, 16), (4, 4))
    pairs = smooth_pairs((16, 16), (4, 4), 80, 0)
    flow.prepare(pairs, seeded())
    assert flow.standardising is not None
    away = (torch.arange(16) - 8).abs()
    tilt = 0.3 * (torch.maximum(away[:, None], away[None, :]) - 4.0)
    with torch.no_grad():
        flow.standardising.log_power -= tilt
    error = fourier(pairs.full - pairs.low).abs().square().mean(0)

    def ratios() -> torch.Tensor:
        known = LowFrequency(pairs.low, torch.ones(80), (4, 4), torch.zeros(80, 1, 4, 4))
        samples = fourier(flow.sample(known, 16, seeded(3)))
        inner, outer = tilt < 0, tilt > 0.3
        ratio = samples.var(0).mean(0) / error
        return torch.stack([ratio[inner].mean(), ratio[outer].mean()])

    before = ratios().log().abs()
    flow.calibrate(pairs, seeded(1))
    assert float(ratios().log().abs().max()) < 0.5 * float(before.max())


def test_a_flow_without_whitening_cannot_be_calibrated() -> None:
    flow = SuperResolutionFlow(PUBLISHED, (8, 8), (2, 2))
    with pytest.raises(BadInputError, match="without whitening"):
        flow.calibrate(smooth_pairs((8, 8), (2, 2), 2, 0), seeded())


def test_published_preset_has_the_published_sizes() -> None:
    """Levels of 160, 80, 40 and 20 pixels, latents of 320 x 320, 320 channels of features."""
    flow = SuperResolutionFlow(HONG2024, (320, 320), (40, 40))
    assert flow.canvas == (320, 320)
    assert flow.conditioner.channels == 320
    assert flow.conditioner.levels == ((160, 160), (80, 80), (40, 40), (20, 20))
    levels = [(len(level.steps), level.channels_on) for level in flow.flow.levels]
    assert levels == [(22, 2), (22, 4), (22, 16), (22, 64)]
    noisy = [
        sum(getattr(step.coupling, "by_noise", None) is not None for step in level.steps)
        for level in flow.flow.levels
    ]
    assert noisy == [0, 0, 16, 16]
    assert len(flow.conditioner.blocks) == 23


@pytest.mark.parametrize(
    "wrong",
    [
        {"levels": 2, "splits": 2},
        {"noise_steps": (0,)},
        {"noise_steps": (0, 9)},
        {"stacked_blocks": (7,)},
        {"width": 0},
        {"temprature": 1.0},
    ],
)
def test_configurations_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FlowConfig(**wrong)
