"""The rows of one seed: every way to choose a mask, with the metrics of every test slice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from adaptmr.reconstruction.learned.diagnostics import adaptivity, collapsed
from adaptmr.reconstruction.learned.loupe import Loupe, LoupeConfig
from adaptmr.sampling import loss_aware
from adaptmr.sampling.bank import MaskBank
from adaptmr.sampling.features import features
from adaptmr.sampling.generators import MaskSpec
from adaptmr.sampling.loss_aware import LossAware
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.protocol_prior import ProtocolPrior, slice_positions
from adaptmr.sampling.selection import Adaptation, decide
from adaptmr.sampling.selector import Selector, required_uncertainty
from adaptmr.sampling.selectors import SelectorName, selector
from adaptmr.sampling.sources import FixedMask
from adaptmr.workflows.bank_training.config import LearnedSelector
from adaptmr.workflows.bank_training.course import DENSITIES, Pairs, load_masks
from adaptmr.workflows.bank_training.run import train_pairs
from adaptmr.workflows.bank_training.steps import Step
from adaptmr.workflows.benchmark.config import Baseline
from adaptmr.workflows.benchmark.examined import METRICS, Examined
from adaptmr.workflows.benchmark.masks import equispaced, of_others
from adaptmr.workflows.benchmark.trial import Trial

SELECTORS = (
    SelectorName.NEAREST,
    SelectorName.COSINE,
    SelectorName.CORRELATION,
    SelectorName.CAPTURED,
    LearnedSelector.LOSS_AWARE,
    LearnedSelector.PRIOR,
)
"""Selectors that are compared."""
EXAMPLES = 3
"""Masks shown of a method that has one for each slice."""


class Kind(StrEnum):
    """What a row is."""

    BASELINE = "baseline"
    PAIR = "pair"
    FIXED = "fixed"
    SELECTOR = "selector"
    ORACLE = "oracle"
    CONTROL = "seed control"
    PER_SCAN = "per scan"


@dataclass(frozen=True, eq=False)
class Method:
    """One way to choose masks, on the test slices of one seed.

    Attributes:
        name: what it is called; unique together with ``count``.
        kind: what it is.
        count: J; None where there is no bank.
        metrics: (slices, 3) as `METRICS`.
        acceleration: measured, mean over slices.
        chosen: (slices,) the pair of each slice, where one is chosen.
        examples: its one mask, or a few of those that each slice has.
    """

    name: str
    kind: Kind
    count: int | None
    metrics: Tensor
    acceleration: float
    chosen: Tensor | None = None
    examples: tuple[Mask, ...] = ()


@dataclass(frozen=True, eq=False)
class Bank:
    """Pairs of one J, best on the selection subjects first.

    Attributes:
        masks: the masks; the fixed best is the first.
        pairs: as they were trained, in an order of their own.
        order: (J,) which of ``pairs`` each mask is.
        selection: (slices, J, 3) metrics on the selection subjects.
        test: (slices, J, 3) metrics on the test subjects.
    """

    masks: MaskBank
    pairs: Pairs
    order: tuple[int, ...]
    selection: Tensor
    test: Tensor


@dataclass(frozen=True)
class PolicyFound:
    """Whether the learned policy is adaptive at all.

    Attributes:
        seed: of the training.
        adaptivity: one minus the mean overlap of two slices' masks.
        collapsed: whether they differ by less than a position on average.
        distinct: different masks.
    """

    seed: int
    adaptivity: float
    collapsed: bool
    distinct: int


def trained_bank(trial: Trial, count: int) -> Bank:
    """Train the pairs of one J, and measure them."""
    pairs = train_pairs(trial.of(count), trial.sampler, trial.uncertainties)
    masks = load_masks(pairs.masks)
    both = [
        torch.stack(
            [
                trial.table(examined, network, mask)
                for network, mask in zip(pairs.networks, masks.masks, strict=True)
            ],
            1,
        )
        for examined in (trial.selection, trial.test)
    ]
    order = _ranked(trial, both[0])
    selection, test = (table[:, list(order)] for table in both)
    ordered = replace(masks.permuted(order), best=0)
    return Bank(ordered, pairs, order, selection, test)


def of_bank(trial: Trial, bank: Bank) -> Iterator[Method]:
    """All rows of one J above 1."""
    count, acceleration = len(bank.masks), _acceleration(bank.masks.masks)
    for index, mask in enumerate(bank.masks.masks):
        metrics = bank.test[:, index]
        name = f"pair {index + 1}"
        yield Method(name, Kind.PAIR, count, metrics, mask.acceleration, examples=(mask,))
    best = bank.masks.masks[0].acceleration
    yield Method("best single", Kind.FIXED, count, bank.test[:, 0], best)
    yield Method("uniform pick", Kind.FIXED, count, bank.test.mean(1), acceleration)
    for name in SELECTORS:
        rule = fitted(trial, bank, name)
        yield _chosen(rule.name, Kind.SELECTOR, bank, choices(trial, bank.masks, rule))
    oracle = _quality(trial, bank.test).argmax(1)
    yield _chosen("oracle", Kind.ORACLE, bank, oracle)


def fitted(trial: Trial, bank: Bank, name: SelectorName | LearnedSelector) -> Selector:
    """The selector of that name, fitted on the selection subjects where it learns."""
    if isinstance(name, SelectorName):
        return selector(name)
    examined, losses = trial.selection, -_quality(trial, bank.selection)
    if name is LearnedSelector.PRIOR:
        headers = [scan.header for scan, _ in examined.slices]
        positions = [slice_positions(scan.slices)[index] for scan, index in examined.slices]
        return ProtocolPrior.fit(headers, torch.stack(positions), losses)
    described = [
        features(one.low_frequency, required_uncertainty(one)) for one in trial.selection_evidence
    ]
    return loss_aware.fit(
        torch.cat(described)[examined.kept], losses, examined.subjects, bank.masks
    )


def label(name: SelectorName | LearnedSelector) -> str:
    """The row of a selector."""
    learned = {
        LearnedSelector.LOSS_AWARE: LossAware.name,
        LearnedSelector.PRIOR: ProtocolPrior.name,
    }
    fixed = {SelectorName.FIXED: "best single", SelectorName.UNIFORM: "uniform pick"}
    if isinstance(name, LearnedSelector):
        return learned[name]
    return fixed.get(name) or selector(name).name


def choices(trial: Trial, masks: MaskBank, rule: Selector) -> Tensor:
    """(slices,) the mask of each test slice, decided as `adaptmr select` does."""
    adaptation = Adaptation(masks, rule)
    chosen = [
        decision.index
        for evidence in trial.test_evidence
        for decision in decide(evidence, adaptation)
    ]
    return torch.tensor(chosen)[trial.test.kept]


def baselines(trial: Trial, bank: Bank) -> tuple[list[Method], PolicyFound | None]:
    """The rows without a bank of several masks.

    Args:
        trial: the seed.
        bank: that of J = 1.
    """
    mask = bank.masks.masks[0]
    methods = [
        Method("J = 1", Kind.BASELINE, 1, bank.test[:, 0], mask.acceleration, examples=(mask,))
    ]
    policy = None
    for row in trial.config.baselines:
        if row in (Baseline.RANDOM, Baseline.VARIABLE_DENSITY, Baseline.EQUISPACED):
            methods.append(_by_rule(trial, row))
        elif row is Baseline.LOUPE:
            step = trial.learned(LoupeConfig())
            learner = trial.load_learned(step).learner
            assert isinstance(learner, Loupe)  # noqa: S101 - as asked for
            methods.append(_one_mask(trial, row.value, step, learner.mask()))
        elif row is Baseline.POLICY:
            method, policy = _policy(trial)
            methods.append(method)
    if Baseline.PER_SCAN in trial.config.baselines:
        methods += _per_scan(trial)
    return methods, policy


def seed_controls(trial: Trial, bank: Bank) -> Iterator[Method]:
    """What the oracle and the best single of J networks do that differ by their seed alone.

    Args:
        trial: the seed.
        bank: that of J = 1, whose mask all of them have.
    """
    mask = bank.masks.masks[0]
    steps = [
        trial.network("control", FixedMask(mask), further)
        for further in range(1, max(trial.config.counts))
    ]

    def tables(examined: Examined, own: Tensor) -> Tensor:
        return torch.stack([own, *(trial.table(examined, step, mask) for step in steps)], 1)

    selection = tables(trial.selection, bank.selection[:, 0])
    test = tables(trial.test, bank.test[:, 0])
    for count in trial.config.counts[1:]:
        best = _ranked(trial, selection[:, :count])[0]
        oracle = _quality(trial, test[:, :count]).argmax(1)
        picked = test[torch.arange(len(test)), oracle]
        acceleration = mask.acceleration
        yield Method("best of seeds", Kind.CONTROL, count, test[:, best], acceleration)
        yield Method("oracle of seeds", Kind.CONTROL, count, picked, acceleration)


def variable_density(trial: Trial) -> Mask:
    """The one mask of variable density."""
    return _spec(trial, Baseline.VARIABLE_DENSITY).make(
        trial.test.scans[0].matrix, trial.seed, _padding(trial)
    )


def _by_rule(trial: Trial, row: Baseline) -> Method:
    if row is Baseline.EQUISPACED:
        mask = equispaced(trial.frame, trial.seed)
    elif row is Baseline.VARIABLE_DENSITY:
        mask = variable_density(trial)
    else:
        spec = _spec(trial, row)
        step = trial.network(row.value, spec)
        masks = [spec.make(scan.matrix, scan.name, scan.padding) for scan, _ in trial.test.slices]
        return _each(row.value, Kind.BASELINE, trial, step, masks)
    return _one_mask(trial, row.value, trial.network(row.value, FixedMask(mask)), mask)


def _policy(trial: Trial) -> tuple[Method, PolicyFound]:
    step = trial.learned(trial.config.policy)
    learned, device = trial.load_learned(step), trial.course.device
    masks: list[Mask] = []
    with torch.inference_mode():
        for scan, index in trial.test.slices:
            masks += learned.masks(scan.kspace[index][None].to(device))
    found = PolicyFound(trial.seed, adaptivity(masks), collapsed(masks), len(set(masks)))
    return _each(Baseline.POLICY.value, Kind.BASELINE, trial, step, masks), found


def _per_scan(trial: Trial) -> Iterator[Method]:
    """Own masks, those of others and the mean one, by the surrogate as it is and trained on."""
    if trial.surrogate is None:
        return
    own = trial.own_masks(trial.test)
    others = of_others(own, trial.test.subjects, trial.seed)
    mean = [trial.mask_of(trial.mean_uncertainty)] * len(own)
    further = trial.surrogate_trained_further()
    for what, step in (("surrogate", trial.surrogate), ("surrogate trained further", further)):
        for whose, masks in (("own", own), ("another's", others), ("mean", mean)):
            yield _each(f"{whose} mask, {what}", Kind.PER_SCAN, trial, step, masks)


def _one_mask(trial: Trial, name: str, step: Step, mask: Mask) -> Method:
    metrics = trial.table(trial.test, step, mask)
    return Method(name, Kind.BASELINE, None, metrics, mask.acceleration, examples=(mask,))


def _each(name: str, kind: Kind, trial: Trial, step: Step, masks: Sequence[Mask]) -> Method:
    metrics = trial.table(trial.test, step, masks)
    some = tuple(dict.fromkeys(masks))[:EXAMPLES]
    return Method(name, kind, None, metrics, _acceleration(masks), examples=some)


def _chosen(name: str, kind: Kind, bank: Bank, chosen: Tensor) -> Method:
    metrics = bank.test[torch.arange(len(chosen)), chosen]
    masks = [bank.masks.masks[index] for index in chosen.tolist()]
    return Method(name, kind, len(bank.masks), metrics, _acceleration(masks), chosen)


def _quality(trial: Trial, table: Tensor) -> Tensor:
    """The column that is decided by; larger is better."""
    return table[..., METRICS.index(trial.config.metric)]


def _ranked(trial: Trial, table: Tensor) -> tuple[int, ...]:
    """Pairs by their mean over slices (slices, J, 3), best first."""
    means = _quality(trial, table).mean(0)
    return tuple(torch.argsort(means, descending=True, stable=True).tolist())


def _acceleration(masks: Sequence[Mask]) -> float:
    return float(np.mean([mask.acceleration for mask in masks]))


def _spec(trial: Trial, row: Baseline) -> MaskSpec:
    config = trial.course.config
    density, uniform = DENSITIES[config.positions]
    return MaskSpec(
        kind=uniform if row is Baseline.RANDOM else density,
        acceleration=config.acceleration,
        center_fraction=config.center_fraction,
    )


def _padding(trial: Trial) -> tuple[int, int]:
    columns = np.flatnonzero(trial.frame.encoded.any(tuple(range(trial.frame.axes - 1))))
    return int(columns[0]), int(columns[-1]) + 1
