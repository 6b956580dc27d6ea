"""What is particular to a strategy: the faults of the released code among it."""

from collections.abc import Iterator

import pytest
import torch
from made_tasks import made_tasks, made_work
from torch import Tensor, nn

from adaptmr.continual.measures import image_loss
from adaptmr.continual.strategies.base import StageWork, Strategy, Update, task_loss
from adaptmr.continual.strategies.plain import Joint
from adaptmr.continual.strategies.regularised import (
    ElasticWeights,
    WithoutForgetting,
    elastic_penalty,
)
from adaptmr.continual.strategies.replaying import (
    DarkExperienceReplay,
    ExperienceReplay,
    LogitReplay,
    Mode,
    Most,
)
from adaptmr.continual.strategies.sensitive import ForgettingPrioritised, sensitive_parameters


def step_on(work: StageWork, updates: Iterator[Update], rate: float = 1e-2) -> list[float]:
    """Take the updates as they are asked for, by plain gradient descent."""
    losses = []
    for update in updates:
        parameters = update.parameters or tuple(work.parameters.values())
        gradients = torch.autograd.grad(update.loss, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter -= rate * gradient
        losses.append(float(update.loss.detach()))
    return losses


def move(network: nn.Module, by: float) -> None:
    with torch.no_grad():
        for value in network.parameters():
            value += by


def test_the_gradient_of_ewc_is_the_analytic_one() -> None:
    """In the released code the penalty was logged and never back-propagated."""
    strategy = ElasticWeights(strength=7.0, samples=3)
    work = made_work(made_tasks()[:2], strategy)
    assert float(elastic_penalty(work.parameters, work.memory, 7.0).detach()) == 0
    move(work.network, 0.01)
    loss = next(strategy.updates(work, 0)).loss
    batch = work.current(0)
    plain = task_loss(work.task, work.image(batch), batch)
    names, values = zip(*work.parameters.items(), strict=True)
    whole = torch.autograd.grad(loss, values, allow_unused=True)
    alone = torch.autograd.grad(plain, values, allow_unused=True)
    for name, value, first, second in zip(names, values, whole, alone, strict=True):
        fisher, anchor = work.memory[f"fisher.{name}"], work.memory[f"anchor.{name}"]
        expected = 7.0 * fisher * (value.detach() - anchor)
        penalty = (0 if first is None else first) - (0 if second is None else second)
        assert torch.allclose(torch.as_tensor(penalty), expected, atol=1e-4, rtol=1e-3)
    fisher = torch.cat([v.flatten() for k, v in work.memory.items() if k.startswith("fisher.")])
    assert float(fisher.max()) > 0


def test_the_fisher_information_is_the_mean_of_squares_by_slice_and_fades() -> None:
    """The released code squared the mean over a batch, and divided by a number it never saw."""
    strategy = ElasticWeights(samples=4, fading=0.5)
    tasks = made_tasks()
    work = made_work(tasks[:2], strategy)
    first = {k: v.clone() for k, v in work.memory.items() if k.startswith("fisher.")}
    squares = {name: torch.zeros_like(value) for name, value in work.parameters.items()}
    for batch in work.single(4):
        loss = task_loss(work.task, work.image(batch), batch)
        gradients = torch.autograd.grad(loss, list(work.parameters.values()))
        for name, gradient in zip(squares, gradients, strict=True):
            squares[name] += gradient**2 / 4
    mean = torch.cat([value.flatten() for value in squares.values()]).mean()
    strategy.after(work)
    for name, value in squares.items():
        expected = 0.5 * first[f"fisher.{name}"] + value / mean
        assert torch.allclose(work.memory[f"fisher.{name}"], expected, rtol=1e-3, atol=1e-6)


def test_the_teacher_of_lwf_does_not_learn() -> None:
    """In the released code the teacher shared the trunk that was trained."""
    strategy = WithoutForgetting()
    work = made_work(made_tasks()[:2], strategy)
    strategy.before(work)
    batch = work.current(0)
    before = {name: value.clone() for name, value in work.memory.items()}
    with torch.no_grad():
        taught = work.image(batch)
    step_on(work, strategy.updates(work, 0), rate=0.1)
    move(work.network, 0.02)
    assert before.keys() == work.memory.keys()
    assert all(torch.equal(value, work.memory[name]) for name, value in before.items())
    image = work.image(batch)
    assert not torch.allclose(image, taught)
    expected = task_loss(work.task, image, batch) + image_loss(image, taught, batch.data_range)
    found = next(strategy.updates(work, 0)).loss
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    strategy.after(work)
    assert not work.memory


@pytest.mark.parametrize("kind", [ExperienceReplay, LogitReplay, Most, DarkExperienceReplay])
def test_tasks_are_replayed_in_turn_every_third_step(kind: type[Strategy]) -> None:
    tasks = made_tasks()[:3]
    strategy = kind()
    work = made_work(tasks, strategy)
    asked: list[tuple[int, str]] = []
    replay = StageWork.replay

    def noted(self: StageWork, task: object, *key: int) -> object:
        asked.append((key[0], task.name))  # type: ignore[attr-defined]
        return replay(self, task, *key)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageWork, "replay", noted)
        for step in range(9):
            assert len(list(strategy.updates(work, step))) == 1
    draws = 2 if kind is DarkExperienceReplay else 1
    turns = [(2, "tissue"), (5, "image"), (8, "tissue")]
    assert asked == [turn for turn in turns for _ in range(draws)]


