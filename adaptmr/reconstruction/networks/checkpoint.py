"""Trained networks as folders: ``network.json``, ``weights.safetensors``, ``manifest.json``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from safetensors.torch import save_file

from adaptmr.data.files import complete_folder
from adaptmr.data.manifest import check_manifest, write_manifest
from adaptmr.data.weights import assign_weights, initialise, read_weights
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.networks.fastmri_weights import from_fastmri
from adaptmr.reconstruction.networks.unet import UNetConfig, UNetReconstructor
from adaptmr.reconstruction.networks.varnet import VarNet, VarNetConfig

Architecture = Annotated[UNetConfig | VarNetConfig, Field(discriminator="kind")]
Network = UNetReconstructor | VarNet

SCHEMA: Final = 1
_DESCRIPTION = "network.json"
_WEIGHTS = "weights.safetensors"


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
    weights = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    with complete_folder(folder, overwrite=overwrite) as partial:
        (partial / _DESCRIPTION).write_text(description.model_dump_json(indent=1) + "\n")
        save_file(weights, partial / _WEIGHTS)
        write_manifest(partial)


def load(folder: Path) -> Network:
    """Read a network that `save` wrote, on the CPU and in evaluation mode.

    Raises:
        BadInputError: the folder is missing, incomplete, altered, or of a newer version.
    """
    check_manifest(folder)
    description = _read_description(folder / _DESCRIPTION)
    with torch.device("meta"):
        network = _shell(description.architecture)
    assign_weights(network, read_weights(folder / _WEIGHTS), folder / _WEIGHTS)
    return network.eval()


def provenance(folder: Path) -> dict[str, Any]:
    """How the network in ``folder`` came to be, as given to `save`.

    Raises:
        BadInputError: as `load`.
    """
    check_manifest(folder)
    return _read_description(folder / _DESCRIPTION).provenance


def load_fastmri(file: Path) -> Network:
    """Read the weights of a fastMRI VarNet or U-Net, stored as safetensors, in evaluation mode.

    Raises:
        BadInputError: the file cannot be read, or its weights are of another network.
    """
    return from_fastmri(read_weights(file), file).eval()


def _read_description(file: Path) -> _Description:
    try:
        return _Description.model_validate_json(file.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        newer = field == "schema_version"
        raise BadInputError(
            "the network is described in a way this version cannot read",
            file=file,
            field=field,
            got=problem["input"] if newer else problem["msg"],
            expected=SCHEMA if newer else None,
            hint="It was written by a newer adaptmr: update" if newer else None,
        ) from error
    except OSError as error:
        raise BadInputError("the description is missing", file=file) from error
