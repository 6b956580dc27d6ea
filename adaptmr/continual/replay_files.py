"""Replay buffers as folders: ``buffer.json``, ``items/<n>.safetensors``, ``manifest.json``."""

from pathlib import Path
from typing import Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, JsonValue
from safetensors.torch import save_file
from torch import Tensor

from adaptmr.continual.config import BufferConfig
from adaptmr.continual.replay import Item, Recorded, ReplayBuffer
from adaptmr.data.files import complete_folder
from adaptmr.data.manifest import check_manifest, read_description, write_manifest
from adaptmr.data.weights import read_weights
from adaptmr.sampling.mask import Mask

SCHEMA: Final = 1
_NAME: Final = "buffer.json"


class _ItemRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    subject: str
    scan: str
    matrix: tuple[int, int]
    data_range: float
    classes: bool


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA
    kind: Literal["replay-buffer"] = "replay-buffer"
    config: BufferConfig
    mask: JsonValue
    items: tuple[_ItemRecord, ...]
    tasks: tuple[str, ...]
    seen: int
    salt: str
    erased: tuple[str, ...]


def save(buffer: ReplayBuffer, folder: Path, *, overwrite: bool = False) -> None:
    """Write a buffer; the folder appears complete or not at all.

    Raises:
        BadInputError: the folder exists or cannot be written.
    """
    description = _Description(
        config=buffer.config,
        mask=buffer.mask.to_json(),
        items=tuple(
            _ItemRecord(
                task=item.task,
                subject=item.subject,
                scan=item.scan,
                matrix=item.matrix,
                data_range=item.data_range,
                classes=item.classes,
            )
            for item in buffer.items
        ),
        tasks=buffer.tasks,
        seen=buffer.seen,
        salt=buffer.salt,
        erased=tuple(sorted(buffer.erased)),
    )
    with complete_folder(folder, overwrite=overwrite) as partial:
        (partial / _NAME).write_text(description.model_dump_json(indent=1) + "\n")
        (partial / "items").mkdir()
        for index, item in enumerate(buffer.items):
            save_file(_stored(item), partial / "items" / f"{index}.safetensors")
        write_manifest(partial)


def load(folder: Path) -> ReplayBuffer:
    """Read a buffer that `save` wrote.

    Raises:
        BadInputError: it is missing, incomplete, altered, or of a newer version.
    """
    check_manifest(folder)
    description = read_description(folder / _NAME, _Description, "a replay buffer")
    items = (
        _item(record, read_weights(folder / "items" / f"{index}.safetensors"))
        for index, record in enumerate(description.items)
    )
    return ReplayBuffer(
        description.config,
        Mask.from_json(str(description.mask)),
        tuple(items),
        description.tasks,
        description.seen,
        description.salt,
        frozenset(description.erased),
    )


def _stored(item: Item) -> dict[str, Tensor]:
    # As pairs of real numbers: readers of safetensors of other languages know no complex ones.
    pairs = {"measured": torch.view_as_real(item.measured)}
    return {name: value.contiguous() for name, value in (item.tensors | pairs).items()}


def _item(record: _ItemRecord, tensors: dict[str, Tensor]) -> Item:
    return Item(
        record.task,
        record.subject,
        record.scan,
        torch.view_as_complex(tensors["measured"]),
        record.matrix,
        tensors["target"],
        record.data_range,
        Recorded(tensors["reconstruction"], tensors.get("logits")),
        tensors.get("label"),
        record.classes,
    )
