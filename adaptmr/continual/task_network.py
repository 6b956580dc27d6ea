"""`TaskNetwork`: the frozen network of a task, and what it needs an image to be like."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import pad

from adaptmr.data.crop import center_crop
from adaptmr.errors import BadInputError

INTENSITY_FACTOR = 3.0
"""By how much the mean and the deviation of images may differ from those a network was made for."""


class Layout(StrEnum):
    """What a task network judges at once."""

    SLICES = "slices"
    """Each slice alone: input (slices, 1, rows, columns)."""
    VOLUMES = "volumes"
    """All slices of a scan: input (1, 1, slices, rows, columns)."""


class Scale(StrEnum):
    """How intensities are made comparable: by slice or by volume, as the layout says."""

    NONE = "none"
    """Not at all: the network takes the units of the k-space."""
    MEAN = "mean"
    """Divided by the mean."""
    STANDARD = "standard"
    """Mean 0, standard deviation 1."""
    MAXIMUM = "maximum"
    """Divided by the largest value."""


class Adapter(BaseModel):
    """From a reconstruction to the input of a task network; gradients pass through all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Layout = Layout.SLICES
    scale: Scale = Scale.STANDARD
    size: tuple[PositiveInt, PositiveInt] | None = None
    """Rows and columns of the input: the centre is cut out, or zeros are put around. As the image
    is when not given."""

    def place(self, image: Tensor) -> Tensor:
        """An image, or a label map of the same pixels, in the size of the input.

        Args:
            image: (..., rows, columns).
        """
        if self.size is None:
            return image
        image = center_crop(image, self.size)
        (rows, columns), (height, width) = image.shape[-2:], self.size
        top, left = (height - rows) // 2, (width - columns) // 2
        return pad(image, (left, width - columns - left, top, height - rows - top))

    def __call__(self, image: Tensor) -> Tensor:
        """The input of the network.

        Args:
            image: (slices, rows, columns) magnitude; of `Layout.VOLUMES` all slices of one scan.

        Returns:
            (slices, 1, rows, columns), or (1, 1, slices, rows, columns) of `Layout.VOLUMES`.
        """
        values = self.place(image)
        values = values[:, None] if self.layout is Layout.SLICES else values[None, None]
        axes = tuple(range(1, values.ndim))
        tiny = torch.finfo(values.dtype).tiny
        if self.scale is Scale.NONE:
            return values
        if self.scale is Scale.MAXIMUM:
            return values / values.amax(axes, keepdim=True).clamp(min=tiny)
        mean = values.mean(axes, keepdim=True)
        if self.scale is Scale.MEAN:
            return values / mean.clamp(min=tiny)
        # With a floor below the root: the gradient of an image of one value would be infinite.
        centred = values - mean
        floor = (1e-6 * mean) ** 2 + tiny
        return centred / (centred.square().mean(axes, keepdim=True) + floor).sqrt()


class Intensity(BaseModel):
    """What the inputs were like that a task network was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    deviation: PositiveFloat

    @classmethod
    def of(cls, values: Tensor) -> "Intensity":
        """That of inputs of any shape."""
        return cls(mean=float(values.mean()), deviation=float(values.std()))

    def accepts(self, other: "Intensity") -> bool:
        """Whether a network made for these may be shown the others."""
        ratio = other.deviation / self.deviation
        return (
            1 / INTENSITY_FACTOR <= ratio <= INTENSITY_FACTOR
            and abs(other.mean - self.mean) <= INTENSITY_FACTOR * self.deviation
        )


@dataclass(frozen=True, eq=False)
class TaskNetwork:
    """A frozen differentiable network that judges images; its weights never change here.

    Attributes:
        network: input of the adapter -> raw outputs, no softmax: (batch, outputs) for a class or a
            number, (batch, outputs, ...pixels) for a map of classes.
        adapter: from a reconstruction to the input.
        outputs: classes, or 1 for a number.
        intensity: what the inputs in its training were like; None where that is unknown.
        fingerprint: sha256 that tells networks apart, for the records.
    """

    network: nn.Module
    adapter: Adapter
    outputs: int
    intensity: Intensity | None
    fingerprint: str

    def __post_init__(self) -> None:
        for parameter in self.network.parameters():  # requires_grad_() is not for TorchScript
            parameter.requires_grad = False
        self.freeze()

    def freeze(self) -> None:
        """Take the network into evaluation mode; an exported program is in it for good."""
        if not isinstance(self.network, torch.fx.GraphModule):
            self.network.eval()

    def __call__(self, image: Tensor) -> Tensor:
        """Raw outputs for (slices, rows, columns) magnitude images; differentiable."""
        logits: Tensor = self.network(self.adapter(image))
        return logits

    def check(self, image: Tensor) -> None:
        """Refuse a network that images of this kind cannot be fine-tuned for.

        Args:
            image: (slices, rows, columns) fully sampled magnitude.

        Raises:
            BadInputError: it fails on the image, gives another number of outputs or outputs that
                are not finite, has no gradient, or was made for another range of intensities.
        """
        probe = image.detach().clone().requires_grad_(True)
        if self.intensity is not None:
            found = Intensity.of(self.adapter(image))
            if not self.intensity.accepts(found):
                raise BadInputError(
                    "the task network was made for another range of intensities",
                    field="intensity",
                    got=f"mean {found.mean:.3g}, deviation {found.deviation:.3g}",
                    expected=f"about {self.intensity.mean:.3g} and {self.intensity.deviation:.3g}",
                    hint="Choose the adapter that the network was trained with",
                )
        try:
            logits = self(probe)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise BadInputError(
                "the task network fails on an image of the task",
                field="network",
                got=str(error).splitlines()[0],
                hint=f"Its input is {tuple(self.adapter(image).shape)}; set the adapter's size",
            ) from error
        if logits.ndim < 2 or logits.shape[1] != self.outputs:
            raise BadInputError(
                "the task network has another number of outputs",
                field="outputs",
                got=tuple(logits.shape),
                expected=f"{self.outputs} on the second axis",
            )
        if not bool(torch.isfinite(logits).all()):
            raise BadInputError("the task network gives values that are not finite")
        gradient = (
            torch.autograd.grad(logits.square().sum(), probe, allow_unused=True)[0]
            if logits.requires_grad
            else None
        )
        if gradient is None or not bool(torch.isfinite(gradient).all()) or not gradient.any():
            raise BadInputError(
                "the task network is not differentiable",
                field="network",
                got="no gradient" if gradient is None else "a gradient of zeros, NaN or infinity",
                expected="a gradient of its outputs with respect to the image",
                hint="Export it without argmax, detach or no_grad",
            )
