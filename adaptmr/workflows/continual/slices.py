"""The same slice after each stage, with what the task's network says of it."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from adaptmr.continual.measures import logits_of
from adaptmr.continual.results import Learned
from adaptmr.continual.task import Example, Judgement, Split, Task
from adaptmr.continual.task_network import Adapter
from adaptmr.data.crop import center_crop
from adaptmr.data.files import complete_folder
from adaptmr.reconstruction.classical import ZeroFilled
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.reconstructor import Reconstructor
from adaptmr.sampling.mask import Mask
from adaptmr.workflows.report.figures import overlay_picture

PICTURES: Final = "pictures"
_INDEX: Final = "pictures.json"
_SMALLEST: Final = 160
"""Rows that a picture has at least: smaller images are enlarged, pixel by pixel."""


class DrawnSlice(BaseModel):
    """One picture on disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    column: str
    """The fully sampled image, zero filling, or the stage."""
    file: str
    lines: tuple[str, ...]
    """What the task's network says, where that is not drawn."""


def draw_slices(out: Path, tasks: Sequence[Task], mask: Mask, learned: Learned) -> None:
    """Draw a test slice of each task after each stage, in ``out/pictures``.

    Args:
        out: folder of the sequence.
        tasks: in the order they were learned.
        mask: of the network.
        learned: what became of it.
    """
    columns: dict[str, Callable[[Example], Tensor]] = {
        "fully sampled": lambda example: example.target[:],
        "zero-filled": _reconstruction(ZeroFilled(), mask),
    }
    for stage in learned.stages:
        name = f"{stage.record.index}: {stage.record.task}"
        columns[name] = _reconstruction(checkpoint.load(stage.network), mask)
    drawn = []
    with complete_folder(out / PICTURES, overwrite=True) as partial, torch.no_grad():
        for row, task in enumerate(tasks):
            example, index = _shown(task)
            for column, (name, image_of) in enumerate(columns.items()):
                image = image_of(example)
                classes, lines = _said(task, example, image, index, true=column == 0)
                file = f"{row}-{column}.png"
                (partial / file).write_bytes(_picture(image[index], classes))
                drawn.append(DrawnSlice(task=task.name, column=name, file=file, lines=lines))
        index_of = [each.model_dump(mode="json") for each in drawn]
        (partial / _INDEX).write_text(json.dumps(index_of, indent=1) + "\n")


def read_slices(out: Path) -> Iterator[tuple[DrawnSlice, bytes]]:
    """The pictures of a sequence; none where nothing was drawn."""
    folder = out / PICTURES
    if (folder / _INDEX).is_file():
        for values in json.loads((folder / _INDEX).read_text()):
            drawn = DrawnSlice.model_validate(values)
            yield drawn, (folder / drawn.file).read_bytes()


def _reconstruction(network: Reconstructor, mask: Mask) -> Callable[[Example], Tensor]:
    def image_of(example: Example) -> Tensor:
        size = example.target.shape[1], example.target.shape[2]
        return center_crop(network(example.scan.kspace[:], mask), size)

    return image_of


def _shown(task: Task) -> tuple[Example, int]:
    """The test slice with most of what is looked for; the middle one of the first scan else."""
    first = task.of(Split.TEST)[0]
    found, most = (first, first.scan.slices // 2), 0
    if task.kind is Judgement.SEGMENTATION:
        for example in task.of(Split.TEST):
            if example.label is not None:
                counts = (example.label > 0).sum((1, 2))
                if int(counts.max()) > most:
                    found, most = (example, int(counts.argmax())), int(counts.max())
    return found


def _said(
    task: Task, example: Example, image: Tensor, index: int, *, true: bool
) -> tuple[Tensor | None, tuple[str, ...]]:
    """Classes of the slice's pixels, or what is said in words."""
    if task.network is None or example.label is None:
        return None, ()
    size = image.shape[-2], image.shape[-1]
    logits = logits_of(task, image, size)
    if task.kind is Judgement.SEGMENTATION:
        found = logits[0].argmax(0) if task.volumes else logits.argmax(1)
        classes = example.label if true else Adapter(size=size).place(found)
        return classes[index], ()
    own = logits[0] if task.volumes else logits[index]
    label = example.label if task.volumes else example.label[index]
    if task.kind is Judgement.CLASSIFICATION:
        said = f"class {int(label)}: {float(own.softmax(0)[int(label)]):.2f}"
    else:
        said = f"{float(own):.3f}, truly {float(label):.3f}"
    return None, (said,)


def _picture(image: Tensor, classes: Tensor | None) -> bytes:
    factor = max(1, -(-_SMALLEST // image.shape[0]))

    def enlarged(values: Tensor) -> Tensor:
        return values.repeat_interleave(factor, 0).repeat_interleave(factor, 1)

    window = (0.0, float(image.quantile(0.995)))
    return overlay_picture(enlarged(image), None if classes is None else enlarged(classes), window)
