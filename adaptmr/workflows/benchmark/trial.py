"""One seed of a benchmark: what is trained, once, and the table of each network, once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from safetensors.torch import save_file
from torch import Tensor

from adaptmr.data.weights import read_weights
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.learned import joint
from adaptmr.reconstruction.learned.joint import LearnedReconstruction, LearnerConfig
from adaptmr.reconstruction.learned.training import LearnSchedule, train_learned
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.reconstructor import Reconstructor
from adaptmr.reconstruction.training.cohort import subjects_of
from adaptmr.reconstruction.training.config import SeededSchedule
from adaptmr.reconstruction.training.data import Material
from adaptmr.reconstruction.training.run import train_network
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.persistence import Sampler
from adaptmr.sampling.protocol_prior import slice_positions
from adaptmr.sampling.selection import measure as measure_uncertainty
from adaptmr.sampling.selector import Evidence
from adaptmr.sampling.sources import FixedMask, MaskSource
from adaptmr.sampling.uncertainty import UncertaintyMap
from adaptmr.workflows.bank_training.config import CapturedRefinement
from adaptmr.workflows.bank_training.course import Course, load_uncertainties, plain
from adaptmr.workflows.bank_training.run import begin
from adaptmr.workflows.bank_training.steps import Step, Steps
from adaptmr.workflows.benchmark.config import BenchmarkConfig
from adaptmr.workflows.benchmark.examined import Examined, check_test, measure, open_test
from adaptmr.workflows.benchmark.masks import mask_of
from adaptmr.workflows.progress import track
from adaptmr.workflows.sampling import low_frequency_of

_TABLE: Final = "metrics.safetensors"
_MASKS: Final = "masks.jsonl"
SEEDS_APART: Final = 100_000
"""Seeds of the networks of one trial lie so far apart."""


@dataclass(frozen=True, eq=False)
class Apart(Course):
    """A training whose networks differ by their seeds too, as those of the seed control do.

    Networks of one seed see the slices in one order, and err alike on a slice. Among networks that
    do not, an oracle gains by chance; so they are compared with networks of which that is true too.
    """

    def network(self, index: int, masks: Step, surrogate: Step | None) -> Step:
        """Train the network of one mask."""
        seed = self.config.seed + SEEDS_APART * index
        own = replace(self, config=self.config.model_copy(update={"seed": seed}))
        return Course.network(own, index, masks, surrogate)


@dataclass(frozen=True, eq=False)
class Trial:
    """One seed.

    Attributes:
        config: the benchmark.
        seed: which one.
        course: the training of the bank of the verdict.
        test: what all numbers are of.
        selection: what best masks are chosen on, and selectors fitted.
        sampler: step of the sampler.
        uncertainties: step of the uncertainties of the training slices.
        surrogate: step of the surrogate, where there is one.
    """

    config: BenchmarkConfig
    seed: int
    course: Course
    test: Examined
    selection: Examined
    sampler: Step
    uncertainties: Step
    surrogate: Step | None

    @property
    def warm(self) -> Step | None:
        """What networks start from."""
        return self.surrogate if self.course.config.pairs.warm_start else None

    @cached_property
    def frame(self) -> Frame:
        """What all masks have in common."""
        return self.course.frame(self.sampler)

    @cached_property
    def drawer(self) -> Sampler:
        """The sampler, on the device."""
        return self.course.load_sampler(self.sampler)

    @cached_property
    def mean_uncertainty(self) -> Tensor:
        """(readout, phase), over the training slices."""
        found = load_uncertainties(self.uncertainties)
        return found.values[found.known].double().mean(0)

    @cached_property
    def test_evidence(self) -> tuple[Evidence, ...]:
        """What selectors see of each scan of the test, all of its slices."""
        return self._evidence(self.test)

    @cached_property
    def selection_evidence(self) -> tuple[Evidence, ...]:
        """What selectors see of each scan that they are fitted on, all of its slices."""
        return self._evidence(self.selection)

    def of(self, masks: int) -> Course:
        """The training of a bank of so many masks, each network from a seed of its own."""
        config = self.config.trained_with(self.seed, masks)
        return Apart(config, self.course.data, self.course.steps, self.course.device)

    def network(self, name: str, source: MaskSource, further: int = 0) -> Step:
        """Train a network for masks of a source, as long and from the same start as the pairs.

        Args:
            name: of the step.
            source: of the masks.
            further: a number for each of several networks for the same masks.
        """
        return self._network(name, (source,), further, (self.course.data.step,))

    def surrogate_trained_further(self) -> Step:
        """Train the surrogate on random masks for as long as the pairs are trained."""
        sources = self.course.random_masks(self.sampler, self.uncertainties)
        return self._network("surrogate-further", sources, 0, (self.course.data.step,))

    def learned(self, learner: LearnerConfig) -> Step:
        """Train a network together with its masks, as long and from the same start as the pairs."""
        config, frame = self.course.config, self.frame
        schedule = LearnSchedule(
            **dict(self._schedule(0)),
            learner=learner,
            mask_learning_rate=self.config.mask_learning_rate,
        )

        def compute(result: Path, work: Path) -> None:
            material = self._material((FixedMask(frame.block_only),))
            train_learned(config.architecture, schedule, material, frame, result / "learned", work)

        reads = [
            plain(config.architecture),
            plain(schedule),
            config.pairs.frozen,
            frame.budget,
        ]
        needs = (self.course.data.step, self.sampler, *self._start)
        return self.course.steps.done(f"learned-{learner.kind}", 1, reads, needs, compute)

    def load(self, network: Step) -> Reconstructor:
        """The network of a step, on the device."""
        return checkpoint.load(network.folder / "network").to(self.course.device)

    def load_learned(self, step: Step) -> LearnedReconstruction:
        """Network and masks of a step, on the device."""
        return joint.load(step.folder / "learned").to(self.course.device)

    def table(self, examined: Examined, network: Step, masks: Mask | Sequence[Mask]) -> Tensor:
        """The metrics of a network on slices; see `examined.measure`.

        Args:
            examined: the slices.
            network: step of a network, alone or learned with its masks.
            masks: one for all slices, or one for each.
        """
        every = [masks] * len(examined.slices) if isinstance(masks, Mask) else masks

        def compute(result: Path, _: Path) -> None:
            learned = (network.folder / "learned").is_dir()
            found = measure(
                self.load_learned(network).network if learned else self.load(network),
                every,
                examined,
                batch_size=self.course.config.pairs.batch_size,
                device=self.course.device,
            )
            save_file({"metrics": found}, result / _TABLE)

        joined = "".join(mask.fingerprint for mask in every)
        reads = hashlib.sha256(joined.encode()).hexdigest()
        name = f"measured-{examined.step.name}"
        step = self.course.steps.done(name, 1, reads, (examined.step, network), compute)
        return read_weights(step.folder / _TABLE)["metrics"]

    def own_masks(self, examined: Examined) -> tuple[Mask, ...]:
        """The mask of each slice's own uncertainty; that of the mean where it is not known."""
        config = self.course.config
        measured = self._measured(examined)

        def compute(result: Path, _: Path) -> None:
            found = load_uncertainties(measured)[examined.kept]
            masks = [
                self.mask_of(values) if known else self.mask_of(self.mean_uncertainty)
                for values, known in zip(track(found.values, "masks"), found.known, strict=True)
            ]
            (result / _MASKS).write_text("".join(f"{mask.to_json()}\n" for mask in masks))

        reads = [plain(config.masks.rule), plain(config.refinement), config.acceleration]
        needs = (measured, self.uncertainties)
        step = self.course.steps.done("own-masks", 1, reads, needs, compute)
        lines = (step.folder / _MASKS).read_text().splitlines()
        return tuple(Mask.from_json(line) for line in lines)

    def mask_of(self, values: Tensor) -> Mask:
        """The mask of one uncertainty."""
        config = self.course.config
        refine = config.refinement if isinstance(config.refinement, CapturedRefinement) else None
        return mask_of(values, self.frame, config.masks.rule, refine)

    def _evidence(self, examined: Examined) -> tuple[Evidence, ...]:
        found, first = load_uncertainties(self._measured(examined)), 0
        parts = []
        for scan in examined.scans:
            parts.append(
                Evidence(
                    low_frequency_of(scan, self.drawer),
                    found[first : first + scan.slices],
                    scan.header,
                    slice_positions(scan.slices),
                )
            )
            first += scan.slices
        return tuple(parts)

    def _measured(self, examined: Examined) -> Step:
        """The uncertainty of all slices, found as when a mask is to be chosen."""
        config = self.course.config.uncertainty

        def compute(result: Path, _: Path) -> None:
            parts = [
                measure_uncertainty(
                    self.drawer,
                    low_frequency_of(scan, self.drawer).to(self.course.device),
                    config,
                ).to("cpu")
                for scan in track(examined.scans, "measuring")
            ]
            found = UncertaintyMap.concatenate(parts)
            tensors = {each.name: getattr(found, each.name).contiguous() for each in fields(found)}
            save_file(tensors, result / "uncertainties.safetensors")

        name = f"uncertainties-{examined.step.name}"
        needs = (examined.step, self.sampler)
        return self.course.steps.done(name, 1, plain(config), needs, compute)

    @property
    def _start(self) -> tuple[Step, ...]:
        return () if self.warm is None else (self.warm,)

    def _material(self, sources: tuple[MaskSource, ...]) -> Material:
        """What all networks learn from, masks apart."""
        initial = None if self.warm is None else self.warm.folder / "network"
        frozen = self.course.config.pairs.frozen
        return Material(self.course.data.cohort, sources, None, initial, frozen)

    def _schedule(self, further: int) -> SeededSchedule:
        seeded = self.course.seeded(self.course.config.pairs)
        return seeded.model_copy(update={"seed": seeded.seed + SEEDS_APART * further})

    def _network(
        self, name: str, sources: tuple[MaskSource, ...], further: int, needs: Sequence[Step]
    ) -> Step:
        config, schedule = self.course.config, self._schedule(further)

        def compute(result: Path, work: Path) -> None:
            material = self._material(sources)
            train_network(config.architecture, schedule, material, result / "network", work)

        reads = [
            plain(config.architecture),
            plain(schedule),
            config.pairs.frozen,
            [source.fingerprint for source in sources],
        ]
        return self.course.steps.done(f"network-{name}", 1, reads, (*needs, *self._start), compute)


