"""A bank beside what does without: every method on the same slices at the same acceleration."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from adaptmr.data.scan import Scan
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.inference import BankReconstruction, reconstruct
from adaptmr.reconstruction.bank.judgement import judge_scan
from adaptmr.reconstruction.calibration.diagnostics import JudgedSlice
from adaptmr.reconstruction.methods import Method, reconstructor
from adaptmr.reconstruction.statistics import paired_bootstrap
from adaptmr.sampling.bank import MaskBank
from adaptmr.sampling.generators import MaskKind, MaskSpec
from adaptmr.sampling.mask import Mask
from adaptmr.workflows.bank_training.steps import Step
from adaptmr.workflows.benchmark.examined import METRICS, Examined, measure
from adaptmr.workflows.demo.part import CLASSICAL
from adaptmr.workflows.progress import track
from adaptmr.workflows.reconstruction import mask_of
from adaptmr.workflows.report import Measured

UNIFORM, BEST, CHOICE, ORACLE = "uniform pick", "best single pair", "the bank's choice", "oracle"
"""Ways to use the pairs of a bank."""
DENSITY: Final = "variable density"
_SSIM: Final = METRICS.index("ssim")
_BOOTSTRAP_SEED: Final = 0


@dataclass(frozen=True, eq=False)
class Compared:
    """One method on all slices.

    Attributes:
        name: of the method.
        masks: where its masks come from.
        group: what it is compared within.
        acceleration: measured, mean over the slices.
        metrics: (slices, 3) float64, columns as `METRICS`.
    """

    name: str
    masks: str
    group: str
    acceleration: float
    metrics: Tensor


@dataclass(frozen=True, eq=False)
class Comparison:
    """All methods on the same slices.

    Attributes:
        bank: the bank.
        examined: the slices.
        results: the scans as the bank reconstructs them, computed as they are read.
        judged: slices whose intervals were held against the target.
        pairs: (slices, J, 3) metrics of every pair on every slice.
        chosen: (slices,) the pair that the bank chose.
        classical: methods without a network.
    """

    bank: ReconstructionBank
    examined: Examined
    results: tuple[BankReconstruction, ...]
    judged: tuple[JudgedSlice, ...]
    pairs: Tensor
    chosen: Tensor
    classical: tuple[Compared, ...]

    @property
    def best(self) -> Tensor:
        """(slices,) the pair that turned out best by SSIM."""
        return self.pairs[..., _SSIM].argmax(1)

    @cached_property
    def methods(self) -> tuple[Compared, ...]:
        """The classical methods, then the ways to use the pairs."""
        masks, fixed = self.bank.masks, self.bank.masks.best
        acceleration = masks.masks[0].acceleration  # of all of them
        each = torch.arange(len(self.pairs))
        of_bank = (
            (UNIFORM, "all alike", "the bank", self.pairs.mean(1)),
            (BEST, f"mask {fixed}", "the bank", self.pairs[:, fixed]),
            (CHOICE, "chosen", "the bank", self.pairs[each, self.chosen]),
            (ORACLE, "in hindsight", "limit", self.pairs[each, self.best]),
        )
        return self.classical + tuple(
            Compared(name, origin, group, acceleration, metrics)
            for name, origin, group, metrics in of_bank
        )

    def method(self, name: str) -> Compared:
        """The way of that name to use the pairs."""
        return next(one for one in self.methods if one.name == name)

    @property
    def best_classical(self) -> Compared:
        """The classical method of the highest SSIM among those that know nothing of the bank."""
        alone = [one for one in self.classical if one.masks == DENSITY]
        return max(alone, key=lambda one: float(one.metrics[:, _SSIM].mean()))

    def ssim(self, name: str) -> Measured | float:
        """Mean SSIM of a way to use the pairs."""
        return self.estimated(self.method(name))

    def estimated(self, method: Compared, reference: Compared | None = None) -> Measured | float:
        """Mean SSIM of a method, over that of a reference where one is given.

        The interval is of 95 % over subjects, paired by slice; fewer than two give none.
        """
        values = method.metrics[:, _SSIM].numpy()
        if reference is not None:
            values = values - reference.metrics[:, _SSIM].numpy()
        subjects = self.examined.subjects
        if len(set(subjects)) < 2:
            return float(values.mean())
        return Measured(*paired_bootstrap(values, subjects, seed=_BOOTSTRAP_SEED))


def compare(bank: ReconstructionBank, scans: Sequence[Scan]) -> Comparison:
    """Let a bank choose and reconstruct, and every other method do the same slices.

    Args:
        bank: the bank.
        scans: fully sampled, with targets, of the bank's matrix; no two of one name.

    Raises:
        BadInputError: a scan does not fit the bank, or has no slice with signal.
    """
    examined = Examined(tuple(scans), Step("scans", "", Path()))
    results: list[BankReconstruction] = []
    judged: list[JudgedSlice] = []
    chosen: list[int] = []
    for scan in track(scans, "choosing, reconstructing"):
        result = reconstruct(bank, scan)
        results.append(result)
        judged += judge_scan(bank, scan, result)
        pairs = [decision.index for decision in result.decisions]
        chosen += pairs if len(pairs) == scan.slices else pairs * scan.slices
    choice = torch.tensor(chosen)[examined.kept]
    tables = [
        measure(network, [mask] * len(choice), examined)
        for network, mask in track(
            list(zip(bank.networks, bank.masks.masks, strict=True)), "reconstructing by each pair"
        )
    ]
    spec = _density(bank.masks)
    by_density = [mask_of(scan, spec) for scan, _ in examined.slices]
    by_choice = [bank.masks.masks[index] for index in choice.tolist()]
    work = [(method, DENSITY, by_density) for method in CLASSICAL]
    work.append((Method.WAVELET, "chosen", by_choice))
    classical = tuple(
        Compared(
            method.value,
            origin,
            "classical",
            _acceleration(masks),
            measure(reconstructor(method), masks, examined),
        )
        for method, origin, masks in track(work, "reconstructing by classical methods")
    )
    stacked = torch.stack(tables, 1)
    return Comparison(bank, examined, tuple(results), tuple(judged), stacked, choice, classical)


def _density(masks: MaskBank) -> MaskSpec:
    """Masks of variable density with the block and the budget of a bank's."""
    return MaskSpec(
        kind=MaskKind.VARIABLE_DENSITY_1D if masks.axes == 1 else MaskKind.VARIABLE_DENSITY_2D,
        acceleration=masks.masks[0].acceleration,
        center_fraction=masks.block[1] / masks.matrix[1],
    )


def _acceleration(masks: Sequence[Mask]) -> float:
    return float(np.mean([mask.acceleration for mask in masks]))
