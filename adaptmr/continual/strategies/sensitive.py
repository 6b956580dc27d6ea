"""k-FPF: instead of a replay every few steps, k phases on the buffer for what moved most."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import nn

from adaptmr.continual.strategies.base import StageWork, Strategy, Update, guided_loss
from adaptmr.continual.strategies.replaying import most_buffer_loss

_MARK = "mark."


class ForgettingPrioritised(Strategy):
    """MOST with its replay in k phases, in which only the most sensitive modules are trained.

    The sensitivity of a module is the mean absolute change of its parameters since the last phase:
    what moves most for the new task is what forgets. Which modules these are is measured, for the
    instance normalisation of these networks has no parameters (the paper's batch normalisation and
    last layer do not carry over). Source: Zhao et al., Does continual learning equally forget all
    parameters?, ICML 2023, arXiv:2304.04158 (k-FPF with distillation).
    """

    kind: Literal["k-fpf"] = "k-fpf"
    replays: ClassVar[bool] = True

    phases: PositiveInt = 3
    """k: evenly spread over the stage, the last at its end."""
    replayed: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Updates on the buffer, of all phases together, per step of the stage; at least one a phase.
    A replay every third step is 0.33."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Of the parameters, the part at least that the modules of a phase have together."""

    def before(self, stage: StageWork) -> None:
        """Changes are counted from here."""
        _mark(stage)

    def updates(self, stage: StageWork, step: int) -> Iterator[Update]:
        """One step; at the end of a phase's part of the stage those of the phase as well."""
        batch = stage.current(step)
        yield Update(guided_loss(stage.task, stage.image(batch), batch))
        if step + 1 not in self._ends(stage.steps):
            return
        chosen = sensitive_parameters(stage, self.share)
        finished = [task for task in stage.tasks[:-1] if stage.buffer.of_task(task.name)]
        updates = max(1, round(self.replayed * stage.steps / self.phases))
        for number in range(updates if finished else 0):
            task = finished[number % len(finished)]
            drawn = stage.replay(task, step, number)
            if drawn is not None:
                loss = most_buffer_loss(task, stage.image(drawn), drawn)
                yield Update(loss, chosen)
        _mark(stage)

    def after(self, stage: StageWork) -> None:
        """Nothing is remembered over stages."""
        for name in [name for name in stage.memory if name.startswith(_MARK)]:
            del stage.memory[name]

    def _ends(self, steps: int) -> set[int]:
        return {round(steps * (phase + 1) / self.phases) for phase in range(self.phases)}


def sensitive_parameters(stage: StageWork, share: float) -> tuple[nn.Parameter, ...]:
    """Those of the modules that changed most, until they have a share of all parameters."""
    modules: dict[str, list[str]] = {}
    for name in stage.parameters:
        modules.setdefault(name.rpartition(".")[0], []).append(name)
    parameters = stage.parameters

    def sensitivity(names: list[str]) -> float:
        changes = [
            (parameters[name].detach() - stage.memory[_MARK + name].to(stage.device)).abs()
            for name in names
        ]
        return float(torch.cat([change.flatten() for change in changes]).double().mean())

    ordered = sorted(modules.values(), key=sensitivity, reverse=True)
    total = sum(value.numel() for value in parameters.values())
    chosen: list[nn.Parameter] = []
    for names in ordered:
        if sum(value.numel() for value in chosen) >= share * total:
            break
        chosen.extend(parameters[name] for name in names)
    return tuple(chosen)


def _mark(stage: StageWork) -> None:
    for name, value in stage.parameters.items():
        stage.memory[_MARK + name] = value.detach().clone()
