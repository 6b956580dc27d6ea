"""What every strategy has to keep. A new one joins `STRATEGIES` by one line."""

from pathlib import Path

import pytest
import torch
from made_tasks import made_mask, made_network, made_tasks, made_work

from adaptmr.continual.config import LearnerConfig
from adaptmr.continual.learner import ContinualLearner
from adaptmr.continual.strategies.base import Order
from adaptmr.continual.strategies.registry import STRATEGIES
from adaptmr.reconstruction.networks import checkpoint

every_strategy = pytest.mark.parametrize("kind", STRATEGIES)
CONFIG = LearnerConfig(
    steps=3, every=2, batch_size=2, replay_batch_size=2, learning_rate=1e-3, accelerator="cpu"
)


def weights(module: torch.nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in module.state_dict().values()]


@every_strategy
def test_two_tasks(kind: str, tmp_path: Path) -> None:
    """Each learns segmentation after reconstruction; the judge and the first network stay."""
    tasks, network = made_tasks()[:2], made_network()
    judge = tasks[1].network.network
    before = weights(judge), weights(network)
    strategy = STRATEGIES[kind]()
    learned = ContinualLearner(tasks, strategy, CONFIG).run(network, made_mask(), tmp_path)
    assert all(map(torch.equal, before[0], weights(judge)))
    assert all(map(torch.equal, before[1], weights(network)))
    assert not judge.training
    assert learned.matrix.shape == (2, 2)
    assert bool((learned.matrix == learned.matrix).all())
    assert (tmp_path / "1" / "buffer").is_dir() == strategy.replays
    first, last = (checkpoint.load(stage.network) for stage in learned.stages)
    assert all(map(torch.equal, before[1], weights(first)))
    moved = not all(map(torch.equal, before[1], weights(last)))
    assert moved == (learned.stages[1].record.step > 0)
    assert [point.step for point in learned.stages[1].record.curve] == [0, 2, 3]
    assert not list(tmp_path.glob("*.run"))


@every_strategy
def test_its_loss_depends_on_seed_and_step_alone(kind: str) -> None:
    strategy, losses = STRATEGIES[kind](), []
    tasks = made_tasks()
    for _ in range(2):
        torch.rand(3)  # the global state of random numbers is not looked at
        work = made_work(tasks[:3] if strategy.order is Order.SEQUENTIAL else tasks, strategy)
        state = torch.random.get_rng_state()
        strategy.before(work)
        losses.append([float(each.loss.detach()) for each in strategy.updates(work, 5)])
        assert torch.equal(state, torch.random.get_rng_state())
    assert losses[0] == losses[1]
    assert losses[0]


@every_strategy
def test_every_loss_has_a_gradient(kind: str) -> None:
    strategy = STRATEGIES[kind]()
    work = made_work(made_tasks()[:2], strategy)
    strategy.before(work)
    for step in (0, 2):
        for update in strategy.updates(work, step):
            work.network.zero_grad()
            update.loss.backward()
            assert sum(float(v.grad.abs().sum()) for v in work.parameters.values()) > 0


@every_strategy
def test_settings_round_trip(kind: str) -> None:
    strategy = STRATEGIES[kind]()
    assert type(strategy).model_validate_json(strategy.model_dump_json()) == strategy
    assert strategy.kind == kind