def begin_trial(config: BenchmarkConfig, seed: int, steps: Steps) -> Trial:
    """Open the data of a seed, and train what all of its rows share.

    Args:
        config: the benchmark.
        seed: one of its seeds.
        steps: where results are kept.

    Raises:
        BadInputError: data cannot be used, a test subject was seen, or there are too few subjects.
    """
    course = begin(config.trained_with(seed, config.main), steps)
    test = open_test(config, course.steps)
    _check(course, test)
    selection = Examined(course.data.judged, replace(course.data.step, name="selection"))
    sampler = course.sampler()
    uncertainties = course.uncertainties(sampler)
    surrogate = course.surrogate(sampler, uncertainties)
    return Trial(config, seed, course, test, selection, sampler, uncertainties, surrogate)


def checked_test(config: BenchmarkConfig, steps: Steps) -> Examined:
    """The test, after the data of all seeds were looked at and before anything is trained.

    Raises:
        BadInputError: as `begin_trial`.
    """
    courses = [begin(config.trained_with(seed, config.main), steps) for seed in config.seeds]
    test = open_test(config, steps)
    for course in courses:
        _check(course, test)
    return test


def _check(course: Course, test: Examined) -> None:
    check_test(test, course.data)
    judged = subjects_of(course.data.judged)
    if len(judged) < 2:
        raise BadInputError(
            "selectors are fitted on at least two subjects",
            field="selection_fraction",
            got=f"{len(judged)} subject",
            hint="Add subjects, or raise the fraction",
        )
