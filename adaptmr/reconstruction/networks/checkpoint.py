"""Trained networks as folders: ``network.json``, ``weights.safetensors``, ``manifest.json``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from adaptmr.data.artefact import load_weights, read_artefact, write_artefact
from adaptmr.data.weights import initialise, read_weights
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.networks.fastmri_weights import from_fastmri
from adaptmr.reconstruction.networks.unet import UNetConfig, UNetReconstructor
from adaptmr.reconstruction.networks.varnet import VarNet, VarNetConfig

Architecture = Annotated[UNetConfig | VarNetConfig, Field(discriminator="kind")]
Network = UNetReconstructor | VarNet

SCHEMA: Final = 1
_NAME: Final = "network"


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA
    architecture: Architecture
    provenance: dict[str, JsonValue]


def build(architecture: UNetConfig | VarNetConfig, seed: int) -> Network:
    """A network with first weights drawn from ``seed``; the global random state stays as it is.

    The U-Nets of a VarNet's cascades end in zeros: from updates that say nothing yet a short
    training gets further than from random ones.
    """
    with torch.device("meta"):
        network = _shell(architecture)
    network = network.to_empty(device="cpu")
    initialise(network, seed)
    if isinstance(network, VarNet):
        torch.nn.init.ones_(network.step_sizes)
        for name, parameter in network.regularisers.named_parameters():
            if ".last." in name:
                torch.nn.init.zeros_(parameter)
    return network


def begin(
    architecture: UNetConfig | VarNetConfig, seed: int, initial: Path | None = None
) -> Network:
    """The network that a training starts from: one in a folder, or a new one.

    Args:
        architecture: which network, and how large.
        seed: of the first weights of a new one.
        initial: folder that `save` wrote; a new network when not given.

    Raises:
        BadInputError: the folder cannot be read, or holds another architecture.
    """
    if initial is None:
        return build(architecture, seed)
    network = load(initial)
    if network.config != architecture:
        raise BadInputError(
            "the initial network is of another architecture",
            file=initial,
            field="initial",
            got=network.config,
            expected=architecture,
        )
    return network.train()


def _shell(architecture: UNetConfig | VarNetConfig) -> Network:
    if isinstance(architecture, UNetConfig):
        return UNetReconstructor(architecture)
    return VarNet(architecture)


def save(
    network: Network,
    folder: Path,
    provenance: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write a network so that `load` gives it back bit by bit.

    Args:
        network: the network.
        folder: name of the folder; it appears complete or not at all.
        provenance: how the network came to be: configuration, data, versions, training curve.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the folder exists or cannot be written.
    """
    description = _Description(architecture=network.config, provenance=dict(provenance))
    write_artefact(folder, _NAME, description, network, overwrite=overwrite)


def load(folder: Path) -> Network:
    """Read a network that `save` wrote, on the CPU and in evaluation mode.

    Raises:
        BadInputError: the folder is missing, incomplete, altered, or of a newer version.
    """
    description = _read(folder)
    with torch.device("meta"):
        network = _shell(description.architecture)
    load_weights(network, folder)
    return network.eval()


def provenance(folder: Path) -> dict[str, Any]:
    """How the network in ``folder`` came to be, as given to `save`.

    Raises:
        BadInputError: as `load`.
    """
    return _read(folder).provenance


def load_fastmri(file: Path) -> Network:
    """Read the weights of a fastMRI VarNet or U-Net, stored as safetensors, in evaluation mode.

    Raises:
        BadInputError: the file cannot be read, or its weights are of another network.
    """
    return from_fastmri(read_weights(file), file).eval()


def _read(folder: Path) -> _Description:
    return read_artefact(folder, _NAME, _Description, "a network")
