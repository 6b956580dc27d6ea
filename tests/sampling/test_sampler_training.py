"""Training of samplers: it learns, follows its seed, and continues where it stopped."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from adaptmr.errors import BadInputError, UsageError
from adaptmr.kernels.fourier import fourier
from adaptmr.sampling import training_module
from adaptmr.sampling.flow.config import FlowConfig
from adaptmr.sampling.flow.flow import SuperResolutionFlow
from adaptmr.sampling.low_frequency import acquire
from adaptmr.sampling.pairs import Pairs
from adaptmr.sampling.training import SamplerTraining, continuable, fit

MATRIX, BLOCK = (12, 12), (4, 4)
CONFIG = FlowConfig(steps=1, noise_steps=(0, 1), width=6, features=6, growth=3, blocks=1)
TRAINING = SamplerTraining(epochs=3, batch_size=8, shift=2, accelerator="cpu")


def discs(count: int, seed: int) -> Pairs:
    """Discs of random place and size, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.linspace(-1, 1, MATRIX[0])
    at = 0.6 * torch.rand(count, 2, generator=generator) - 0.3
    size = 0.3 + 0.4 * torch.rand(count, 1, 1, generator=generator)
    distance = torch.hypot(
        grid[None, :, None] - at[:, :1, None], grid[None, None, :] - at[:, 1:, None]
    )
    images = torch.sigmoid(20 * (size - distance))
    images = (images + 0.02 * torch.randn(images.shape, generator=generator)).abs()
    known = acquire(fourier(images)[:, None], BLOCK)
    return Pairs(known.image, images / known.scale[:, None, None], BLOCK)


def flow() -> SuperResolutionFlow:
    return SuperResolutionFlow(CONFIG, MATRIX, BLOCK, seed=3)


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """While the list holds an epoch, a training breaks down after it."""
    from lightning.pytorch import Callback, Trainer

    after: list[int] = []
    whole = training_module.trainer_for

    class Breakdown(Callback):
        def on_train_epoch_start(self, trainer: Trainer, _: object) -> None:
            if after and trainer.current_epoch == after[0]:
                raise RuntimeError("power cut")

    def breaking(*args: object, **rest: object) -> Trainer:
        trainer = whole(*args, **rest)
        trainer.callbacks.append(Breakdown())
        return trainer

    monkeypatch.setattr(training_module, "trainer_for", breaking)
    return after


def test_the_likelihood_of_other_data_improves(tmp_path: Path) -> None:
    sampler, validation = flow(), discs(16, 1)
    config = TRAINING.model_copy(update={"epochs": 6, "learning_rate": 3e-3})
    record = fit(sampler, discs(48, 0), validation, config, tmp_path / "run")
    losses = [entry["validation_loss"] for entry in record.curve]
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 0.05
    assert losses[record.epoch] == min(losses)
    assert (tmp_path / "run" / "last.ckpt").is_file()
    assert (tmp_path / "run" / "logs").is_dir()


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999, 1.0])
def test_a_state_that_is_not_whole_is_thrown_away(
    tmp_path: Path, kept: float, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "last.ckpt"
    assert not continuable(state)
    torch.save({"weights": torch.randn(64, 64), "epoch": 3}, state)
    content = state.read_bytes()
    state.write_bytes(content[: int(kept * len(content))])
    assert continuable(state) is (kept == 1)
    assert state.exists() is (kept == 1)
    assert ("begins anew" in caplog.text) is (kept != 1)


def test_a_byte_of_a_state_that_changed_is_noticed(tmp_path: Path) -> None:
    state = tmp_path / "last.ckpt"
    torch.save({"weights": torch.randn(64, 64), "epoch": 3}, state)
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    assert not continuable(state)


def test_training_follows_its_seed_and_leaves_the_global_random_state(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    results = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        sampler = flow()
        config = TRAINING.model_copy(update={"epochs": 1, "seed": seed})
        fit(sampler, discs(20, 0), None, config, tmp_path / name)
        results.append(weights(sampler))
    assert torch.equal(torch.get_rng_state(), state)
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


@pytest.mark.parametrize("validated", [True, False])
def test_a_stopped_training_ends_as_if_it_had_not_been(
    tmp_path: Path, stopped: list[int], validated: bool
) -> None:
    validation = discs(8, 1) if validated else None
    uninterrupted = flow()
    expected = fit(uninterrupted, discs(20, 0), validation, TRAINING, tmp_path / "whole")
    stopped.append(2)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(flow(), discs(20, 0), validation, TRAINING, tmp_path / "parts")
    stopped.clear()
    continued = flow()
    record = fit(continued, discs(20, 0), validation, TRAINING, tmp_path / "parts")
    assert same(weights(uninterrupted), weights(continued))
    assert record == expected
    assert len(record.curve) == TRAINING.epochs


def test_another_training_does_not_continue_a_stopped_one(
    tmp_path: Path, stopped: list[int]
) -> None:
    stopped.append(1)
    run = tmp_path / "run"
    with pytest.raises(RuntimeError, match="power cut"):
        fit(flow(), discs(20, 0), None, TRAINING, run)
    stopped.clear()
    faster = TRAINING.model_copy(update={"learning_rate": 0.01})
    for pairs, config, field in (
        (discs(20, 0), faster, "config"),
        (discs(20, 5), TRAINING, "training"),
    ):
        with pytest.raises(UsageError, match=field):
            fit(flow(), pairs, None, config, run)
    noisier = SuperResolutionFlow(CONFIG.model_copy(update={"noise": 0.02}), MATRIX, BLOCK)
    with pytest.raises(UsageError, match="sampler"):
        fit(noisier, discs(20, 0), None, TRAINING, run)
    record = fit(flow(), discs(20, 0), None, faster, run, resume=False)
    assert len(record.curve) == TRAINING.epochs


def test_any_module_with_a_loss_is_trained(tmp_path: Path) -> None:
    """What `TrainableSampler` asks for is enough; here a gain that has to become 2."""

    class Gain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(()))
            self.prepared: list[int] = []
            self.config = CONFIG

        def loss(
            self, low: torch.Tensor, full: torch.Tensor, generator: torch.Generator
        ) -> torch.Tensor:
            noise = 0.01 * torch.randn(low.shape, generator=generator)
            return (self.gain * (low + noise) - full).square().mean()

        def prepare(self, pairs: Pairs, generator: torch.Generator) -> None:
            assert isinstance(generator, torch.Generator)
            self.prepared.append(len(pairs))

    low = torch.rand(32, 6, 5, generator=torch.Generator().manual_seed(0))
    sampler = Gain()
    config = TRAINING.model_copy(update={"epochs": 40, "learning_rate": 0.05})
    fit(sampler, Pairs(low, 2 * low, (2, 2)), None, config, tmp_path / "run")
    assert sampler.prepared == [32]
    assert float(sampler.gain.detach()) == pytest.approx(2, abs=0.02)


def test_a_loss_that_is_not_a_number_stops_the_training(tmp_path: Path) -> None:
    pairs = discs(20, 0)
    pairs.full[3] = float("nan")
    with pytest.raises(BadInputError, match="loss is not a number"):
        fit(flow(), pairs, None, TRAINING, tmp_path / "run")


def test_the_run_names_what_it_is_a_training_of(tmp_path: Path) -> None:
    pairs = discs(8, 0)
    config = TRAINING.model_copy(update={"epochs": 1})
    fit(flow(), pairs, None, config, tmp_path / "run")
    identity = json.loads((tmp_path / "run" / "identity.json").read_text())
    assert identity["training"] == pairs.fingerprint
    assert identity["config"]["learning_rate"] == config.learning_rate
