"""A network together with the masks that were learned with it: values, and folders of them."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from torch import Tensor, nn

from adaptmr.data.artefact import load_weights, read_artefact, write_artefact
from adaptmr.reconstruction.learned.binarise import as_mask, draw, measured
from adaptmr.reconstruction.learned.loupe import Loupe, LoupeConfig
from adaptmr.reconstruction.learned.policy import Policy, PolicyConfig
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.checkpoint import Architecture, Network
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.low_frequency import LowFrequency, acquire, block_of
from adaptmr.sampling.mask import Mask

LearnerConfig = Annotated[LoupeConfig | PolicyConfig, Field(discriminator="kind")]
Learner = Loupe | Policy

SCHEMA: Final = 1
_NAME: Final = "learned"


class LearnedReconstruction(nn.Module):
    """A network and the learner of its masks, called with k-space alone.

    Args:
        network: a `Reconstructor`.
        learner: gives the masks.
    """

    def __init__(self, network: Network, learner: Learner) -> None:
        super().__init__()
        self.network = network
        self.learner = learner

    def acquire(self, kspace: Tensor) -> LowFrequency:
        """The low-frequency data of (batch, coil, readout, phase) k-space: all a mask may see."""
        matrix = (kspace.shape[-2], kspace.shape[-1])
        return acquire(kspace, block_of(self.learner.frame.low_frequency, matrix))

    def masks(self, kspace: Tensor) -> tuple[Mask, ...]:
        """The mask of each slice; nothing outside the low-frequency block is looked at."""
        return self.learner.masks(self.acquire(kspace))

    def forward(self, kspace: Tensor) -> Tensor:
        """Choose a mask for each slice and reconstruct under it.

        Args:
            kspace: (batch, coil, readout, phase) complex; only the low-frequency block and what
                the masks take are used.

        Returns:
            (batch, readout, phase) magnitude images.
        """
        groups = defaultdict(list)
        for index, mask in enumerate(self.masks(kspace)):
            groups[mask].append(index)
        images: dict[int, Tensor] = {}
        for mask, members in groups.items():
            images.update(zip(members, self.network(kspace[members], mask), strict=True))
        return torch.stack([images[index] for index in range(len(kspace))])

    def training_image(self, kspace: Tensor, generator: torch.Generator) -> Tensor:
        """Reconstruct under drawn masks, with gradients to the learner.

        Args:
            kspace: (batch, coil, readout, phase) complex, fully sampled.
            generator: where the draws come from.

        Returns:
            (batch, readout, phase) magnitude images.
        """
        drawn = draw(self.learner(self.acquire(kspace)), self.learner.frame, generator)
        left = measured(kspace, drawn)
        masks = [as_mask(one, self.learner.frame) for one in drawn]
        if len(masks) == 1:
            return self.network.from_measured(left, masks[0])
        # Data consistency takes one mask per call.
        images = [
            self.network.from_measured(left[index : index + 1], mask)
            for index, mask in enumerate(masks)
        ]
        return torch.cat(images)


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA
    architecture: Architecture
    learner: LearnerConfig
    frame: str
    """The low-frequency block as a mask (`Mask.to_json`), which holds sizes and padding."""
    budget: int
    provenance: dict[str, JsonValue]


def build(
    architecture: Architecture, learner: LearnerConfig, frame: Frame, seed: int
) -> LearnedReconstruction:
    """A network and a learner with first weights drawn from ``seed``."""
    network = checkpoint.build(architecture, seed)
    if isinstance(learner, LoupeConfig):
        return LearnedReconstruction(network, Loupe(learner, frame))
    return LearnedReconstruction(network, Policy(learner, frame, seed))


def save(
    learned: LearnedReconstruction,
    folder: Path,
    provenance: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write network and learner so that `load` gives them back bit by bit.

    Args:
        learned: network and learner.
        folder: name of the folder; it appears complete or not at all.
        provenance: how they came to be: configuration, data, versions, training curve.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the folder exists or cannot be written.
    """
    frame = learned.learner.frame
    description = _Description(
        architecture=learned.network.config,
        learner=learned.learner.config,
        frame=frame.block_only.to_json(),
        budget=frame.budget,
        provenance=dict(provenance),
    )
    write_artefact(folder, _NAME, description, learned, overwrite=overwrite)


def load(folder: Path) -> LearnedReconstruction:
    """Read what `save` wrote, on the CPU and in evaluation mode.

    Raises:
        BadInputError: the folder is missing, incomplete, altered, or of a newer version.
    """
    description = _read(folder)
    block = Mask.from_json(description.frame)
    assert block.encoded is not None  # noqa: S101 - set by Mask
    frame = Frame(block.encoded, block.low_frequency, description.budget)
    learned = build(description.architecture, description.learner, frame, seed=0)
    load_weights(learned, folder)
    return learned.eval()


def provenance(folder: Path) -> dict[str, Any]:
    """How the network and masks in ``folder`` came to be, as given to `save`.

    Raises:
        BadInputError: as `load`.
    """
    return _read(folder).provenance


def _read(folder: Path) -> _Description:
    return read_artefact(folder, _NAME, _Description, "a network with learned masks")
