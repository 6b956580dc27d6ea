"""The ensemble: likelihood, samples, training; first weights from the seed alone."""

import math
from pathlib import Path

import pytest
import torch
from sampling_reference import as_kspace, textures
from torch.distributions import MultivariateNormal

from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import fourier
from adaptmr.sampling.ensemble import EnsembleConfig, EnsembleSampler
from adaptmr.sampling.low_frequency import LowFrequency, acquire
from adaptmr.sampling.pairs import Pairs
from adaptmr.sampling.posterior import PosteriorSampler
from adaptmr.sampling.training import SamplerTraining, fit
from adaptmr.sampling.uncertainty import uncertainty

SMALL = EnsembleConfig(members=3, channels=4, pools=2)
MATRIX, BLOCK = (12, 11), (4, 3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(batch: int, matrix=MATRIX, block=BLOCK, seed: int = 0) -> tuple[Pairs, LowFrequency]:
    images = torch.rand(batch, *matrix, generator=generator(seed))
    low = acquire(as_kspace(images), block)
    return Pairs(low.image, images / low.scale[:, None, None], block), low


def test_first_weights_follow_the_seed_and_nothing_global() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (EnsembleSampler(SMALL, MATRIX, BLOCK, seed) for seed in (4, 4, 5))
    pairs, low = some(2)
    first.prepare(pairs, generator())
    first.sample(low, 4, generator())
    assert torch.equal(before, torch.get_rng_state())
    weights = [dict(ensemble.named_parameters()) for ensemble in (first, again, other)]
    name = "networks.{}.bottom.first.weight".format
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not torch.equal(weights[0][name(0)], weights[2][name(0)])
    assert not torch.equal(weights[0][name(0)], weights[0][name(1)])
    assert all(value.isfinite().all() for value in weights[0].values())


@pytest.mark.parametrize("matrix", [(6, 5), (4, 7)])
def test_loss_is_the_density_of_a_gaussian(matrix: tuple[int, int]) -> None:
    sampler = EnsembleSampler(
        EnsembleConfig(members=1, channels=4, pools=1), matrix, (2, 2)
    ).double()
    pairs, low = some(1, matrix, (2, 2))
    sampler.prepare(pairs, generator())
    with torch.no_grad():
        sampler.coefficients[0].bias.normal_(0, 0.3, generator=generator())
    image, full = low.image.double(), pairs.full.double()
    mean, deviation = (value.detach() for value in sampler.predict(0, image))
    pixels = matrix[0] * matrix[1]
    transform = fourier(torch.eye(pixels).double().reshape(-1, *matrix)).reshape(pixels, -1).T
    covariance = (transform.mH * deviation.flatten().square()) @ transform
    assert float(covariance.imag.abs().max()) < 1e-12
    law = MultivariateNormal(mean.flatten(), covariance.real)
    expected = -law.log_prob((full - image).flatten()) / (pixels * math.log(2))
    assert sampler.loss(image, full, generator()).item() == pytest.approx(float(expected), rel=1e-6)


def test_samples_are_members_with_noise() -> None:
    sampler = EnsembleSampler(SMALL, MATRIX, BLOCK)
    _, low = some(1)
    # Far above zero, so that no sample is clipped.
    sampler.power.fill_(1e-4)
    count = 3000
    drawn = sampler.sample(low, count, generator(2))[:, 0]
    with torch.no_grad():
        predicted = [sampler.predict(member, low.image) for member in range(3)]
    means = torch.stack([mean[0] + low.image[0] for mean, _ in predicted])
    within = torch.stack([deviation[0].square() for _, deviation in predicted]).mean(0)
    expected = within + fourier(means).var(0, correction=0)
    found = fourier(drawn).var(0, correction=0)
    assert torch.allclose(found, expected.to(found.dtype), rtol=0.2)
    assert float((found / expected).real.mean()) == pytest.approx(1, abs=0.02)


def test_members_take_turns() -> None:
    sampler = EnsembleSampler(SMALL, MATRIX, BLOCK)
    sampler.power.fill_(1e-12)
    with torch.no_grad():
        for index, member in enumerate(sampler.networks):
            member.last.weight.zero_()
            member.last.bias.fill_(0.1e6 * (index + 1))
    _, low = some(2)
    drawn = sampler.sample(low, 7, generator()) - low.image
    levels = drawn.mean((2, 3)).mul(10).round()
    counts = torch.bincount(levels[:, 0].long(), minlength=4)
    assert sorted(counts.tolist()) == [0, 2, 2, 3]
    assert torch.equal(levels[:, 0], levels[:, 1])


@pytest.mark.parametrize("matrix", [(8, 8), (15, 22), (33, 18)])
def test_any_size_and_precision(matrix: tuple[int, int]) -> None:
    sampler = EnsembleSampler(SMALL, matrix, (3, 3))
    assert isinstance(sampler, PosteriorSampler)
    images = torch.rand(2, *matrix, generator=generator(), dtype=torch.float64)
    low = acquire(as_kspace(images), (3, 3))
    drawn = sampler.sample(low, 2, generator())
    assert (drawn.shape, drawn.dtype) == ((2, 2, *matrix), torch.float64)
    assert drawn.isfinite().all()
    assert (drawn >= 0).all()
    assert torch.equal(drawn, sampler.sample(low, 2, generator()))


@pytest.mark.slow
def test_training_learns_where_the_energy_is(tmp_path: Path) -> None:
    size, block = 24, (6, 6)

    def made(count: int, seed: int) -> tuple[Pairs, LowFrequency, torch.Tensor]:
        images, family = textures(count, size, seed)
        low = acquire(as_kspace(images), block)
        pairs = Pairs(low.image, images / low.scale[:, None, None], block)
        return pairs, low, torch.from_numpy(family)

    training, _, _ = made(96, 1)
    validation, low, family = made(24, 2)
    config = EnsembleConfig(members=2, channels=8, pools=2)
    sampler = EnsembleSampler(config, (size, size), block, seed=0)
    before = sampler.loss(validation.low, validation.full, generator())
    record = fit(
        sampler,
        training,
        validation,
        SamplerTraining(epochs=30, learning_rate=5e-3, accelerator="cpu"),
        tmp_path / "run",
    )
    after = sampler.loss(validation.low, validation.full, generator())
    assert after.item() < before.item() - 1
    assert min(entry["validation_loss"] for entry in record.curve) == pytest.approx(
        after.item(), abs=1e-3
    )
    values = uncertainty(sampler, low, 12, generator()).values
    place = torch.arange(size) - size // 2
    along = place[:, None].abs() > place.abs()
    share = (values * along).sum((1, 2)) / values.sum((1, 2))
    # Stripes across the rows in one family, across the columns in the other.
    ordered = share[family == 1][:, None] > share[family == 0]
    assert float(ordered.float().mean()) > 0.95


def test_bad_input_is_told() -> None:
    sampler = EnsembleSampler(SMALL, MATRIX, BLOCK)
    with pytest.raises(BadInputError, match="another matrix"):
        sampler.sample(some(1, (12, 12))[1], 2, generator())
    with pytest.raises(BadInputError, match="too small for the U-Net"):
        EnsembleSampler(SMALL, (3, 20), (1, 3))
    with pytest.raises(BadInputError, match="no such low-frequency block"):
        EnsembleSampler(SMALL, MATRIX, (20, 3))
