"""Strategies that hold on to weights or outputs, without data of the tasks before."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.func import functional_call

from adaptmr.continual.measures import image_loss
from adaptmr.continual.strategies.base import StageWork, Strategy, Update, task_loss

_FISHER, _ANCHOR, _TEACHER = "fisher.", "anchor.", "teacher."


class ElasticWeights(Strategy):
    """EWC, online: a spring on each weight, as stiff as the weight was important.

    The Fisher information of a finished task is the mean over slices of the squared gradient of
    its loss, scaled to mean 1, so that tasks whose losses are of another size count alike; that of
    the tasks before fades. Sources: Kirkpatrick et al., PNAS 2017, eq. 3; Schwarz et al., Progress
    and compress, ICML 2018, section 3.2 (online, normalised).
    """

    kind: Literal["ewc"] = "ewc"

    strength: PositiveFloat = 10.0
    """Of the penalty, lambda."""
    samples: PositiveInt = 64
    """Slices (or volumes) that the Fisher information is estimated from."""
    fading: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Factor of the Fisher information of the tasks before."""

    def updates(self, stage: StageWork, step: int) -> Iterator[Update]:
        """One step."""
        batch = stage.current(step)
        loss = task_loss(stage.task, stage.image(batch), batch)
        yield Update(loss + elastic_penalty(stage.parameters, stage.memory, self.strength))

    def after(self, stage: StageWork) -> None:
        """Estimate the Fisher information of the task, and remember the weights."""
        parameters = stage.parameters
        sums = {name: torch.zeros_like(value) for name, value in parameters.items()}
        for batch in stage.single(self.samples):
            loss = task_loss(stage.task, stage.image(batch), batch)
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    sums[name] += gradient.square()
        count = sum(value.numel() for value in sums.values())
        mean = sum(float(value.double().sum()) for value in sums.values()) / count
        for name, value in sums.items():
            before = stage.memory.get(_FISHER + name)
            fisher = value / max(mean, torch.finfo(value.dtype).tiny)
            stage.memory[_FISHER + name] = (
                fisher if before is None else self.fading * before.to(fisher) + fisher
            )
            stage.memory[_ANCHOR + name] = parameters[name].detach().clone()


def elastic_penalty(
    parameters: Mapping[str, nn.Parameter], memory: Mapping[str, Tensor], strength: float
) -> Tensor:
    """Half the strength times the sum of F (w - w*)^2; differentiable in the parameters."""
    terms = [
        (
            memory[_FISHER + name].to(value) * (value - memory[_ANCHOR + name].to(value)).square()
        ).sum()
        for name, value in parameters.items()
    ]
    return strength / 2 * torch.stack(terms).sum()


class WithoutForgetting(Strategy):
    """LwF: on the data at hand, the reconstruction of the network that began the stage is kept.

    The whole network that began the stage is the teacher, frozen from end to end. There is one
    network, not one head for each task: at inference nobody says which task an image is for.
    Source: Li and Hoiem, Learning without forgetting, ECCV 2016.
    """

    kind: Literal["lwf"] = "lwf"

    weight: PositiveFloat = 1.0
    """Of 1 - SSIM to the teacher's reconstruction."""

    def before(self, stage: StageWork) -> None:
        """The weights of now are the teacher's."""
        for name, value in stage.network.state_dict().items():
            stage.memory[_TEACHER + name] = value.detach().clone()

    def updates(self, stage: StageWork, step: int) -> Iterator[Update]:
        """One step."""
        batch = stage.current(step)
        image = stage.image(batch)
        loss = task_loss(stage.task, image, batch)
        with torch.no_grad():
            weights = {
                name: stage.memory[_TEACHER + name].to(stage.device)
                for name in stage.network.state_dict()
            }
            taught = functional_call(stage.network, weights, (batch.kspace, stage.mask))
        yield Update(loss + self.weight * image_loss(image, taught, batch.data_range))

    def after(self, stage: StageWork) -> None:
        """The teacher has done its work."""
        for name in [name for name in stage.memory if name.startswith(_TEACHER)]:
            del stage.memory[name]
