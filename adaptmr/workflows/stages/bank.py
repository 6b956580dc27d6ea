"""The stages of a bank: each step of its training by itself, the networks side by side."""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from adaptmr.reconstruction.networks import checkpoint, width
from adaptmr.workflows.bank_training.course import Course, Pairs, load_losses
from adaptmr.workflows.bank_training.run import begin, described, finish, last_masks
from adaptmr.workflows.bank_training.steps import Step
from adaptmr.workflows.stages.gathering import Gathering, Stage, publish

BANK: Final = "bank"
_REPORT: Final = "report"
_PAGE: Final = "report.html"


@dataclass(frozen=True, eq=False)
class BankStages(Gathering):
    """The stages of a training from raw files to a bank."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """In an order in which they can be run."""
        report = Stage(_REPORT, (BANK,), lambda: self.page)
        return (*super().stages, *self.training_stages, report)

    @property
    def published(self) -> tuple[str, ...]:
        """Names of what is made for people and other commands, within the folder."""
        return (BANK, _PAGE)

    @property
    def training_stages(self) -> tuple[Stage, ...]:
        """Those that make the bank."""
        recipe = self.config.training
        networks = [f"network-{index}" for index in range(recipe.masks.masks)]
        warm = ("surrogate",) if recipe.surrogate is not None else ()
        found = [
            Stage("sampler", ("validate",), lambda: self.sampler),
            Stage("uncertainties", ("sampler",), lambda: self.uncertainties),
        ]
        if warm:
            found.append(Stage("surrogate", ("uncertainties",), self._surrogate))
        found.append(Stage("masks", ("uncertainties", *warm), lambda: self.masks))
        found += [
            Stage(name, ("masks", *warm), partial(self.network, index))
            for index, name in enumerate(networks)
        ]
        found.append(Stage("selector", tuple(networks), lambda: self.selector))
        last = "selector"
        if recipe.width is not None and self.config.split.calibration > 0:
            found.append(Stage("width", tuple(networks), lambda: self.width))
            found.append(Stage("calibrate", ("selector", "width"), lambda: self.calibration))
            last = "calibrate"
        found.append(Stage(BANK, (last,), lambda: self.bank))
        return tuple(found)

    @cached_property
    def course(self) -> Course:
        """The training, its data opened."""
        assert self.validated  # noqa: S101 - what is trained on was checked before
        return begin(self.config.bank_training(self.prepared.folder), self.steps)

    @cached_property
    def sampler(self) -> Step:
        """Train the sampler."""
        return self.course.sampler()

    @cached_property
    def uncertainties(self) -> Step:
        """Measure the uncertainty of the training slices."""
        return self.course.uncertainties(self.sampler)

    @cached_property
    def surrogate(self) -> Step | None:
        """Train the network that the others start from; None where none is asked for."""
        return self.course.surrogate(self.sampler, self.uncertainties)

    @cached_property
    def masks(self) -> Step:
        """Make the masks."""
        return last_masks(self.course, self.sampler, self.uncertainties, self.surrogate)

    def network(self, index: int) -> Step:
        """Train the network of one mask."""
        return self.course.network(index, self.masks, self.surrogate)

    @cached_property
    def pairs(self) -> Pairs:
        """All masks with their networks."""
        count = self.config.training.masks.masks
        return Pairs(self.masks, tuple(self.network(index) for index in range(count)))

    @cached_property
    def selector(self) -> Step:
        """Find the best mask and fit the selector."""
        losses = self.course.losses("losses", self.course.data.judged, self.pairs)
        return self.course.selector(self.sampler, self.pairs, losses)

    @cached_property
    def width(self) -> Step:
        """Train the network of interval widths."""
        recipe = self.config.training.width
        assert recipe is not None  # noqa: S101 - there is no such stage without
        return self.course.width(self.pairs, recipe)

    @cached_property
    def calibration(self) -> Step:
        """Calibrate the intervals."""
        return self.course.calibration(self.sampler, self.pairs, self.selector, self.width)

    @cached_property
    def bank(self) -> Step:
        """Put the bank together."""
        calibrated = any(stage.name == "calibrate" for stage in self.training_stages)
        needs = [self.sampler, *self.pairs.steps, self.selector]
        needs += [self.width, self.calibration] if calibrated else []

        def compute(result: Path, _: Path) -> None:
            finish(self.course, result / BANK)

        step = self.steps.done("bank", 1, described(self.course), needs, compute)
        publish(step.folder / BANK, self.out / BANK)
        return step

    @cached_property
    def page(self) -> Step:
        """Write the page of the training."""
        bank = self.bank

        def compute(result: Path, _: Path) -> None:
            from adaptmr.workflows.stages.training_page import WIDTH, write_training_page

            losses = self.course.losses("losses", self.course.data.judged, self.pairs)
            named: list[tuple[str, Step | None]] = [("surrogate", self.surrogate)]
            named += [(step.name, step) for step in self.pairs.networks]
            networks = {
                name: checkpoint.provenance(step.folder / "network")
                for name, step in named
                if step is not None
            }
            if (bank.folder / BANK / "width").is_dir():
                networks[WIDTH] = width.provenance(bank.folder / BANK / "width")
            write_training_page(result / _PAGE, bank, load_losses(losses), self.summary, networks)

        step = self.steps.done(_REPORT, 1, None, (bank, self.validated), compute)
        publish(step.folder / _PAGE, self.out / _PAGE)
        return step

    def _surrogate(self) -> Step:
        return self.surrogate or self.uncertainties
