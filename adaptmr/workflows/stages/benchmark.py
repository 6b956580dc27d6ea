"""The stages of a benchmark: the branch of each seed, its masks and networks side by side."""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

from adaptmr.workflows.bank_training.run import last_masks
from adaptmr.workflows.bank_training.steps import Step
from adaptmr.workflows.benchmark.config import BenchmarkChoices, BenchmarkConfig
from adaptmr.workflows.benchmark.run import REPORT, benchmark, one_seed
from adaptmr.workflows.benchmark.trial import Trial, begin_trial
from adaptmr.workflows.stages.config import Benchmark
from adaptmr.workflows.stages.gathering import Gathering, Stage, publish

BENCHMARK: Final = "benchmark"


@dataclass(frozen=True, eq=False)
class BenchmarkStages(Gathering):
    """The stages of a benchmark from raw files to its report."""

    config: Benchmark

    @property
    def stages(self) -> tuple[Stage, ...]:
        """In an order in which they can be run."""
        found = [*super().stages]
        for seed in self.config.seeds:
            found += self._branch(seed)
        rows = tuple(f"rows-{seed}" for seed in self.config.seeds)
        return (*found, Stage(BENCHMARK, rows, lambda: self.report))

    @property
    def published(self) -> tuple[str, ...]:
        """Names of what is made for people and other commands, within the folder."""
        return (BENCHMARK, REPORT)

    def _branch(self, seed: int) -> list[Stage]:
        """The stages of one seed."""
        first = f"surrogate-{seed}"
        found = [Stage(first, ("validate",), partial(self._begun, seed))]
        networks: list[str] = []
        for count in self.counts:
            masks = f"masks-{seed}-of-{count}"
            found.append(Stage(masks, (first,), partial(self.masks, seed, count)))
            for index in range(count):
                networks.append(f"network-{seed}-of-{count}-{index}")
                work = partial(self.network, seed, count, index)
                found.append(Stage(networks[-1], (masks,), work))
        return [*found, Stage(f"rows-{seed}", tuple(networks), partial(self.rows, seed))]

    @cached_property
    def benchmark(self) -> BenchmarkConfig:
        """What is compared on what."""
        return self.config.benchmark(self.prepared.folder)

    @property
    def counts(self) -> tuple[int, ...]:
        """All values of J."""
        return self.config.benchmark(Path()).counts

    @cached_property
    def trials(self) -> dict[int, Trial]:
        """What the rows of each seed share; grows."""
        return {}

    def trial(self, seed: int) -> Trial:
        """The sampler, the uncertainties and the surrogate of a seed."""
        if seed not in self.trials:
            assert self.validated  # noqa: S101 - what is measured on was checked before
            self.trials[seed] = begin_trial(self.benchmark, seed, self.steps)
        return self.trials[seed]

    def masks(self, seed: int, count: int) -> Step:
        """Make the masks of one J."""
        trial = self.trial(seed)
        shared = trial.sampler, trial.uncertainties, trial.surrogate
        return last_masks(trial.of(count), *shared)

    def network(self, seed: int, count: int, index: int) -> Step:
        """Train the network of one of them."""
        trial = self.trial(seed)
        return trial.of(count).network(index, self.masks(seed, count), trial.surrogate)

    def rows(self, seed: int) -> Step:
        """Train and measure whatever else the rows of a seed need."""
        trial = self.trial(seed)
        needs = [
            self.network(seed, count, index) for count in self.counts for index in range(count)
        ]

        def compute(_: Path, __: Path) -> None:
            detailed = seed == self.config.seeds[0]
            one_seed(self.benchmark, seed, self.steps, detailed=detailed)

        needs += [self._begun(seed), trial.test.step]
        return self.steps.done(f"rows-{seed}", 1, self._asked, needs, compute)

    @cached_property
    def report(self) -> Step:
        """Put the tables and the report together."""
        rows = [self.rows(seed) for seed in self.config.seeds]

        def compute(result: Path, _: Path) -> None:
            benchmark(self.benchmark, result / BENCHMARK, run=self.steps.folder)

        step = self.steps.done(BENCHMARK, 1, self._asked, rows, compute)
        publish(step.folder / BENCHMARK, self.out / BENCHMARK)
        publish(step.folder / BENCHMARK / REPORT, self.out / REPORT)
        return step

    def _begun(self, seed: int) -> Step:
        trial = self.trial(seed)
        return trial.surrogate or trial.uncertainties

    @property
    def _asked(self) -> Any:
        """What is compared, and how it is trained."""
        asked = set(BenchmarkChoices.model_fields) | {"training"}
        return self.config.model_dump(mode="json", include=asked)
