"""`ReplayBuffer`: what is kept of finished tasks, by subject."""

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType

import numpy as np
import torch
from torch import Tensor

from adaptmr.continual.allocation import Candidate, allocate
from adaptmr.continual.config import BufferConfig, Store
from adaptmr.continual.task import Example, Judgement, Split, Task
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.sampling.mask import Mask


@dataclass(frozen=True, eq=False)
class Recorded:
    """What the network that had just finished a task said of a scan; never refreshed.

    Attributes:
        reconstruction: (slices, rows, columns), cropped to the target.
        logits: raw outputs of the task's network for it; None of the reconstruction task.
    """

    reconstruction: Tensor
    logits: Tensor | None


@dataclass(frozen=True, eq=False)
class Item:
    """One scan in the buffer.

    Attributes:
        task: name of the task it is replayed for.
        subject: whose it is.
        scan: its name.
        measured: (slices, coils, positions) complex, as acquired, of `Store.KSPACE`;
            (slices, coils, readout, phase) complex coil images of `Store.IMAGE`.
        matrix: (readout, phase) of the k-space.
        target: (slices, rows, columns) fully sampled image.
        data_range: largest value of the target.
        recorded: what the network said of it.
        label: as of an `Example`.
        classes: whether the label is of classes that are to be balanced.
    """

    task: str
    subject: str
    scan: str
    measured: Tensor
    matrix: tuple[int, int]
    target: Tensor
    data_range: float
    recorded: Recorded
    label: Tensor | None
    classes: bool

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All its tensors by name."""
        named = {
            "measured": self.measured,
            "target": self.target,
            "reconstruction": self.recorded.reconstruction,
            "logits": self.recorded.logits,
            "label": self.label,
        }
        return {name: value for name, value in named.items() if value is not None}

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum(value.numel() * value.element_size() for value in self.tensors.values())


@dataclass(frozen=True, eq=False)
class TaskBatch:
    """Slices of one shape, of a task at hand or of the buffer.

    Attributes:
        kspace: (slices, coils, readout, phase) complex.
        target: (slices, rows, columns) fully sampled image.
        data_range: (slices,) largest value of the scan of each.
        label: of these slices, or () of the scan for a task that judges volumes; None without.
        recorded: of the buffer alone.
    """

    kspace: Tensor
    target: Tensor
    data_range: Tensor
    label: Tensor | None
    recorded: Recorded | None

    def to(self, device: torch.device) -> "TaskBatch":
        """The batch with its tensors on ``device``."""
        old, label = self.recorded, self.label
        logits = None if old is None or old.logits is None else old.logits.to(device)
        return TaskBatch(
            self.kspace.to(device),
            self.target.to(device),
            self.data_range.to(device),
            None if label is None else label.to(device),
            None if old is None else Recorded(old.reconstruction.to(device), logits),
        )


@dataclass(frozen=True)
class Entry:
    """A line of the listing of a buffer."""

    task: str
    subject: str
    scan: str
    slices: int
    bytes: int


@dataclass(frozen=True, eq=False)
class ReplayBuffer:
    """Scans of finished tasks with what was said of them; an immutable value.

    Attributes:
        config: capacity, policy, what is stored.
        mask: the mask that its network is used with.
        items: the scans, oldest task first.
        tasks: names of the finished tasks, in order.
        seen: training subjects of all finished tasks.
        salt: of the hashes of those that were erased.
        erased: hashes of subjects that were erased.
    """

    config: BufferConfig
    mask: Mask
    items: tuple[Item, ...] = ()
    tasks: tuple[str, ...] = ()
    seen: int = 0
    salt: str = ""
    erased: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(item.size for item in self.items)

    def listing(self) -> tuple[Entry, ...]:
        """One entry for each scan."""
        return tuple(
            Entry(each.task, each.subject, each.scan, len(each.target), each.size)
            for each in self.items
        )

    def of_task(self, task: str) -> tuple[Item, ...]:
        """The scans that are replayed for a task."""
        return tuple(item for item in self.items if item.task == task)

    def of_subject(self, subject: str) -> tuple[Item, ...]:
        """The scans of a subject.

        Raises:
            BadInputError: the subject was erased.
        """
        self.require_not_erased([subject])
        return tuple(item for item in self.items if item.subject == subject)

    def require_not_erased(self, subjects: Iterable[str]) -> None:
        """Refuse subjects that were erased.

        Raises:
            BadInputError: one was.
        """
        for subject in subjects:
            if self._hash(subject) in self.erased:
                raise BadInputError(
                    "the subject was erased and may not be used again",
                    field="subject",
                    got=subject,
                    hint="Take it out of the data",
                )

    def admit(
        self,
        task: Task,
        record: Callable[[Example], Recorded],
        generator: np.random.Generator,
    ) -> "ReplayBuffer":
        """The buffer once a task is finished: its subjects drawn, older ones cut.

        Args:
            task: just finished.
            record: what the network that finished it says of an example.
            generator: of what is random.

        Raises:
            BadInputError: more tasks than capacity, no training data, an erased subject, or more
                bytes than allowed.
        """
        examples = defaultdict(list)
        for example in task.of(Split.TRAINING):
            examples[example.subject].append(example)
        if not examples:
            raise BadInputError(
                f"the task {task.name} has no training data to keep", field=Split.TRAINING.value
            )
        self.require_not_erased(examples)
        classes = task.kind is Judgement.CLASSIFICATION
        finished = [
            _candidate(task.name, subject, [each.label for each in of], classes)
            for subject, of in sorted(examples.items())
        ]
        held = {name: self._candidates(name) for name in self.tasks}
        config = self.config
        chosen = allocate(config.policy, config.capacity, held, finished, self.seen, generator)
        keep = {(each.task, each.subject) for each in chosen}
        kept = [item for item in self.items if (item.task, item.subject) in keep]
        new = [
            _item(example, task, record(example), self.mask, config.store)
            for each in finished
            if (each.task, each.subject) in keep
            for example in examples[each.subject]
        ]
        buffer = replace(
            self,
            items=(*kept, *new),
            tasks=(*self.tasks, task.name),
            seen=self.seen + len(finished),
        )
        if config.max_bytes is not None and buffer.size > config.max_bytes:
            raise BadInputError(
                "the buffer would be larger than allowed",
                field="max_bytes",
                got=f"{buffer.size:,} bytes",
                expected=f"at most {config.max_bytes:,}",
                hint="Lower the capacity, or keep k-space instead of images",
            )
        return buffer

    def erase(self, subject: str) -> "ReplayBuffer":
        """The buffer without a subject: nothing of it is left but a salted hash of its key.

        What the network said of other subjects stays. Weights may retain an influence.
        """
        salted = self if self.salt else replace(self, salt=secrets.token_hex(16))
        return replace(
            salted,
            items=tuple(item for item in self.items if item.subject != subject),
            erased=salted.erased | {salted._hash(subject)},
        )

    def batch(
        self, task: Task, size: int, mask: Mask, generator: np.random.Generator
    ) -> TaskBatch | None:
        """Slices of a task, drawn at random; of a task that judges volumes one whole scan.

        Args:
            task: a finished task.
            size: slices; fewer where there are not as many of one shape.
            mask: that the network is used with.
            generator: of the draw.

        Returns:
            The batch, or None where the buffer holds nothing of the task.

        Raises:
            BadInputError: only the k-space of another mask was kept.
        """
        items = self.of_task(task.name)
        if not items:
            return None
        first = items[int(generator.integers(len(items)))]
        if task.volumes:
            return self._stack([(first, list(range(len(first.target))))], mask, first)
        alike = [item for item in items if _shape(item) == _shape(first)]
        slices = [(item, index) for item in alike for index in range(len(item.target))]
        drawn = generator.permutation(len(slices))[:size]
        by_item: dict[int, tuple[Item, list[int]]] = {}
        for item, index in (slices[position] for position in sorted(drawn)):
            by_item.setdefault(id(item), (item, []))[1].append(index)
        return self._stack(list(by_item.values()), mask, None)

    def _stack(
        self, parts: Sequence[tuple[Item, list[int]]], mask: Mask, volume: Item | None
    ) -> TaskBatch:
        """Slices of several scans, or all of one that is judged as a volume."""
        if volume is None:
            logits = _cat([_picked(item.recorded.logits, index) for item, index in parts])
            label = _cat([_picked(item.label, index) for item, index in parts])
        else:
            logits, label = volume.recorded.logits, volume.label
        kspace = torch.cat([self._kspace(item, index, mask) for item, index in parts])
        ranges = [item.data_range for item, index in parts for _ in index]
        said = torch.cat([item.recorded.reconstruction[index] for item, index in parts])
        target = torch.cat([item.target[index] for item, index in parts])
        return TaskBatch(kspace, target, torch.tensor(ranges), label, Recorded(said, logits))

    def _kspace(self, item: Item, slices: list[int], mask: Mask) -> Tensor:
        measured = item.measured[slices]
        if self.config.store is Store.IMAGE:
            return mask.apply(fourier(measured))
        if mask != self.mask:
            raise BadInputError(
                "the buffer keeps k-space of another mask",
                field="store",
                got=self.mask.fingerprint[:16],
                expected=mask.fingerprint[:16],
                hint=f"Use a buffer that stores {Store.IMAGE}",
            )
        kspace = measured.new_zeros(*measured.shape[:2], *item.matrix)
        kspace[_acquired(mask)] = measured
        return kspace

    def _candidates(self, task: str) -> list[Candidate]:
        items = defaultdict(list)
        for item in self.of_task(task):
            items[item.subject].append(item)
        return [
            _candidate(task, subject, [each.label for each in of], of[0].classes)
            for subject, of in items.items()
        ]

    def _hash(self, subject: str) -> str:
        return hashlib.sha256((self.salt + subject).encode()).hexdigest()


def _candidate(
    task: str, subject: str, labels: Sequence[Tensor | None], classes: bool
) -> Candidate:
    values = [float(label.double().mean()) for label in labels if label is not None]
    mean = sum(values) / len(values) if values else None
    return Candidate(task, subject, round(mean) if classes and mean is not None else mean, classes)


def _item(example: Example, task: Task, recorded: Recorded, mask: Mask, store: Store) -> Item:
    kspace = example.scan.kspace[:]
    measured = inverse_fourier(kspace) if store is Store.IMAGE else kspace[_acquired(mask)]
    return Item(
        task.name,
        example.subject,
        example.scan.name,
        measured,
        example.scan.matrix,
        example.target[:],
        example.data_range,
        recorded,
        example.label,
        task.kind is Judgement.CLASSIFICATION,
    )


def _acquired(mask: Mask) -> tuple[EllipsisType, Tensor]:
    """Index of the acquired positions of (slices, coils, readout, phase)."""
    return (..., torch.from_numpy(mask.positions.copy()))


def _shape(item: Item) -> tuple[object, ...]:
    return item.measured.shape[1:], item.matrix, item.target.shape[1:]


def _picked(values: Tensor | None, slices: list[int]) -> Tensor | None:
    return None if values is None else values[slices]


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None
