"""The steps of a bank's training: what each reads, needs and writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel
from safetensors.torch import save_file
from torch import Tensor

from adaptmr.data.manifest import MANIFEST, sha256
from adaptmr.data.scan import Scan
from adaptmr.data.weights import read_weights
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.calibration import intervals
from adaptmr.reconstruction.losses import ReconstructionScore, pair_losses
from adaptmr.reconstruction.networks import checkpoint, width
from adaptmr.reconstruction.networks.checkpoint import Network
from adaptmr.reconstruction.networks.width import WidthNetwork
from adaptmr.reconstruction.training.config import Schedule, SeededSchedule
from adaptmr.reconstruction.training.data import Emphasis, Material, training_slices
from adaptmr.reconstruction.training.run import run_training, train_network
from adaptmr.sampling import bank as banks
from adaptmr.sampling import persistence, selector_files
from adaptmr.sampling.bank import MaskBank
from adaptmr.sampling.frame import Frame, Positions
from adaptmr.sampling.generators import MaskKind, MaskSpec
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.persistence import Sampler
from adaptmr.sampling.refinement import CapturedVariance, Scorer
from adaptmr.sampling.sources import FixedMask, MaskSource, UncertaintyDraws
from adaptmr.sampling.uncertainty import UncertaintyMap
from adaptmr.workflows.bank_training.calibration import calibrated
from adaptmr.workflows.bank_training.change import train_change
from adaptmr.workflows.bank_training.choosing import Judged, fitted_selector
from adaptmr.workflows.bank_training.config import BankTraining, SurrogateRefinement, WidthTraining
from adaptmr.workflows.bank_training.data import BankData
from adaptmr.workflows.bank_training.steps import Step, Steps
from adaptmr.workflows.sampling import train_sampler_on
from adaptmr.workflows.selection import coil_counts, common_frame, measure_scans

# What does not change a result, and so has no part in its key.
_FREE: Final = {"accelerator", "devices", "workers"}
DENSITIES: Final = {
    Positions.LINES: (MaskKind.VARIABLE_DENSITY_1D, MaskKind.RANDOM),
    Positions.POINTS: (MaskKind.VARIABLE_DENSITY_2D, MaskKind.RANDOM_2D),
}
"""Masks by rule of an exact budget: variable density, and uniform."""


@dataclass(frozen=True)
class Pairs:
    """Masks and the networks trained for them.

    Attributes:
        masks: step of the masks.
        networks: (J,) step of each network.
    """

    masks: Step
    networks: tuple[Step, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """All of them."""
        return (self.masks, *self.networks)


@dataclass(frozen=True, eq=False)
class Course:
    """One training of a bank.

    Attributes:
        config: how.
        data: on what.
        steps: where results are kept.
        device: where to compute what Lightning does not place.
    """

    config: BankTraining
    data: BankData
    steps: Steps
    device: torch.device

    def sampler(self) -> Step:
        """Train the sampler."""
        settings = self.config.sampler_settings

        def compute(result: Path, work: Path) -> None:
            train_sampler_on(self.data.cohort, settings, result / "sampler", work)

        reads = settings.model_dump(mode="json", exclude={"training": _FREE})
        return self.steps.done("sampler", 1, reads, (self.data.step,), compute)

    def uncertainties(self, sampler: Step) -> Step:
        """Measure the uncertainty of the training slices."""
        config = self.config.uncertainty

        def compute(result: Path, _: Path) -> None:
            drawer = self.load_sampler(sampler)
            found = measure_scans(self.data.training, drawer, config, self.device)
            parts = {each.name: getattr(found, each.name).contiguous() for each in fields(found)}
            save_file(parts, result / "uncertainties.safetensors")

        needs = (self.data.step, sampler)
        return self.steps.done("uncertainties", 1, plain(config), needs, compute)

    def surrogate(self, sampler: Step, uncertainties: Step) -> Step | None:
        """Train a network over random masks of the bank's frame; None where none is asked for."""
        schedule, config = self.config.surrogate, self.config
        if schedule is None:
            return None

        def compute(result: Path, work: Path) -> None:
            material = Material(self.data.cohort, self.random_masks(sampler, uncertainties))
            train_network(
                config.architecture, self.seeded(schedule), material, result / "network", work
            )

        reads = [
            plain(config.architecture),
            plain(schedule),
            plain(config.masks.rule),
            config.acceleration,
            config.seed,
        ]
        needs = (self.data.step, sampler, uncertainties)
        return self.steps.done("surrogate", 1, reads, needs, compute)

    def masks(self, sampler: Step, uncertainties: Step, surrogate: Step | None) -> Step:
        """Cluster the training slices, and draw a mask for each cluster."""
        config = self.config

        def compute(result: Path, _: Path) -> None:
            found = load_uncertainties(uncertainties)
            frame = self.frame(sampler)
            coils = coil_counts(self.data.training)
            bank, clusters = banks.build(found, frame, config.masks, coils=coils)
            self._save_masks(result, bank, clusters.labels, found, surrogate)

        reads = [config.acceleration, plain(config.masks), plain(config.refinement), config.seed]
        needs = (self.data.step, sampler, uncertainties, *self._scored_by(surrogate))
        return self.steps.done("masks", 2, reads, needs, compute)

    def reassigned_masks(
        self, before: Pairs, losses: Step, uncertainties: Step, surrogate: Step | None
    ) -> Step:
        """Give every training slice to the mask that loses least on it, and draw the masks anew."""
        config = self.config

        def compute(result: Path, _: Path) -> None:
            found = load_uncertainties(uncertainties)
            labels = load_losses(losses).argmin(1)
            bank = banks.reassign(load_masks(before.masks), found, labels, config.masks.rules)
            self._save_masks(result, bank, labels, found, surrogate)

        reads = [plain(config.masks), plain(config.refinement), config.seed]
        needs = (before.masks, losses, uncertainties, *self._scored_by(surrogate))
        return self.steps.done("masks-reassigned", 2, reads, needs, compute)

    def network(self, index: int, masks: Step, surrogate: Step | None) -> Step:
        """Train the network of one mask; other masks of the bank may change without it."""
        config, mask = self.config, load_masks(masks).masks[index]
        warm = surrogate if config.pairs.warm_start else None
        emphasis = self._emphasis(masks, index)

        def compute(result: Path, work: Path) -> None:
            initial = None if warm is None else warm.folder / "network"
            schedule, out = self.seeded(config.pairs), result / "network"
            if initial is not None and config.pairs.adapter is not None:
                rank, cohort = config.pairs.adapter.rank, self.data.cohort
                train_change(initial, cohort, mask, emphasis, schedule, rank, out, work)
                return
            material = Material(
                self.data.cohort, (FixedMask(mask),), emphasis, initial, config.pairs.frozen
            )
            train_network(config.architecture, schedule, material, out, work)

        reads = [
            plain(config.architecture),
            plain(config.pairs),
            config.seed,
            mask.fingerprint,
            None if emphasis is None else emphasis.fingerprint,
        ]
        needs = (self.data.step, *([] if warm is None else [warm]))
        return self.steps.done(f"network-{index}", 1, reads, needs, compute)

    def losses(self, name: str, scans: Sequence[Scan], pairs: Pairs) -> Step:
        """The loss of every pair on every slice of scans."""

        def compute(result: Path, _: Path) -> None:
            found = pair_losses(
                self.load_networks(pairs),
                load_masks(pairs.masks).masks,
                scans,
                batch_size=self.config.pairs.batch_size,
                device=self.device,
            )
            save_file({"losses": found.contiguous()}, result / "losses.safetensors")

        return self.steps.done(name, 1, None, (self.data.step, *pairs.steps), compute)

    def selector(self, sampler: Step, pairs: Pairs, losses: Step) -> Step:
        """Find the fixed best mask, and fit the selector."""
        config = self.config

        def compute(result: Path, _: Path) -> None:
            judged = Judged(self.data.judged, load_losses(losses))
            bank = load_masks(pairs.masks).with_best(judged.losses)
            rule = fitted_selector(
                config.selector,
                bank,
                judged,
                self.load_sampler(sampler),
                config.uncertainty,
                self.device,
            )
            banks.save(bank, result / "masks")
            (result / "selector").mkdir()
            selector_files.save(rule, result / "selector")

        reads = [config.selector, plain(config.uncertainty)]
        needs = (self.data.step, sampler, pairs.masks, losses)
        return self.steps.done("selector", 2, reads, needs, compute)

    def width(self, pairs: Pairs, schedule: WidthTraining) -> Step:
        """Train the network of interval widths on the errors of all pairs."""

        def compute(result: Path, work: Path) -> None:
            masks = load_masks(pairs.masks).masks
            networks = dict(zip(masks, self.load_networks(pairs), strict=True))
            first = width.build(schedule.architecture, self.config.seed)
            settings = self.seeded(schedule)

            begin = partial(_begin_width, first, networks, settings, schedule.quantile)
            run_training(
                settings,
                Material(self.data.cohort, tuple(map(FixedMask, masks))),
                result / "width",
                work,
                begin,
                width.save,
                overwrite=False,
                resume=True,
            )

        reads = [plain(schedule), self.config.seed]
        return self.steps.done("width", 1, reads, (self.data.step, *pairs.steps), compute)

    def calibration(self, sampler: Step, pairs: Pairs, selector: Step, widths: Step) -> Step:
        """Calibrate the intervals."""
        config = self.config

        def compute(result: Path, _: Path) -> None:
            drawer = sampler.folder / "sampler"
            bank = ReconstructionBank(
                banks.load(selector.folder / "masks"),
                self.load_networks(pairs),
                selector_files.load(selector.folder / "selector"),
                self.load_sampler(sampler),
                sha256(drawer / MANIFEST),
                config.uncertainty,
                width.load(widths.folder / "width").to(self.device),
                None,
                {},
            )
            found = calibrated(
                bank,
                self.data.calibration,
                config.alpha,
                batch_size=config.pairs.batch_size,
                device=self.device,
            )
            intervals.save(found, result / "calibration.json")

        reads = [config.alpha, plain(config.uncertainty)]
        needs = (self.data.step, sampler, *pairs.steps, selector, widths)
        return self.steps.done("calibration", 1, reads, needs, compute)

    def load_sampler(self, step: Step) -> Sampler:
        """The sampler of a step, on the device."""
        return persistence.load(step.folder / "sampler").to(self.device)

    def load_networks(self, pairs: Pairs) -> list[Network]:
        """The networks of pairs, on the device."""
        folders = [step.folder / "network" for step in pairs.networks]
        return [checkpoint.load(folder).to(self.device) for folder in folders]

    def seeded(self, schedule: Schedule) -> SeededSchedule:
        """The schedule with the seed of this training."""
        shared = schedule.model_dump(include=set(Schedule.model_fields))
        return SeededSchedule.model_validate({**shared, "seed": self.config.seed})

    def frame(self, sampler: Step) -> Frame:
        """What all masks have in common."""
        config, drawer = self.config, persistence.load(sampler.folder / "sampler")
        return common_frame(self.data.scans, drawer, config.positions, config.acceleration)

    def random_masks(self, sampler: Step, uncertainties: Step) -> tuple[MaskSource, ...]:
        """Half of the masks by density alone, half drawn from uncertainties as a bank's are."""
        config, found = self.config, load_uncertainties(uncertainties)
        frame = self.frame(sampler)
        informed = UncertaintyDraws(found.values[found.known], frame, config.masks.rule)
        by_density = [
            MaskSpec(
                kind=kind,
                acceleration=config.acceleration,
                center_fraction=config.center_fraction,
            )
            for kind in DENSITIES[config.positions]
        ]
        return (*by_density, informed, informed)

    def _emphasis(self, masks: Step, index: int) -> Emphasis | None:
        share = self.config.pairs.emphasis
        if not share:
            return None
        labels = read_weights(masks.folder / "labels.safetensors")["labels"]
        slices = training_slices(self.data.training, None, 0)
        own = torch.nonzero(labels == index).flatten().tolist()
        return Emphasis(tuple(slices[each] for each in own), share)

    def _scored_by(self, surrogate: Step | None) -> tuple[Step, ...]:
        """What the refinement of masks needs."""
        used = isinstance(self.config.refinement, SurrogateRefinement)
        return (surrogate,) if used and surrogate is not None else ()

    def _save_masks(
        self,
        result: Path,
        bank: MaskBank,
        labels: Tensor,
        found: UncertaintyMap,
        surrogate: Step | None,
    ) -> None:
        refinement = self.config.refinement
        if refinement is not None:
            scorers = self._scorers(bank, found, surrogate)
            bank = banks.refine(bank, labels, scorers, refinement, self.config.masks.rules)
        banks.save(bank, result / "masks")
        save_file({"labels": labels.contiguous()}, result / "labels.safetensors")

    def _scorers(self, bank: MaskBank, found: UncertaintyMap, surrogate: Step | None) -> Any:
        """Makes the scorer of a cluster from the indices of its slices."""
        refinement = self.config.refinement
        if not isinstance(refinement, SurrogateRefinement) or surrogate is None:
            return lambda members: CapturedVariance(found.values[members])
        network = checkpoint.load(surrogate.folder / "network").to(self.device)
        slices = training_slices(self.data.training, None, 0)

        def scorer(members: Tensor) -> Scorer:
            order = torch.randperm(
                len(members), generator=torch.Generator().manual_seed(self.config.seed)
            )
            some = members[order[: refinement.slices]].sort().values.tolist()
            return ReconstructionScore.of(
                network,
                [slices[index] for index in some],
                bank.masks[0],
                batch_size=self.config.pairs.batch_size,
                device=self.device,
            )

        return scorer


def _begin_width(
    first: WidthNetwork,
    networks: Mapping[Mask, Network],
    settings: SeededSchedule,
    quantile: float,
) -> Any:
    from adaptmr.reconstruction.training import width_module

    return width_module.WidthTraining(first, networks, settings, quantile)


def load_uncertainties(step: Step) -> UncertaintyMap:
    """The uncertainties of a step."""
    return UncertaintyMap(**read_weights(step.folder / "uncertainties.safetensors"))


def load_masks(step: Step) -> MaskBank:
    """The masks of a step."""
    return banks.load(step.folder / "masks")


def load_losses(step: Step) -> Tensor:
    """(slices, J) losses of a step."""
    return read_weights(step.folder / "losses.safetensors")["losses"]


def plain(model: BaseModel | None) -> Any:
    """What a key holds of a configuration."""
    return None if model is None else model.model_dump(mode="json", exclude=_FREE)