def test_paper_mode_takes_two_steps_and_scales_the_second() -> None:
    tasks = made_tasks()[:2]
    joint, paper = Most(), Most(mode=Mode.PAPER)
    both = made_work(tasks, joint), made_work(tasks, paper, learning_rate=1e-3)
    together = step_on(both[0], joint.updates(both[0], 2), rate=0.0)
    apart = step_on(both[1], paper.updates(both[1], 2), rate=0.0)
    assert len(together) == 1 and len(apart) == 2
    assert together[0] == pytest.approx(apart[0] + 10 * apart[1], rel=1e-5)
    after = step_on(both[1], paper.updates(both[1], 2), rate=0.3)
    assert after[0] == apart[0]
    assert after[1] != apart[1], "the second loss is of the weights that the first step left"


def test_what_most_replays_is_what_was_recorded() -> None:
    """The network that recorded the buffer has no loss on it; others have."""
    tasks, strategy = made_tasks()[:3], Most()
    work = made_work(tasks, strategy)

    def loss(step: int) -> Tensor:
        whole = next(strategy.updates(work, step)).loss.detach()
        batch = work.current(step)
        image = work.image(batch)
        return whole - strategy.current_loss(work.task, image, batch).detach()

    assert abs(float(loss(2))) < 1e-5
    assert abs(float(loss(5))) < 1e-5
    move(work.network, 0.02)
    assert float(loss(2)) > 1e-3
    assert float(loss(5)) > 1e-3


def test_an_empty_buffer_is_not_replayed() -> None:
    tasks, strategy = made_tasks()[:2], Most()
    work = made_work(tasks, strategy)
    for item in work.buffer.items:
        object.__setattr__(work, "buffer", work.buffer.erase(item.subject))
    assert len(list(strategy.updates(work, 2))) == 1


def test_k_fpf_trains_what_moved_most_and_only_in_its_phases() -> None:
    strategy = ForgettingPrioritised(phases=2, replayed=1.0, share=0.2)
    work = made_work(made_tasks()[:2], strategy, steps=6)
    strategy.before(work)
    assert [len(list(strategy.updates(work, step))) for step in range(6)] == [1, 1, 4, 1, 1, 4]
    strategy.before(work)
    names = [name for name in work.parameters if name.startswith("regularisers.1.")]
    with torch.no_grad():
        for name in names:
            work.parameters[name] += 1.0
    chosen = sensitive_parameters(work, 0.2)
    mine = {id(work.parameters[name]) for name in names}
    total = sum(value.numel() for value in work.parameters.values())
    assert {id(value) for value in chosen} <= mine
    assert sum(value.numel() for value in chosen) >= 0.2 * total
    updates = strategy.updates(work, 2)
    step_on(work, iter([next(updates)]), rate=0.0)
    others = {n: v.detach().clone() for n, v in work.parameters.items() if id(v) not in mine}
    step_on(work, updates, rate=0.5)
    assert all(torch.equal(work.parameters[name], value) for name, value in others.items())


def test_joint_takes_the_tasks_in_turn() -> None:
    tasks = made_tasks()
    work = made_work(tasks, Joint())
    asked: list[str] = []
    current = StageWork.current

    def noted(self: StageWork, step: int, task: object = None) -> object:
        asked.append(task.name)  # type: ignore[attr-defined]
        return current(self, step, task)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageWork, "current", noted)
        for step in range(8):
            list(Joint().updates(work, step))
    assert asked == 2 * [task.name for task in tasks]
