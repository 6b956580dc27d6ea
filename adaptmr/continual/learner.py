"""`ContinualLearner`: fine-tunes networks for tasks that arrive one after another."""

import copy
import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from adaptmr.continual import stage_files
from adaptmr.continual.allocation import quotas
from adaptmr.continual.clock import Clock
from adaptmr.continual.config import LearnerConfig
from adaptmr.continual.draws import BUFFER
from adaptmr.continual.measures import evaluate, logits_of
from adaptmr.continual.replay import Recorded, ReplayBuffer
from adaptmr.continual.results import Checkpoint, Learned, Scores, Stage, StageRecord
from adaptmr.continual.selection import Chooser
from adaptmr.continual.strategies.base import Order, StageWork, Strategy, reconstruction_of
from adaptmr.continual.task import Example, Judgement, Split, Task, require_disjoint
from adaptmr.data.crop import center_crop
from adaptmr.data.files import clear_left_over
from adaptmr.data.scan import Scan, Stack
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.bank import persistence as banks
from adaptmr.reconstruction.classical import ZeroFilled
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.checkpoint import Network
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.training import prepare_run, quiet

_IN_MEMORY: Final = 2**30
"""Scans of fewer bytes than this are read once and held."""


@dataclass(frozen=True)
class _Plan:
    """A stage before it is run: its tasks, where it starts, and its steps."""

    index: int
    tasks: tuple[Task, ...]
    start: int
    steps: int


