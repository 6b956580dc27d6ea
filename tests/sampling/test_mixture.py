"""The mixture in k-space: exact conditionals, samples, and a control that does not adapt."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sampling_reference import as_kspace, textures

from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import fourier
from adaptmr.sampling.low_frequency import LowFrequency, acquire
from adaptmr.sampling.mixture import (
    GAUSSIAN,
    MixtureConfig,
    MixtureSampler,
    centring,
    hartley,
    moved,
)
from adaptmr.sampling.pairs import Pairs
from adaptmr.sampling.posterior import PosteriorSampler
from adaptmr.sampling.uncertainty import uncertainty

quick = settings(max_examples=15, deadline=None)
SIZE, BLOCK = 24, (6, 6)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs_of(images: torch.Tensor, block: tuple[int, int]) -> tuple[Pairs, LowFrequency]:
    low = acquire(as_kspace(images), block)
    return Pairs(low.image, images / low.scale[:, None, None], block), low


def blobs(n: int, matrix: tuple[int, int], seed: int = 0) -> torch.Tensor:
    source = np.random.default_rng(seed)
    axes = [np.arange(size) - size // 2 for size in matrix]
    images = []
    for _ in range(n):
        a, b = source.uniform(0.2, 0.4, 2) * matrix
        y, x = np.meshgrid(*axes, indexing="ij")
        head = 1 / (1 + np.exp(4 * (np.hypot(y / a, x / b) - 1)))
        images.append(head * (1 + 0.1 * source.standard_normal(matrix)))
    return torch.from_numpy(np.stack(images)).float().clamp_min(0)


def fitted(
    config: MixtureConfig, images: torch.Tensor, block: tuple[int, int], seed: int = 0
) -> tuple[MixtureSampler, LowFrequency]:
    pairs, low = pairs_of(images, block)
    sampler = MixtureSampler(config, pairs.matrix, block)
    sampler.prepare(pairs, generator(seed))
    return sampler, low


@quick
@given(rows=st.integers(1, 12), columns=st.integers(1, 12))
def test_hartley_is_unitary_and_its_own_inverse(rows: int, columns: int) -> None:
    image = torch.randn(2, rows, columns, generator=generator(), dtype=torch.float64)
    k = [np.arange(n) - n // 2 for n in (rows, columns)]
    angle = (
        2
        * np.pi
        * (
            np.multiply.outer(k[0], k[0])[:, None, :, None] / rows
            + np.multiply.outer(k[1], k[1])[None, :, None, :] / columns
        )
    )
    cas = (np.cos(angle) + np.sin(angle)) / np.sqrt(rows * columns)
    expected = np.einsum("klyx,nyx->nkl", cas, image.numpy())
    assert np.allclose(hartley(image).numpy(), expected)
    assert torch.allclose(hartley(hartley(image)), image)


@quick
@given(
    matrix=st.tuples(st.integers(6, 15), st.integers(6, 15)),
    shift=st.tuples(st.integers(-20, 20), st.integers(-20, 20)),
)
def test_centring_follows_the_subject(matrix: tuple[int, int], shift: tuple[int, int]) -> None:
    images = blobs(2, matrix).double() + 1e-3
    by = torch.tensor([shift, shift[::-1]])
    centred = moved(images, centring(images))
    there = moved(images, by)
    assert torch.equal(moved(there, centring(there)), centred)
    assert torch.equal(moved(there, -by), images)


def dense(sampler: MixtureSampler) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and covariances of block and rest, without the standard units."""
    scale, offset = sampler.deviation.numpy(), sampler.offset.numpy()
    covariance = sampler.factors @ sampler.factors.mT + torch.diag_embed(sampler.noise)
    return (
        sampler.log_weight.exp().numpy(),
        sampler.mean.numpy() * scale + offset,
        covariance.numpy() * scale[:, None] * scale,
    )


