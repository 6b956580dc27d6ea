"""Artefact folders of a trained module: a description, its weights, and a manifest of both."""

from pathlib import Path

from pydantic import BaseModel
from safetensors.torch import save_file
from torch import nn

from adaptmr.data.files import complete_folder
from adaptmr.data.manifest import Description, check_manifest, read_description, write_manifest
from adaptmr.data.weights import assign_weights, read_weights

_WEIGHTS = "weights.safetensors"


def write_artefact(
    folder: Path, name: str, description: BaseModel, module: nn.Module, *, overwrite: bool = False
) -> None:
    """Write a module and what describes it; the folder appears complete or not at all.

    Args:
        folder: name of the folder.
        name: file of the description within it, ``<name>.json``.
        description: all that is needed to build the module again, and where it came from.
        module: its state becomes ``weights.safetensors``.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the folder exists or cannot be written.
    """
    weights = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    with complete_folder(folder, overwrite=overwrite) as partial:
        (partial / f"{name}.json").write_text(description.model_dump_json(indent=1) + "\n")
        save_file(weights, partial / _WEIGHTS)
        write_manifest(partial)


def read_artefact(folder: Path, name: str, kind: type[Description], what: str) -> Description:
    """Read the description of a folder whose files are those that were written, byte for byte.

    Args:
        folder: what `write_artefact` wrote.
        name: as given to it.
        kind: the model of the description; its ``schema_version`` tells newer ones apart.
        what: the thing described, for messages: "a sampler".

    Raises:
        BadInputError: the folder is missing, incomplete, altered, or of a newer version.
    """
    check_manifest(folder)
    return read_description(folder / f"{name}.json", kind, what)


def load_weights(module: nn.Module, folder: Path) -> None:
    """Give a module the weights in ``folder``, on the CPU.

    Raises:
        BadInputError: they are missing, or do not fit the module.
    """
    assign_weights(module, read_weights(folder / _WEIGHTS), folder / _WEIGHTS)
