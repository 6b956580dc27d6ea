"""Task networks as folders: ``task-network.json``, the network, and ``manifest.json``.

The network is safetensors of a MONAI architecture, or a program that came from elsewhere: a
``torch.export`` archive or TorchScript. Neither format is a pickle that runs code when it is read;
a program does run when it judges, so take it from whom you trust.
"""

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveInt
from torch import nn

from adaptmr.continual.task_network import Adapter, Intensity, TaskNetwork
from adaptmr.data.artefact import load_weights, read_artefact, write_artefact
from adaptmr.data.files import complete_folder
from adaptmr.data.manifest import MANIFEST, sha256, write_manifest
from adaptmr.errors import BadInputError, UsageError

SCHEMA: Final = 1
_NAME: Final = "task-network"


class _Sized(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    dimensions: Literal[2, 3] = 2
    """2 judges slices, 3 volumes."""
    outputs: PositiveInt
    """Classes, or 1 for a number."""


class UNetJudge(_Sized):
    """MONAI's residual U-Net, for maps of classes."""

    kind: Literal["unet"] = "unet"
    channels: tuple[PositiveInt, ...] = (16, 32, 64, 128)
    """Of each level; each but the first has half the size of the one above."""


class ResNetJudge(_Sized):
    """MONAI's ResNet of basic blocks, for a class or a number."""

    kind: Literal["resnet"] = "resnet"
    channels: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (16, 32, 64, 128)
    blocks: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (1, 1, 1, 1)


class DenseNetJudge(_Sized):
    """MONAI's DenseNet, for a class or a number."""

    kind: Literal["densenet"] = "densenet"
    features: PositiveInt = 16
    growth: PositiveInt = 8
    blocks: tuple[PositiveInt, ...] = (2, 2, 2)


class Program(BaseModel):
    """A network that came as a program."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["export", "torchscript"]
    outputs: PositiveInt
    """Classes, or 1 for a number."""


JudgeArchitecture = Annotated[UNetJudge | ResNetJudge | DenseNetJudge, Field(discriminator="kind")]


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA
    network: Annotated[
        UNetJudge | ResNetJudge | DenseNetJudge | Program, Field(discriminator="kind")
    ]
    adapter: Adapter
    intensity: Intensity | None
    provenance: dict[str, JsonValue]


def build(architecture: JudgeArchitecture, seed: int) -> nn.Module:
    """A network with first weights drawn from ``seed``; the global random state stays as it is.

    Raises:
        UsageError: MONAI is not installed.
    """
    try:
        from monai.networks.nets.densenet import DenseNet
        from monai.networks.nets.resnet import ResNet
        from monai.networks.nets.unet import UNet
    except ImportError as error:
        raise UsageError(
            "task networks need MONAI", got=error, hint="Install it with 'adaptmr[continual]'"
        ) from error

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(architecture, UNetJudge):
            network: nn.Module = UNet(
                spatial_dims=architecture.dimensions,
                in_channels=1,
                out_channels=architecture.outputs,
                channels=architecture.channels,
                strides=(2,) * (len(architecture.channels) - 1),
                num_res_units=1,
            )
        elif isinstance(architecture, ResNetJudge):
            network = ResNet(
                "basic",
                list(architecture.blocks),
                list(architecture.channels),
                spatial_dims=architecture.dimensions,
                n_input_channels=1,
                num_classes=architecture.outputs,
            )
        else:
            network = DenseNet(
                architecture.dimensions,
                1,
                architecture.outputs,
                init_features=architecture.features,
                growth_rate=architecture.growth,
                block_config=architecture.blocks,
            )
    return network


def save(
    network: nn.Module,
    architecture: JudgeArchitecture,
    adapter: Adapter,
    intensity: Intensity,
    folder: Path,
    provenance: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write a network that `build` made and that was trained since.

    Args:
        network: the network.
        architecture: what it was built from.
        adapter: from an image to its input.
        intensity: what the inputs in its training were like.
        folder: appears complete or not at all.
        provenance: how it came to be.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the folder exists or cannot be written.
    """
    description = _Description(
        network=architecture, adapter=adapter, intensity=intensity, provenance=dict(provenance)
    )
    write_artefact(folder, _NAME, description, network, overwrite=overwrite)


def adopt(
    file: Path,
    outputs: int,
    adapter: Adapter,
    folder: Path,
    *,
    intensity: Intensity | None = None,
    overwrite: bool = False,
) -> None:
    """Make a folder of a program: ``.pt2`` from ``torch.export.save``, else TorchScript.

    Args:
        file: the program; its input is what the adapter makes, its output raw.
        outputs: classes, or 1 for a number.
        adapter: from an image to its input.
        folder: appears complete or not at all.
        intensity: what the inputs in its training were like, where that is known.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the file is no such program, or the folder exists.
    """
    program = Program(kind="export" if file.suffix == ".pt2" else "torchscript", outputs=outputs)
    _read_program(file, program)
    description = _Description(
        network=program, adapter=adapter, intensity=intensity, provenance={"file": file.name}
    )
    with complete_folder(folder, overwrite=overwrite) as partial:
        (partial / f"{_NAME}.json").write_text(description.model_dump_json(indent=1) + "\n")
        shutil.copyfile(file, partial / _program_name(program))
        write_manifest(partial)


def load(folder: Path) -> TaskNetwork:
    """Read a folder that `save` or `adopt` wrote, on the CPU, frozen.

    Raises:
        BadInputError: it is missing, incomplete, altered, or of a newer version.
    """
    description = read_artefact(folder, _NAME, _Description, "a task network")
    if isinstance(description.network, Program):
        network = _read_program(folder / _program_name(description.network), description.network)
    else:
        network = build(description.network, 0)
        load_weights(network, folder)
    return TaskNetwork(
        network,
        description.adapter,
        description.network.outputs,
        description.intensity,
        sha256(folder / MANIFEST),
    )


def provenance(folder: Path) -> dict[str, Any]:
    """How the network in ``folder`` came to be.

    Raises:
        BadInputError: as `load`.
    """
    return read_artefact(folder, _NAME, _Description, "a task network").provenance


def _program_name(program: Program) -> str:
    return "network.pt2" if program.kind == "export" else "network.pt"


def _read_program(file: Path, program: Program) -> nn.Module:
    try:
        if program.kind == "export":
            exported: nn.Module = torch.export.load(file).module()
            return exported
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the files are there nonetheless
            script: nn.Module = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
            return script
    except Exception as error:  # torch raises whatever its readers raise
        raise BadInputError(
            "the task network cannot be read",
            file=file,
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            expected="a program from torch.export.save (.pt2) or TorchScript",
        ) from error
