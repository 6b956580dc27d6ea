"""Seconds per slice of each way to choose a mask, one slice at a time, reconstruction included."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Final

import torch
from torch import Tensor

from adaptmr.reconstruction.training.data import Slice
from adaptmr.sampling.low_frequency import acquire
from adaptmr.sampling.protocol_prior import slice_positions
from adaptmr.sampling.selection import Adaptation, decide, measure, with_uncertainty
from adaptmr.sampling.selector import Evidence
from adaptmr.workflows.benchmark.config import Baseline
from adaptmr.workflows.benchmark.methods import SELECTORS, Bank, fitted
from adaptmr.workflows.benchmark.trial import Trial

_SLICES: Final = 8
"""Largest number of slices that are timed."""
FIXED: Final = "any fixed mask"
OWN: Final = "own mask"


def latencies(trial: Trial, bank: Bank) -> Mapping[str, float]:
    """Median seconds per slice, by method: choice and reconstruction.

    Args:
        trial: the seed.
        bank: that of the J of the verdict.
    """
    some = trial.test.slices[:_SLICES]
    network = trial.load(bank.pairs.networks[bank.order[0]])
    mask = bank.masks.masks[0]

    def reconstruct(one: Slice) -> None:
        with torch.inference_mode():
            network(_kspace(trial, one), mask).cpu()

    plain = _median(reconstruct, some)
    found = {FIXED: plain}
    for name in SELECTORS:
        rule = fitted(trial, bank, name)
        adaptation = Adaptation(
            bank.masks, rule, trial.drawer, None, trial.course.config.uncertainty
        )
        found[rule.name] = plain + _median(_deciding(trial, adaptation), some)
    if Baseline.PER_SCAN in trial.config.baselines:
        found[OWN] = plain + _median(_drawing(trial), some)
    if Baseline.POLICY in trial.config.baselines:
        learned = trial.load_learned(trial.learned(trial.config.policy))

        def choose(one: Slice) -> None:
            with torch.inference_mode():
                learned.masks(_kspace(trial, one))

        found[Baseline.POLICY] = plain + _median(choose, some)
    return found


def _deciding(trial: Trial, adaptation: Adaptation) -> Callable[[Slice], None]:
    def work(one: Slice) -> None:
        scan, index = one
        evidence = Evidence(
            acquire(_kspace(trial, one), adaptation.bank.block),
            header=scan.header,
            positions=slice_positions(scan.slices)[index : index + 1],
        )
        decide(with_uncertainty(evidence, adaptation), adaptation)

    return work


def _drawing(trial: Trial) -> Callable[[Slice], None]:
    block = (int(trial.drawer.block[0]), int(trial.drawer.block[1]))

    def work(one: Slice) -> None:
        low_frequency = acquire(_kspace(trial, one), block)
        found = measure(trial.drawer, low_frequency, trial.course.config.uncertainty)
        trial.mask_of(found.values[0].cpu())

    return work


def _kspace(trial: Trial, one: Slice) -> Tensor:
    scan, index = one
    return scan.kspace[index][None].to(trial.course.device)


def _median(work: Callable[[Slice], None], slices: tuple[Slice, ...]) -> float:
    work(slices[0])  # what is slow only once
    seconds = []
    for one in slices:
        begun = time.perf_counter()
        work(one)
        seconds.append(time.perf_counter() - begun)
    return median(seconds)
