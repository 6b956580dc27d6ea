"""A training that goes on from a bank: on more scans, and for tasks that came since."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptmr.continual.learner import ContinualLearner
from adaptmr.continual.task import Task
from adaptmr.continual.task_files import describe_task
from adaptmr.data.manifest import MANIFEST, sha256
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.training.data import Material
from adaptmr.reconstruction.training.run import train_network
from adaptmr.sampling.sources import FixedMask
from adaptmr.workflows.bank_training.course import Course, load_masks, plain
from adaptmr.workflows.bank_training.data import digests
from adaptmr.workflows.bank_training.steps import Step, Steps
from adaptmr.workflows.continual.config import LabelledScans, SequenceConfig
from adaptmr.workflows.continual.run import open_tasks


@dataclass(frozen=True)
class Taught:
    """Tasks that networks are taught.

    Attributes:
        sequence: which, and how.
        folder: where their data lie that are simulated.
    """

    sequence: SequenceConfig
    folder: Path

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The reconstruction and the tasks, their data opened."""
        return open_tasks(self.sequence, self.folder)

    @property
    def learner(self) -> ContinualLearner:
        """What teaches them."""
        return ContinualLearner(self.tasks, self.sequence.strategy, self.sequence.learner)

    @property
    def margins(self) -> list[tuple[str, float]]:
        """Metric of each task, and the difference of it that matters."""
        told = [describe_task(each.task) for each in self.sequence.tasks]
        return [(each.metric.value, each.margin) for each in told]

    def identity(self, steps: Steps) -> Any:
        """What the networks depend on, wherever it lies."""
        sequence = self.sequence
        asked = sequence.model_dump(mode="json", include={"strategy", "learner"})
        asked["learner"].pop("accelerator", None)
        studies = [sequence.reconstruction.study, *(each.study for each in sequence.tasks)]
        contents = [
            digests(study.folder, steps)
            if isinstance(study, LabelledScans)
            else study.model_dump(mode="json")
            for study in studies
        ]
        return [asked, contents, [sha256(each.task / MANIFEST) for each in sequence.tasks]]


@dataclass(frozen=True, eq=False)
class Further(Course):
    """A training that goes on from a bank: its sampler and its masks stay as they are.

    Attributes:
        champion: step of that bank.
        taught: tasks that its networks are taught, where there are any.
    """

    champion: Step
    taught: Taught | None

    def sampler(self) -> Step:
        """The sampler of the bank."""
        return self.champion

    def uncertainties(self, sampler: Step) -> Step:  # noqa: ARG002 - masks are there
        """Nothing is measured: the masks are there."""
        return self.champion

    def surrogate(self, sampler: Step, uncertainties: Step) -> None:
        """None: networks start from those of the bank."""

    def masks(
        self,
        sampler: Step,  # noqa: ARG002 - they are there
        uncertainties: Step,  # noqa: ARG002
        surrogate: Step | None,  # noqa: ARG002
    ) -> Step:
        """The masks of the bank."""
        return self.champion

    def network(self, index: int, masks: Step, surrogate: Step | None) -> Step:  # noqa: ARG002
        """Train the network of one mask further, and teach it the tasks."""
        config, mask, taught = self.config, load_masks(masks).masks[index], self.taught
        before = self.champion.folder / "networks" / str(index)

        def compute(result: Path, work: Path) -> None:
            schedule = self.seeded(config.pairs)
            material = Material(self.data.cohort, (FixedMask(mask),), initial=before)
            network = result / "network" if taught is None else work / "further"
            if not network.exists():
                train_network(config.architecture, schedule, material, network, work / "training")
            if taught is not None:
                learned = taught.learner.run(checkpoint.load(network), mask, work / "stages")
                shutil.copytree(learned.stages[-1].network, result / "network")

        reads = [
            plain(config.architecture),
            plain(config.pairs),
            config.seed,
            index,
            None if taught is None else taught.identity(self.steps),
        ]
        needs = (self.data.step, self.champion)
        return self.steps.done(f"network-{index}", 1, reads, needs, compute)
