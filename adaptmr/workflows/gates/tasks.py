"""What tasks score on the images of a bank: segmentations, classes, numbers."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from adaptmr.continual.measures import NotFiniteError, evaluate
from adaptmr.continual.task import Example, Split, Task
from adaptmr.data.scan import Scan
from adaptmr.workflows.gates.evidence import Better, Measurement
from adaptmr.workflows.gates.values import case_value, digest, key
from adaptmr.workflows.progress import track


@dataclass(frozen=True)
class TaskMeasurements:
    """What was found of several tasks.

    Attributes:
        measurements: the metric of each task, by scan.
        data: identity of the test data of each task, and of the network that judges.
        subjects: of all tests.
    """

    measurements: tuple[Measurement, ...]
    data: dict[str, str]
    subjects: frozenset[str]


def measure_tasks(
    tasks: Sequence[Task], reconstruct: Callable[[Scan], Tensor | None]
) -> TaskMeasurements:
    """What each task scores on reconstructions of its test scans, one scan in memory at a time.

    Args:
        tasks: none of them the reconstruction.
        reconstruct: scan -> (slices, rows, columns) magnitude; None where it is not finite.
    """
    of_scan: dict[int, list[tuple[Task, Example]]] = defaultdict(list)
    for task in tasks:
        for example in task.of(Split.TEST):
            of_scan[id(example.scan)].append((task, example))
    found: dict[str, list[tuple[Example, float | None]]] = defaultdict(list)
    for some in track(list(of_scan.values()), "measuring tasks", len(of_scan)):
        image = reconstruct(some[0][1].scan)
        for task, example in some:
            found[task.name].append((example, _score(task, example, image)))
    measurements = []
    data = {}
    for task in tasks:
        values = tuple(
            case_value(example.scan, _case(example), value) for example, value in found[task.name]
        )
        data[task.name] = digest([*(one.case for one in values), task.definition])
        measurements.append(
            Measurement(
                task=task.name,
                metric=task.metric.value,
                better=Better.HIGHER,
                values=values,
            )
        )
    subjects = frozenset(subject for task in tasks for subject in task.subjects(Split.TEST))
    return TaskMeasurements(tuple(measurements), data, subjects)


def _score(task: Task, example: Example, image: Tensor | None) -> float | None:
    if image is None:
        return None
    alone = replace(task, examples={Split.TEST: (example,)})
    try:
        return evaluate([alone], Split.TEST, lambda _: image)[task.name].value
    except NotFiniteError:
        return None


def _case(example: Example) -> str:
    """Key of a labelled scan, of its content as far as one slice tells."""
    middle = example.scan.kspace[example.scan.slices // 2]
    content = hashlib.sha256(middle.contiguous().numpy().tobytes()).hexdigest()
    return key(f"{example.identity} {content}")
