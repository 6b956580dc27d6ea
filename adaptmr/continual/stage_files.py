"""Finished stages as folders, written complete or not at all."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from safetensors.torch import save_file
from torch import Tensor

from adaptmr.continual import replay_files
from adaptmr.continual.replay import ReplayBuffer
from adaptmr.continual.results import BUFFER, NETWORK, Stage, StageRecord
from adaptmr.data.files import complete_folder
from adaptmr.data.manifest import check_manifest, read_description, write_manifest
from adaptmr.data.weights import read_weights
from adaptmr.errors import UsageError
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.checkpoint import Network

_RECORD: Final = "stage.json"
_MEMORY: Final = "memory.safetensors"


def save(
    folder: Path,
    record: StageRecord,
    network: Network,
    memory: Mapping[str, Tensor],
    buffer: ReplayBuffer | None,
) -> Stage:
    """Write a finished stage.

    The folders of network and buffer follow from what was learned alone, without times of day: they
    are equal byte for byte where a stage is run again.
    """
    with complete_folder(folder) as partial:
        checkpoint.save(network, partial / NETWORK, record.provenance)
        if memory:
            stored = {name: value.detach().cpu().contiguous() for name, value in memory.items()}
            save_file(stored, partial / _MEMORY)
        if buffer is not None:
            replay_files.save(buffer, partial / BUFFER)
        _write(partial, record)
    return Stage(folder, record)


def load(folder: Path) -> Stage:
    """Open a finished stage.

    Raises:
        BadInputError: it is incomplete, altered, or of a newer version.
    """
    check_manifest(folder)
    return Stage(folder, read_description(folder / _RECORD, StageRecord, "a stage"))


def load_memory(stage: Stage) -> dict[str, Tensor]:
    """What the strategy remembered at the end of a stage."""
    file = stage.folder / _MEMORY
    return read_weights(file) if file.is_file() else {}


def load_buffer(stage: Stage) -> ReplayBuffer | None:
    """The buffer at the end of a stage; None of a strategy that needs none."""
    return replay_files.load(stage.buffer) if stage.buffer.is_dir() else None


def rewrite(stage: Stage, record: StageRecord, buffer: ReplayBuffer | None) -> Stage:
    """A finished stage with another record and buffer; the network stays.

    Args:
        stage: on disk.
        record: its new record.
        buffer: its new buffer; None for a stage without.
    """
    with complete_folder(stage.folder, overwrite=True) as partial:
        shutil.copytree(stage.folder, partial, dirs_exist_ok=True, copy_function=shutil.copyfile)
        if buffer is not None:
            replay_files.save(buffer, partial / BUFFER, overwrite=True)
        _write(partial, record)
    return Stage(stage.folder, record)


def require_same(stage: Stage, identity: Mapping[str, Any]) -> None:
    """Refuse a finished stage of something else.

    What is None on either side, because data are gone or were erased, is not compared.

    Raises:
        UsageError: it is of something else.
    """
    before = stage.record.provenance
    differing = [
        name
        for name, value in identity.items()
        if None not in (value, before.get(name)) and before[name] != value
    ]
    if differing:
        raise UsageError(
            "the folder holds a stage of something else",
            file=stage.folder,
            field=", ".join(differing),
            got="something else than before",
            hint="Choose another folder for the stages",
        )


def _write(partial: Path, record: BaseModel) -> None:
    (partial / _RECORD).write_text(record.model_dump_json(indent=1) + "\n")
    write_manifest(partial)
