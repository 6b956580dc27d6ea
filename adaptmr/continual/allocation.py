"""Which subjects stay in a replay buffer when a task is finished."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from adaptmr.continual.config import Policy
from adaptmr.errors import BadInputError


@dataclass(frozen=True)
class Candidate:
    """A subject that may be in the buffer.

    Attributes:
        task: whose data it is part of.
        subject: its key.
        label: its class or number, or the mean of its label map; None without a label.
        classes: whether labels are classes, of which each is to have its share.
    """

    task: str
    subject: str
    label: float | None
    classes: bool


def quotas(policy: Policy, capacity: int, tasks: int) -> tuple[int, ...]:
    """Subjects of each task, oldest first; they sum to the capacity.

    Args:
        policy: not the reservoir, which has no quotas.
        capacity: subjects of the buffer, B.
        tasks: the task just finished included, t.

    Raises:
        BadInputError: there are more tasks than subjects.
    """
    if capacity < tasks:
        raise BadInputError(
            "the buffer is smaller than the number of tasks",
            field="capacity",
            got=capacity,
            expected=f"at least {tasks}, a subject of each task",
        )
    share, rest = divmod(capacity, tasks)
    if policy is Policy.REALLOCATION:
        return (*(share,) * (tasks - 1), share + rest)
    return tuple(share + (index < rest) for index in range(tasks))


def allocate(
    policy: Policy,
    capacity: int,
    held: Mapping[str, Sequence[Candidate]],
    finished: Sequence[Candidate],
    seen: int,
    generator: np.random.Generator,
) -> list[Candidate]:
    """The subjects that the buffer holds from now on.

    Args:
        policy: which rule.
        capacity: subjects of the buffer.
        held: what it holds now, by task, oldest first.
        finished: all training subjects of the task just finished.
        seen: subjects of all tasks before, whether held or not.
        generator: of what is random.

    Raises:
        BadInputError: as `quotas`.
    """
    numbers = quotas(policy, capacity, len(held) + 1)
    if policy is Policy.RESERVOIR:
        return _reservoir(
            capacity, [each for of in held.values() for each in of], finished, seen, generator
        )
    groups = [*held.values(), finished]
    pick = _uniform if policy is Policy.REALLOCATION else _spread
    return [
        each
        for group, number in zip(groups, numbers, strict=True)
        for each in pick(group, min(number, len(group)), generator)
    ]


def _uniform(
    group: Sequence[Candidate], number: int, generator: np.random.Generator
) -> list[Candidate]:
    return [group[index] for index in sorted(generator.permutation(len(group))[:number])]


def _spread(
    group: Sequence[Candidate], number: int, generator: np.random.Generator
) -> list[Candidate]:
    """Classes in turn; of numbers one from each of equally many neighbours."""
    shuffled = [group[index] for index in generator.permutation(len(group))]
    if not all(each.label is not None for each in group):
        return shuffled[:number]
    if group and group[0].classes:
        by_class = defaultdict(list)
        for each in shuffled:
            by_class[each.label].append(each)
        turns = [
            (turn, label or 0.0, each)
            for label, members in by_class.items()
            for turn, each in enumerate(members)
        ]
        return [each for _, _, each in sorted(turns, key=lambda entry: entry[:2])[:number]]
    ordered = sorted(shuffled, key=lambda each: each.label or 0.0)
    edges = np.linspace(0, len(ordered), number + 1).astype(int)
    return [ordered[int(generator.integers(low, high))] for low, high in pairwise(edges)]


def _reservoir(
    capacity: int,
    held: Sequence[Candidate],
    finished: Sequence[Candidate],
    seen: int,
    generator: np.random.Generator,
) -> list[Candidate]:
    slots = list(held)
    for index in generator.permutation(len(finished)):
        seen += 1
        if len(slots) < capacity:
            slots.append(finished[index])
        elif (slot := int(generator.integers(seen))) < capacity:
            slots[slot] = finished[index]
    return slots