@pytest.mark.parametrize(
    ("matrix", "block", "components"),
    [((7, 8), (3, 2), 1), ((8, 7), (2, 3), 3), ((9, 9), (9, 2), 2), ((6, 10), (1, 1), 2)],
)
def test_posterior_equals_dense_conditioning(
    matrix: tuple[int, int], block: tuple[int, int], components: int
) -> None:
    config = MixtureConfig(components=components, factors=3, factors_prior=2.0, noise_prior=2.0)
    sampler, _ = fitted(config, blobs(40, matrix).double(), block)
    images = blobs(3, matrix, seed=9).double()
    low = acquire(as_kspace(images), block)
    weight, mean, covariance = dense(sampler)
    inside, n = sampler.inside.numpy(), int(sampler.inside.sum())
    shift = centring(low.image)
    eye = torch.eye(matrix[0] * matrix[1], dtype=torch.float64)
    basis = hartley(eye.reshape(-1, *matrix)).flatten(1).numpy()
    for index in range(3):
        transform = hartley(moved(low.image[index : index + 1], shift[index : index + 1]))[0]
        known = transform.numpy()[inside]
        log, means, spreads = [], [], []
        for j in range(components):
            own = covariance[j][:n, :n]
            apart = known - mean[j][:n]
            gain = covariance[j][n:, :n] @ np.linalg.inv(own)
            means.append(mean[j][n:] + gain @ apart)
            spreads.append(covariance[j][n:, n:] - gain @ covariance[j][:n, n:])
            volume = np.linalg.slogdet(own)[1]
            log.append(np.log(weight[j]) - (volume + apart @ np.linalg.solve(own, apart)) / 2)
        share = np.exp(np.array(log) - max(log))
        share /= share.sum()
        centre = sum(s * m for s, m in zip(share, means, strict=True))
        total = sum(
            s * (v + np.outer(m - centre, m - centre))
            for s, m, v in zip(share, means, spreads, strict=True)
        )
        # To images, and from there to the Fourier transform, by matrices.
        image = basis.T @ (centre + np.where(inside, transform.numpy(), 0).ravel())
        expected = moved(torch.from_numpy(image.reshape(1, *matrix)), -shift[index : index + 1])
        found = sampler.expectation(low)[index]
        assert np.allclose(found.numpy(), expected[0].numpy())
        of_images = torch.from_numpy(basis.T @ total @ basis).reshape(-1, *matrix)
        half = fourier(of_images).flatten(1)
        diagonal = fourier(half.T.reshape(-1, *matrix).conj()).flatten(1).diagonal().real
        variance = sampler.variance(low)[index].flatten()
        assert np.allclose(variance.numpy(), diagonal.numpy(), atol=1e-12)


@pytest.mark.parametrize("components", [1, 3])
def test_samples_converge_to_the_analytic_variance(components: int) -> None:
    matrix, block = (9, 10), (3, 3)
    config = MixtureConfig(components=components, factors=4, factors_prior=2.0)
    sampler, _ = fitted(config, blobs(60, matrix).double(), block)
    low = acquire(as_kspace(blobs(1, matrix, seed=5).double()), block)
    analytic, expected = sampler.variance(low)[0], sampler.expectation(low)[0]
    counts, errors = (50, 200, 800, 3200), []
    for count in counts:
        squares = []
        for seed in range(6):
            drawn = sampler.sample(low, count, generator(seed))[:, 0]
            variance = fourier(drawn).var(0, correction=1).real
            squares.append(((variance - analytic) / analytic).square().mean())
        errors.append(float(torch.stack(squares).mean().sqrt()))
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert -0.6 < slope < -0.4
    # Between real and complex coefficients: sqrt(2 / S) and sqrt(1 / S).
    assert errors[-1] < 2 / np.sqrt(counts[-1])
    mean = sampler.sample(low, 20000, generator(7))[:, 0].mean(0)
    assert torch.allclose(mean, expected, atol=5 * float(analytic.max() / 20000) ** 0.5)


def test_the_gaussian_control_cannot_adapt() -> None:
    images, _ = textures(60, SIZE, seed=1)
    sampler, _ = fitted(GAUSSIAN, images, BLOCK)
    held, _ = textures(5, SIZE, seed=2)
    other = acquire(as_kspace(torch.cat([held, blobs(3, (SIZE, SIZE)), 40 * held[:1]])), BLOCK)
    variance = sampler.variance(other)
    assert torch.equal(variance, variance[:1].expand_as(variance))
    maps = [uncertainty(sampler, other[i : i + 1], 8, generator(3)) for i in range(other.batch)]
    for one in maps:
        assert bool(one.known[0])
        assert torch.allclose(one.values, maps[0].values, atol=1e-5)


def test_a_mixture_adapts_to_what_the_block_tells() -> None:
    images, _ = textures(120, SIZE, seed=1)
    config = MixtureConfig(components=2, factors=4, factors_prior=10.0)
    sampler, _ = fitted(config, images, BLOCK)
    held, truth = textures(40, SIZE, seed=2)
    low = acquire(as_kspace(held), BLOCK)
    variance = sampler.variance(low)
    rows, columns = np.indices((SIZE, SIZE)) - SIZE // 2
    along = torch.from_numpy(np.abs(rows) > np.abs(columns))
    share = (variance * along).sum((1, 2)) / variance.sum((1, 2))
    # Stripes across the rows in one family, across the columns in the other.
    assert share[truth == 1].min() > 2 * share[truth == 0].max()
    sampled = uncertainty(sampler, low, 20, generator()).values
    assert torch.corrcoef(torch.stack([(sampled * along).sum((1, 2)), share]))[0, 1] > 0.9


def test_moved_slices_give_moved_samples() -> None:
    images, _ = textures(40, SIZE, seed=1)
    sampler, low = fitted(MixtureConfig(components=2), images, BLOCK)
    by = torch.tensor([[3, -5]]).expand(low.batch, 2)
    moved_low = acquire(as_kspace(moved(images, by)), BLOCK)
    there = sampler.sample(moved_low, 3, generator(1))
    assert torch.allclose(there, moved(sampler.sample(low, 3, generator(1)), by), atol=1e-4)


