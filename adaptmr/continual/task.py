"""`Task`: a downstream judgement of a reconstruction: frozen network, loss, metric, data."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import combinations
from types import MappingProxyType

import torch
from torch import Tensor

from adaptmr.continual.task_network import Layout, TaskNetwork
from adaptmr.data.scan import Scan, Stack
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.training.cohort import subject_of


class Judgement(StrEnum):
    """What a task asks of an image."""

    RECONSTRUCTION = "reconstruction"
    """To be like the fully sampled one; task 0, without a network."""
    SEGMENTATION = "segmentation"
    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class Split(StrEnum):
    """Parts of a task's data; no subject is in two of them."""

    TRAINING = "training"
    VALIDATION = "validation"
    TEST = "test"
    """Never looked at before the stage is over."""


class Loss(StrEnum):
    """What is minimised; see `adaptmr.continual.measures`."""

    SIMILARITY = "similarity"
    """1 - SSIM, of the reconstruction."""
    CROSS_ENTROPY = "cross-entropy"
    DICE_CROSS_ENTROPY = "dice-cross-entropy"
    """Cross-entropy plus 1 - soft Dice of the classes but 0."""
    ABSOLUTE = "absolute"
    SQUARED = "squared"


class Metric(StrEnum):
    """What is reported, of each subject and so that higher is better."""

    SSIM = "ssim"
    PSNR = "psnr"
    DICE = "dice"
    """Mean over the classes but 0 that truth or prediction has; 1 where neither has any."""
    IOU = "iou"
    """Intersection over union, likewise."""
    ACCURACY = "accuracy"
    LIKELIHOOD = "likelihood"
    """Probability of the true class: finer than the accuracy where subjects are few."""
    NEGATIVE_ERROR = "negative-error"
    """Minus the absolute error."""


LOSSES: Mapping[Judgement, tuple[Loss, ...]] = MappingProxyType(
    {
        Judgement.RECONSTRUCTION: (Loss.SIMILARITY,),
        Judgement.SEGMENTATION: (Loss.CROSS_ENTROPY, Loss.DICE_CROSS_ENTROPY),
        Judgement.CLASSIFICATION: (Loss.CROSS_ENTROPY,),
        Judgement.REGRESSION: (Loss.ABSOLUTE, Loss.SQUARED),
    }
)
"""The losses that fit; the first is the usual one."""
METRICS: Mapping[Judgement, tuple[Metric, ...]] = MappingProxyType(
    {
        Judgement.RECONSTRUCTION: (Metric.SSIM, Metric.PSNR),
        Judgement.SEGMENTATION: (Metric.DICE, Metric.IOU),
        Judgement.CLASSIFICATION: (Metric.ACCURACY, Metric.LIKELIHOOD),
        Judgement.REGRESSION: (Metric.NEGATIVE_ERROR,),
    }
)
"""The metrics that fit; the first is the usual one."""


