"""The training batches of a task: what a step gets follows from seed and step alone."""

from functools import lru_cache

import numpy as np
import torch

from adaptmr.continual.replay import TaskBatch
from adaptmr.continual.task import Example, Split, Task
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.training.data import Plan, training_plans
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.sources import FixedMask

# Sets the streams of random numbers of one seed apart.
TRAINING, FISHER, REPLAY, BUFFER = range(4)


def seed_of(*key: int) -> int:
    """A seed of its own for each key of numbers that are not negative."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint32)[0])


class Draws:
    """Draws batches from the training examples of a task, in a new order after each pass.

    Args:
        task: whose examples.
        mask: that the network is used with.
        size: slices of a batch; a task that judges volumes has one volume in each.
        seed: of the order.

    Raises:
        BadInputError: the task has no training examples.
    """

    def __init__(self, task: Task, mask: Mask, size: int, seed: int) -> None:
        self._examples = {id(each.scan): each for each in task.of(Split.TRAINING)}
        if not self._examples:
            raise BadInputError(
                f"the training data of the task {task.name} are gone", field=Split.TRAINING.value
            )
        self._volumes = task.volumes
        self._source = FixedMask(mask)
        self._size = size
        self._seed = seed
        self._pass = lru_cache(maxsize=1)(self._plans)

    def __len__(self) -> int:
        """Batches of one pass."""
        return len(self._pass(0))

    def batch(self, step: int) -> TaskBatch:
        """The batch of a step, counted from 0.

        Raises:
            BadInputError: a file is damaged, or the mask does not fit.
        """
        turn, index = divmod(step, len(self))
        plan = self._pass(turn)[index]
        read = plan.read()
        labels = [self._label(self._examples[id(scan)], number) for scan, number in plan.slices]
        if self._volumes:
            label = labels[0]
        else:
            there = [each for each in labels if each is not None]
            label = torch.stack(there) if there else None
        return TaskBatch(read.kspace, read.target, read.data_range, label, None)

    def _label(self, example: Example, index: int) -> torch.Tensor | None:
        if example.label is None or self._volumes:
            return example.label
        return example.label[index]

    def _plans(self, turn: int) -> tuple[Plan, ...]:
        scans = [example.scan for example in self._examples.values()]
        if self._volumes:
            order = np.random.default_rng((self._seed, turn)).permutation(len(scans))
            return tuple(
                Plan(
                    tuple((scans[index], number) for number in range(scans[index].slices)),
                    self._source,
                    (self._seed, turn),
                )
                for index in order
            )
        slices = [(scan, number) for scan in scans for number in range(scan.slices)]
        return training_plans(slices, [self._source], self._size, self._seed, turn)
