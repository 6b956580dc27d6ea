"""Losses and metrics of tasks."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from adaptmr.continual.results import Scores
from adaptmr.continual.task import Example, Judgement, Loss, Metric, Split, Task
from adaptmr.data.crop import center_crop
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.metrics import PROTOCOLS, ProtocolName
from adaptmr.reconstruction.similarity import ssim
from adaptmr.reconstruction.training.data import common_crop

EXACT_DECIBELS = 100.0
"""The PSNR of an image that equals its target, which else would be infinite."""


def image_loss(image: Tensor, target: Tensor, data_range: Tensor) -> Tensor:
    """Mean of 1 - SSIM over slices, with the range of the data said.

    Args:
        image: (slices, rows, columns); may be larger than the target, of which it is cropped to.
        target: (slices, rows, columns).
        data_range: (slices,) largest value of the scan that each slice is from.
    """
    image, target = common_crop(image, target)
    return (1 - ssim(image, target, data_range)).mean()


def logits_of(task: Task, image: Tensor, size: tuple[int, int]) -> Tensor:
    """What the network of a task says of reconstructions.

    Args:
        task: not the reconstruction.
        image: (slices, readout, phase) reconstructions.
        size: rows and columns of the target, of which they are cropped to.
    """
    if task.network is None:
        raise ValueError(f"{task.name} has no network")
    return task.network(center_crop(image, size))


def label_loss(task: Task, logits: Tensor, label: Tensor) -> Tensor:
    """The loss of a task.

    Args:
        task: not the reconstruction.
        logits: raw outputs of its network.
        label: (slices, rows, columns) classes of a segmentation, (slices,) or () else.
    """
    label = placed(task, label)
    if task.loss in (Loss.ABSOLUTE, Loss.SQUARED):
        error = logits.flatten() - label.flatten()
        return error.abs().mean() if task.loss is Loss.ABSOLUTE else error.square().mean()
    loss = functional.cross_entropy(logits, label)
    if task.loss is Loss.DICE_CROSS_ENTROPY:
        loss = loss + _soft_dice_loss(logits, label)
    return loss


def placed(task: Task, label: Tensor) -> Tensor:
    """A label as the network's outputs lie: the adapter's size, its batch axis."""
    if task.network is None:
        raise ValueError(f"{task.name} has no network")
    if task.kind is Judgement.SEGMENTATION:
        label = task.network.adapter.place(label)
    return label[None] if task.volumes else label


def _soft_dice_loss(logits: Tensor, label: Tensor) -> Tensor:
    """1 - soft Dice of the classes but 0, over all pixels of the batch (Milletari et al. 2016).

    Over the batch, not by slice: a class that a slice lacks says nothing there.
    """
    classes = logits.shape[1]
    truth = functional.one_hot(label, classes).movedim(-1, 1).to(logits)
    share = logits.softmax(1)
    axes = (0, *range(2, logits.ndim))
    overlap, total = (share * truth).sum(axes), (share + truth).sum(axes)
    return (1 - (2 * overlap + 1) / (total + 1))[1:].mean()


def evaluate(
    tasks: Sequence[Task], split: Split, reconstruct: Callable[[Example], Tensor]
) -> dict[str, Scores]:
    """How well each task is done on reconstructions; a scan of several is reconstructed once.

    Args:
        tasks: what is asked.
        split: whose subjects.
        reconstruct: example -> (slices, rows, columns) image on the device of the task networks.

    Raises:
        BadInputError: an image or a score is not finite.
    """
    judged: dict[str, list[_Judged]] = defaultdict(list)
    examples: dict[int, list[tuple[Task, Example]]] = defaultdict(list)
    for task in tasks:
        for example in task.of(split):
            examples[id(example.scan)].append((task, example))
    with torch.no_grad():
        for group in examples.values():
            image = reconstruct(group[0][1])
            if not bool(torch.isfinite(image).all()):
                raise NotFiniteError("a reconstruction is not finite", file=group[0][1].scan.name)
            for task, example in group:
                judged[task.name].append(_judge(task, example, image))
    return {task.name: _scores(task, judged[task.name]) for task in tasks}


class NotFiniteError(BadInputError):
    """Weights that no longer give numbers."""


@dataclass(frozen=True)
class _Judged:
    """One scan judged: the score, and the raw outputs and the label of classes and numbers."""

    example: Example
    value: float
    loss: float
    outputs: tuple[float, ...] = ()
    label: float | None = None


def _judge(task: Task, example: Example, image: Tensor) -> _Judged:
    target = example.target[:]
    if task.kind is Judgement.RECONSTRUCTION:
        image, target = common_crop(image.cpu(), target)
        measured = PROTOCOLS[ProtocolName.FASTMRI_VOLUME](image, target)
        loss = float(image_loss(image, target, torch.full((len(target),), example.data_range)))
        decibels = EXACT_DECIBELS if measured.psnr is None else measured.psnr
        value = measured.ssim if task.metric is Metric.SSIM else decibels
        return _Judged(example, value, loss)
    if example.label is None:
        raise ValueError(f"{example.scan.name} has no label")
    logits = logits_of(task, image, (target.shape[-2], target.shape[-1])).cpu()
    loss, label = float(label_loss(task, logits, example.label)), placed(task, example.label)
    if task.kind is Judgement.SEGMENTATION:
        return _Judged(example, _overlap(task.metric, logits, label), loss)
    if task.metric is Metric.ACCURACY:
        value = float((logits.argmax(1) == label).double().mean())
    elif task.metric is Metric.LIKELIHOOD:
        value = float(logits.double().softmax(1).gather(1, label.view(-1, 1)).mean())
    else:
        value = -float((logits.flatten() - label.flatten()).abs().double().mean())
    outputs = tuple(logits.double().mean(0).tolist())
    return _Judged(example, value, loss, outputs, float(example.label.double().mean()))


def _overlap(metric: Metric, logits: Tensor, label: Tensor) -> float:
    """Dice or intersection over union of a volume, mean over the classes that there are."""
    classes, found = logits.shape[1], logits.argmax(1)
    pairs = torch.bincount((label * classes + found).flatten(), minlength=classes**2)
    confusion = pairs.view(classes, classes).double()
    both, true, said = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    there = (true + said)[1:] > 0
    if not bool(there.any()):
        return 1.0
    union = true + said - both
    share = 2 * both / (true + said) if metric is Metric.DICE else both / union
    return float(share[1:][there].mean())


def _scores(task: Task, judged: Sequence[_Judged]) -> Scores:
    of_subject: dict[str, list[_Judged]] = defaultdict(list)
    for each in judged:
        of_subject[each.example.subject].append(each)
    of_subject = dict(sorted(of_subject.items()))
    subjects = {name: _mean([each.value for each in some]) for name, some in of_subject.items()}
    named = {
        name: [(each.outputs, each.label) for each in some if each.label is not None]
        for name, some in of_subject.items()
    }
    return Scores(
        metric=task.metric,
        value=_mean(list(subjects.values())),
        loss=_mean([each.loss for each in judged]),
        subjects=subjects,
        outputs={
            name: tuple(_mean(values) for values in zip(*(said for said, _ in some), strict=True))
            for name, some in named.items()
            if some
        },
        labels={name: _mean([label for _, label in some]) for name, some in named.items() if some},
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