@dataclass(frozen=True, eq=False)
class Example:
    """A fully sampled multi-coil scan with what is true of it.

    Attributes:
        scan: with a target; its subject is what splits and erasure go by.
        label: segmentation: (slices, rows, columns) classes, int64, of the target's pixels;
            classification: int64, () of the scan, or (slices,) where slices are judged;
            regression: float32, likewise; None for the reconstruction.
    """

    scan: Scan
    label: Tensor | None

    @property
    def subject(self) -> str:
        """The subject of the scan."""
        return subject_of(self.scan)

    @property
    def target(self) -> Stack:
        """(slices, rows, columns) fully sampled magnitude.

        Raises:
            BadInputError: the scan has none.
        """
        if self.scan.target is None or not (self.scan.maximum or 0) > 0:
            raise BadInputError("the scan has no reference image", file=self.scan.name)
        return self.scan.target

    @property
    def data_range(self) -> float:
        """Largest value of the target."""
        return self.scan.maximum or 0.0

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells examples apart: name, subject, sizes, label."""
        label = self.label
        digest = None if label is None else hashlib.sha256(label.numpy().tobytes()).hexdigest()
        return self.scan.name, self.subject, self.scan.kspace.shape, self.data_range, digest


@dataclass(frozen=True, eq=False)
class Task:
    """A judgement of images that a reconstruction network is fine-tuned for.

    Attributes:
        name: tells tasks apart.
        kind: what is asked.
        network: judges the image; None for the reconstruction.
        loss: one of `LOSSES` of the kind.
        metric: one of `METRICS` of the kind.
        margin: difference of the metric that matters.
        examples: the data of each split, by subject; only training may be empty (of a task whose
            data are gone: the buffer has what is left of them).
    """

    name: str
    kind: Judgement
    network: TaskNetwork | None
    loss: Loss
    metric: Metric
    margin: float
    examples: Mapping[Split, tuple[Example, ...]]

    def __post_init__(self) -> None:
        if (self.network is None) != (self.kind is Judgement.RECONSTRUCTION):
            raise BadInputError(
                "a task has a network unless it is the reconstruction itself",
                field=self.name,
                got=f"{self.kind} with{'out' if self.network is None else ''} a network",
            )
        for field, value, fitting in (
            ("loss", self.loss, LOSSES[self.kind]),
            ("metric", self.metric, METRICS[self.kind]),
        ):
            if value not in fitting:
                raise BadInputError(
                    f"the {field} does not fit the task {self.name}",
                    field=field,
                    got=value,
                    expected=" or ".join(fitting),
                )
        require_disjoint([self])
        for example in self:
            self._check_label(example)

    def __iter__(self) -> Iterator[Example]:
        """All examples, whatever their split."""
        return (example for split in Split for example in self.examples.get(split, ()))

    def of(self, split: Split) -> tuple[Example, ...]:
        """The examples of one split."""
        return self.examples.get(split, ())

    def subjects(self, split: Split) -> list[str]:
        """The subjects of a split, each once, in order."""
        return sorted({example.subject for example in self.of(split)})

    @property
    def volumes(self) -> bool:
        """Whether all slices of a scan are judged together."""
        return self.network is not None and self.network.adapter.layout is Layout.VOLUMES

    @property
    def fingerprint(self) -> str:
        """sha256 of all that a training for this task depends on, its data by their identity."""
        return hashlib.sha256(f"{self.definition} {self.training_fingerprint}".encode()).hexdigest()

    @cached_property
    def definition(self) -> str:
        """sha256 of what is asked and of the data it is judged on; not of the training data."""
        network = self.network
        parts = (
            self.name,
            self.kind.value,
            None if network is None else (network.fingerprint, network.adapter.model_dump_json()),
            self.loss.value,
            self.metric.value,
            self.margin,
            [each.identity for split in (Split.VALIDATION, Split.TEST) for each in self.of(split)],
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @cached_property
    def training_fingerprint(self) -> str | None:
        """sha256 of the identity of the training data; None where they are gone."""
        training = [each.identity for each in self.of(Split.TRAINING)]
        return hashlib.sha256(repr(training).encode()).hexdigest() if training else None

    def check(self) -> None:
        """Refuse a task that nothing can be learned for.

        Raises:
            BadInputError: there is nothing to validate or test on, or as `TaskNetwork.check`.
        """
        for split in (Split.VALIDATION, Split.TEST):
            if not self.of(split):
                raise BadInputError(f"the task {self.name} has no data", field=split.value)
        self.check_network()

    def check_network(self) -> None:
        """Show the network the middle of a fully sampled validation scan.

        Raises:
            BadInputError: as `TaskNetwork.check`.
        """
        if self.network is not None:
            first = self.of(Split.VALIDATION)[0]
            target = first.target
            # The middle slice: the outermost ones may be empty.
            middle = slice(len(target) // 2, len(target) // 2 + 1)
            self.network.check(target[:] if self.volumes else target[middle])

    def _check_label(self, example: Example) -> None:
        label, slices = example.label, example.scan.slices
        if self.kind is Judgement.RECONSTRUCTION:
            return
        if label is None:
            raise BadInputError(f"the task {self.name} lacks a label", file=example.scan.name)
        if self.kind is Judgement.SEGMENTATION:
            expected: tuple[int, ...] = tuple(example.target.shape)
        else:
            expected = () if self.volumes else (slices,)
        if tuple(label.shape) != expected:
            raise BadInputError(
                f"the label of the task {self.name} is of another size",
                file=example.scan.name,
                field="label",
                got=tuple(label.shape),
                expected=expected,
            )
        kind = torch.float32 if self.kind is Judgement.REGRESSION else torch.int64
        if label.dtype is not kind:
            raise BadInputError(
                f"the label of the task {self.name} is of another type",
                file=example.scan.name,
                field="label",
                got=label.dtype,
                expected=kind,
            )
        classes = self.network.outputs if self.network is not None else 0
        if self.kind is Judgement.REGRESSION:
            if not bool(torch.isfinite(label).all()):
                raise BadInputError("a label is not finite", file=example.scan.name, field="label")
        elif bool(((label < 0) | (label >= classes)).any()):
            raise BadInputError(
                f"the label has classes that the network of the task {self.name} does not know",
                file=example.scan.name,
                field="label",
                got=f"{int(label.min())} to {int(label.max())}",
                expected=f"0 to {classes - 1}",
            )


def require_disjoint(tasks: "list[Task] | tuple[Task, ...]") -> None:
    """Refuse a subject that is trained on for one task and tested on for the same or another one.

    Raises:
        BadInputError: a subject is in two splits.
    """
    for first, second in combinations(Split, 2):
        of_first, of_second = (
            {subject: task.name for task in tasks for subject in task.subjects(split)}
            for split in (first, second)
        )
        if shared := sorted(of_first.keys() & of_second.keys()):
            subject = shared[0]
            raise BadInputError(
                "a subject is in two splits",
                field=f"{first.value}, {second.value}",
                got=f"{subject} ({of_first[subject]}, {of_second[subject]})",
                hint="Split by subject, and alike for all tasks",
            )
