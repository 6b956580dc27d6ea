"""Tasks as folders: ``task.json`` says what is asked, ``network/`` is the network that judges."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, PositiveFloat

from adaptmr.continual import task_network_files
from adaptmr.continual.study import judgement, outputs
from adaptmr.continual.task import Example, Loss, Metric, Split, Task
from adaptmr.continual.task_network import Layout, TaskNetwork
from adaptmr.data.annotations import Annotation
from adaptmr.data.files import complete_folder
from adaptmr.data.manifest import check_manifest, read_description, write_manifest
from adaptmr.errors import BadInputError

SCHEMA: Final = 1
_DESCRIPTION = "task.json"
_NETWORK = "network"


class TaskDescription(BaseModel):
    """What a task asks, and who its network was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA
    name: str
    annotation: Annotation
    loss: Loss
    metric: Metric
    margin: PositiveFloat
    subjects: tuple[str, ...]
    """Whom the network was trained or chosen on; nobody else may be told how well it does."""
    provenance: dict[str, JsonValue]


@dataclass(frozen=True, eq=False)
class StoredTask:
    """A task without data.

    Attributes:
        description: what is asked.
        network: judges the image.
    """

    description: TaskDescription
    network: TaskNetwork

    @property
    def volumes(self) -> bool:
        """Whether all slices of a scan are judged together."""
        return self.network.adapter.layout is Layout.VOLUMES

    def on(self, examples: Mapping[Split, tuple[Example, ...]]) -> Task:
        """The task with its data.

        Raises:
            BadInputError: a subject's label does not fit, or its network was trained on a subject.
        """
        known = set(self.description.subjects)
        for split, some in examples.items():
            if both := sorted(known & {example.subject for example in some}):
                raise BadInputError(
                    f"the network of the task {self.description.name} was trained on a subject",
                    field=split,
                    got=", ".join(both[:5]),
                    expected="other subjects than those with the splits train_task and val_task",
                )
        return Task(
            self.description.name,
            judgement(self.description.annotation),
            self.network,
            self.description.loss,
            self.description.metric,
            self.description.margin,
            examples,
        )


def save_task(
    description: TaskDescription, network: Path, folder: Path, *, overwrite: bool = False
) -> None:
    """Write a task.

    Args:
        description: what is asked.
        network: folder that `adaptmr.continual.task_network_files` wrote; it is copied.
        folder: appears complete or not at all.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the network does not answer what is asked, or the folder exists.
    """
    with complete_folder(folder, overwrite=overwrite) as partial:
        (partial / _DESCRIPTION).write_text(description.model_dump_json(indent=1) + "\n")
        shutil.copytree(network, partial / _NETWORK, copy_function=shutil.copyfile)
        write_manifest(partial)
        load_task(partial)  # fits together, or says what does not


def load_task(folder: Path) -> StoredTask:
    """Read a task that `save_task` wrote, its network on the CPU and frozen.

    Raises:
        BadInputError: the folder is missing, incomplete, altered, of a newer version, or its
            network does not answer what is asked.
    """
    check_manifest(folder)
    description = describe_task(folder)
    network = task_network_files.load(folder / _NETWORK)
    if network.outputs != (wanted := outputs(description.annotation)):
        raise BadInputError(
            f"the network of the task {description.name} gives another number of outputs",
            file=folder,
            field="outputs",
            got=network.outputs,
            expected=wanted,
            hint="A segmentation has one more than its annotation names classes: the background",
        )
    return StoredTask(description, network)


def describe_task(folder: Path) -> TaskDescription:
    """What a task asks, its network left alone.

    Raises:
        BadInputError: the folder is missing, or holds something else.
    """
    return read_description(folder / _DESCRIPTION, TaskDescription, "a task")