def test_samples_keep_the_block() -> None:
    images = blobs(50, (20, 21))
    sampler, low = fitted(MixtureConfig(components=2), images, (5, 6))
    drawn = fourier(sampler.sample(low, 4, generator()))[(..., *low.region)]
    full = fourier(images / low.scale[:, None, None])[(..., *low.region)]
    assert float((drawn - full).abs().square().mean()) < 1e-3 * float(full.abs().square().mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("matrix", "block"), [((40, 40), (5, 5)), ((23, 38), (4, 7)), ((16, 17), (16, 3))]
)
def test_any_size_any_precision(
    dtype: torch.dtype, matrix: tuple[int, int], block: tuple[int, int]
) -> None:
    sampler, low = fitted(MixtureConfig(components=3), blobs(25, matrix).to(dtype), block)
    assert isinstance(sampler, PosteriorSampler)
    drawn = sampler.sample(low, 3, generator())
    assert drawn.shape == (3, 25, *matrix)
    assert drawn.dtype == dtype
    assert drawn.isfinite().all()
    assert (sampler.variance(low) > 0).all()
    assert sampler.variance(low).dtype == dtype
    total = sampler._posterior(sampler._observation(low)[0]).responsibilities.sum(1)
    assert torch.allclose(total, torch.ones_like(total))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_slices_are_enough(n: int) -> None:
    sampler, low = fitted(MixtureConfig(components=4, factors=20), blobs(n, (12, 11)), (3, 3))
    assert sampler.sample(low, 2, generator()).isfinite().all()
    dark = MixtureSampler(MixtureConfig(components=2), (12, 11), (3, 3))
    nothing = torch.zeros(n, 12, 11)
    dark.prepare(Pairs(nothing, nothing, (3, 3)), generator())
    assert dark.sample(low, 2, generator()).isfinite().all()


def test_a_slice_unlike_all_others_gives_finite_samples() -> None:
    sampler, _ = fitted(MixtureConfig(), blobs(30, (16, 16)), (4, 4))
    noise = torch.randn(1, 2, 16, 16, generator=generator(), dtype=torch.complex64)
    low = acquire(torch.cat([noise, torch.zeros_like(noise)]), (4, 4))
    assert sampler.sample(low, 4, generator()).isfinite().all()
    assert uncertainty(sampler, low, 4, generator()).known.tolist() == [True, False]


def test_deterministic_and_the_global_state_untouched() -> None:
    images = blobs(30, (16, 16))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, low = fitted(MixtureConfig(components=3), images, (4, 4))
    second, _ = fitted(MixtureConfig(components=3), images, (4, 4))
    drawn = first.sample(low, 2, generator(1))
    assert torch.equal(drawn, second.sample(low, 2, generator(1)))
    assert not torch.equal(drawn, first.sample(low, 2, generator(2)))
    assert torch.equal(before, torch.get_rng_state())


def test_bad_input_is_told() -> None:
    sampler, _ = fitted(MixtureConfig(), blobs(10, (12, 12)), (3, 3))
    with pytest.raises(BadInputError, match="another matrix"):
        sampler.sample(acquire(as_kspace(blobs(1, (12, 13))), (3, 3)), 2, generator())
    with pytest.raises(BadInputError, match="another block"):
        sampler.variance(acquire(as_kspace(blobs(1, (12, 12))), (4, 3)))
    with pytest.raises(BadInputError, match="no slice to fit"):
        sampler.prepare(Pairs(torch.zeros(0, 12, 12), torch.zeros(0, 12, 12), (3, 3)), generator())
    with pytest.raises(BadInputError, match="another matrix"):
        sampler.prepare(pairs_of(blobs(3, (8, 8)), (3, 3))[0], generator())
    with pytest.raises(BadInputError, match="no such low-frequency block"):
        MixtureSampler(MixtureConfig(), (12, 12), (13, 3))


def test_real_brains_fit_in_seconds_and_generalise(shared_data: Path) -> None:
    import nibabel

    def slices(subjects: range) -> torch.Tensor:
        volumes = []
        for subject in subjects:
            path = shared_data / "brains" / f"sub-{subject:02d}_ses-1_T1w.nii.gz"
            data = np.asarray(nibabel.load(path).dataobj)[:, 1:9].astype(np.float32)
            image = torch.from_numpy(data).movedim(1, 0)
            volumes.append(torch.nn.functional.interpolate(image[None], (45, 38), mode="area")[0])
        return torch.cat(volumes)

    training, held = slices(range(1, 26)), slices(range(26, 31))
    sampler, _ = fitted(MixtureConfig(), training, (6, 5))
    low = acquire(as_kspace(held), (6, 5))
    full = held / low.scale[:, None, None]
    error = fourier(full - sampler.expectation(low)).abs().square()
    blank = fourier(full - low.image).abs().square()
    outside = torch.ones(45, 38, dtype=torch.bool)
    outside[low.region] = False
    # What it says of the high frequencies is better than nothing, also for unknown subjects.
    assert float(error[:, outside].sum()) < 0.95 * float(blank[:, outside].sum())
    variance = sampler.variance(low)
    ranks = [x[:, outside].argsort(1).argsort(1).double() for x in (variance, error)]
    correlations = [
        float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(*ranks, strict=True)
    ]
    assert float(np.mean(correlations)) > 0.5