@dataclass(frozen=True)
class ContinualLearner:
    """Runs a strategy over a sequence of tasks.

    Attributes:
        tasks: in the order they are learned; the first is the reconstruction, which the network
            has learned already.
        strategy: one of `adaptmr.continual.strategies.registry.STRATEGIES`.
        config: how.
    """

    tasks: tuple[Task, ...]
    strategy: Strategy
    config: LearnerConfig

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if len(names) < 2 or len(set(names)) < len(names):
            raise BadInputError(
                "a sequence has at least two tasks, each with a name of its own",
                field="tasks",
                got=", ".join(names),
            )
        if self.tasks[0].kind is not Judgement.RECONSTRUCTION:
            raise BadInputError(
                "the first task is not the reconstruction", field="tasks", got=names[0]
            )
        require_disjoint(self.tasks)
        if self.strategy.replays:
            # While the last task is learned the buffer holds those before it.
            quotas(self.config.buffer.policy, self.config.buffer.capacity, len(self.tasks) - 1)

    def run(self, network: Network, mask: Mask, out: Path, *, resume: bool = True) -> Learned:
        """Learn the tasks with one network under one mask.

        Finished stages in ``out`` are not run again; one that was stopped continues from its last
        block of steps, and ends with the weights that it would have had without the stop (bit by
        bit on one CPU). So a task can be added later, when the training data of those before are
        gone.

        Args:
            network: trained for the reconstruction; it stays as it is.
            mask: the mask it is used with.
            out: folder of the stages, ``out/<index>``.
            resume: whether to continue a stage that was stopped; otherwise it is thrown away.

        Raises:
            BadInputError: the data or a task network cannot be used, a subject was erased, or a
                loss was not a number twice.
            UsageError: ``out`` holds the stages of something else.
        """
        self._move(torch.device("cpu"))
        for task in self.tasks:
            task.check()
        frozen = {task.name: _hash(task.network.network) for task in self.tasks if task.network}
        images = partial(_zero_filled, mask)
        references = {
            split: (evaluate(self._held, split, images), evaluate(self._held, split, _full))
            for split in (Split.VALIDATION, Split.TEST)
        }
        start = copy.deepcopy(network)
        stages: dict[int, Stage] = {}
        for plan in self._plans():
            stages[plan.index] = self._stage(
                plan, stages, start, mask, out, references[Split.VALIDATION], resume=resume
            )
        for task in self.tasks:
            if task.network and _hash(task.network.network) != frozen[task.name]:
                raise RuntimeError(f"the network of the task {task.name} changed while it judged")
        zero_filled, full = references[Split.TEST]
        names = tuple(task.name for task in self.tasks)
        return Learned(names, tuple(stages.values()), zero_filled, full)

    def run_bank(self, bank: Path, out: Path, *, resume: bool = True) -> tuple[Learned, ...]:
        """Learn the tasks with every (mask, network) pair of a bank.

        Args:
            bank: folder of a bank; J = 1 is a plain network.
            out: ``out/<pair>/<index>`` are the stages, ``out/bank`` is the bank with the networks
                of the last stage. Intervals that were calibrated for other networks promise
                nothing of these: the new bank has none.
            resume: as of `run`.

        Returns:
            One for each pair, in the order of the bank.

        Raises:
            BadInputError: as `run`, or the bank is damaged.
            UsageError: as `run`.
        """
        opened = banks.load(bank)
        learned = tuple(
            self.run(opened.networks[pair], mask, out / str(pair), resume=resume)
            for pair, mask in enumerate(opened.masks.masks)
        )
        banks.assemble(
            out / "bank",
            masks=opened.masks,
            networks=[each.stages[-1].network for each in learned],
            sampler=None if opened.sampler is None else bank / "sampler",
            selector=opened.selector,
            uncertainty=opened.uncertainty,
            width=None,
            calibration=None,
            provenance={
                "from": banks.fingerprint(bank),
                "strategy": self.strategy.model_dump(mode="json"),
                "config": self.config.model_dump(mode="json", exclude={"accelerator"}),
                "tasks": [task.name for task in self.tasks],
            },
            overwrite=True,
        )
        return learned

    @cached_property
    def _held(self) -> tuple[Task, ...]:
        """The tasks, with their scans in memory where they fit."""
        scans = {id(each.scan): each.scan for task in self.tasks for each in task}
        needed = sum(8 * int(np.prod(scan.kspace.shape)) for scan in scans.values())
        if needed > _IN_MEMORY:
            return self.tasks
        held = {key: _in_memory(scan) for key, scan in scans.items()}
        return tuple(
            replace(
                task,
                examples={
                    split: tuple(Example(held[id(each.scan)], each.label) for each in some)
                    for split, some in task.examples.items()
                },
            )
            for task in self.tasks
        )

    def _plans(self) -> tuple[_Plan, ...]:
        tasks, steps, order = self._held, self.config.steps, self.strategy.order
        first = _Plan(0, tasks[:1], 0, 0)
        last = len(tasks) - 1
        if order is Order.TOGETHER:
            return first, _Plan(last, tasks, 0, steps * last)
        if order is Order.APART:
            return first, *(_Plan(i, (tasks[i],), 0, steps) for i in range(1, last + 1))
        return first, *(_Plan(i, tasks[: i + 1], i - 1, steps) for i in range(1, last + 1))

    def _stage(
        self,
        plan: _Plan,
        stages: Mapping[int, Stage],
        start: Network,
        mask: Mask,
        out: Path,
        references: tuple[Mapping[str, Scores], Mapping[str, Scores]],
        *,
        resume: bool,
    ) -> Stage:
        folder, work_folder = out / str(plan.index), out / f"{plan.index}.run"
        before = stages.get(plan.start)
        identity = self._identity(plan, mask, before.network if before else None, start)
        clear_left_over(out, folder.name)
        if folder.is_dir():
            shutil.rmtree(work_folder, ignore_errors=True)
            stage = stage_files.load(folder)
            stage_files.require_same(stage, identity)
            return self._complete(stage, mask)
        if before is None:
            network, memory, buffer = start, {}, self._empty(mask)
        else:
            network = checkpoint.load(before.network)
            memory = stage_files.load_memory(before)
            buffer = stage_files.load_buffer(before) or self._empty(mask)
        for task in self._trained(plan.tasks):
            buffer.require_not_erased(task.subjects(Split.TRAINING))
        network.requires_grad_(True)
        work = StageWork(
            plan.index,
            plan.tasks,
            network,
            mask,
            buffer,
            self.config,
            plan.steps,
            self._device,
            memory,
        )
        stage = self._run(network, work, references, folder, work_folder, identity, resume=resume)
        shutil.rmtree(work_folder, ignore_errors=True)
        return stage

    def _run(
        self,
        network: Network,
        work: StageWork,
        references: tuple[Mapping[str, Scores], Mapping[str, Scores]],
        folder: Path,
        run: Path,
        identity: dict[str, Any],
        *,
        resume: bool,
    ) -> Stage:
        curve: tuple[Checkpoint, ...] = ()
        step, halved = 0, -1
        clock = Clock()
        if work.steps:
            from adaptmr.continual.stage_module import StageTraining, fit

            continued = prepare_run(run, identity, resume)
            chooser = Chooser(self.config.selection, work.tasks, *references)
            training = StageTraining(work, self.strategy, chooser)
            with quiet():
                fit(training, run, resume=continued)
            step, curve = training.use_best(), training.checkpoints
            clock, halved = training.clock, training.halved
        clock.start()
        self._move(self._device)
        network.to(self._device).eval()
        self.strategy.after(work)
        buffer = None
        if self.strategy.replays:
            generator = np.random.default_rng((self.config.seed, BUFFER, work.index))
            if work.index < self.config.buffer.capacity:
                buffer = work.buffer.admit(work.task, partial(recorded, work), generator)
            else:  # no room for one more task, and none may follow
                buffer = work.buffer
        clock.stop()
        scores = evaluate(self._held, Split.TEST, reconstruction_of(work))
        trained = self._trained(work.tasks)
        record = StageRecord(
            index=work.index,
            task="+".join(task.name for task in trained),
            subjects=tuple(
                sorted({each for task in trained for each in task.subjects(Split.TRAINING)})
            ),
            scores=scores,
            curve=curve,
            step=step,
            seconds=clock.wall,
            processor_seconds=clock.processor,
            buffer_bytes=0 if buffer is None else buffer.size,
            provenance={**identity, "step": step, "rate_halved_at": halved},
        )
        return stage_files.save(folder, record, network.cpu(), work.memory, buffer)

    def _complete(self, stage: Stage, mask: Mask) -> Stage:
        """A finished stage with test scores of tasks that it did not know of."""
        missing = [task for task in self._held if task.name not in stage.record.scores]
        if not missing:
            return stage
        network = checkpoint.load(stage.network)
        self._move(self._device)
        network.to(self._device)
        work = StageWork(
            stage.record.index,
            self._held,
            network,
            mask,
            self._empty(mask),
            self.config,
            0,
            self._device,
            {},
        )
        scores = evaluate(missing, Split.TEST, reconstruction_of(work))
        record = stage.record.model_copy(update={"scores": {**stage.record.scores, **scores}})
        return stage_files.rewrite(stage, record, None)

    def _identity(
        self, plan: _Plan, mask: Mask, before: Path | None, start: Network
    ) -> dict[str, Any]:
        return {
            "strategy": self.strategy.model_dump(mode="json"),
            "config": self.config.model_dump(mode="json", exclude={"accelerator"}),
            "mask": mask.fingerprint,
            "start": _hash(start) if before is None else _hash(checkpoint.load(before)),
            "steps": plan.steps,
            "tasks": [task.definition for task in plan.tasks],
            "training": _training_fingerprint(self._trained(plan.tasks)),
        }

    def _trained(self, seen: tuple[Task, ...]) -> tuple[Task, ...]:
        """The tasks whose data a stage is trained on: the last of those seen, or all at once."""
        return seen if self.strategy.order is Order.TOGETHER else seen[-1:]

    def _empty(self, mask: Mask) -> ReplayBuffer:
        return ReplayBuffer(self.config.buffer, mask)

    def _move(self, device: torch.device) -> None:
        """The task networks, to a device."""
        for task in self._held:
            if task.network is not None:
                task.network.network.to(device)

    @property
    def _device(self) -> torch.device:
        available = self.config.accelerator != "cpu" and torch.cuda.is_available()
        return torch.device("cuda" if available else "cpu")


def recorded(work: StageWork, example: Example) -> Recorded:
    """What the network of a stage, and that of its task, say of an example."""
    target = example.target
    size = (target.shape[1], target.shape[2])
    with torch.no_grad():
        image = center_crop(reconstruction_of(work)(example), size)
        logits = None if work.task.network is None else logits_of(work.task, image, size).cpu()
    return Recorded(image.cpu().contiguous(), logits)


def _zero_filled(mask: Mask, example: Example) -> Tensor:
    return ZeroFilled()(example.scan.kspace[:], mask)


def _full(example: Example) -> Tensor:
    return example.target[:]


def _in_memory(scan: Scan) -> Scan:
    target = None if scan.target is None else Stack.of(scan.target[:])
    return replace(scan, kspace=Stack.of(scan.kspace[:]), target=target)


def _hash(network: nn.Module) -> str:
    """sha256 of the weights; of a program of those that it shows."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _training_fingerprint(tasks: tuple[Task, ...]) -> str | None:
    parts = [task.training_fingerprint for task in tasks]
    return None if None in parts else hashlib.sha256(repr(parts).encode()).hexdigest()
