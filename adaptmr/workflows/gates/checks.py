"""The checks of quality: each gives one `Check` per task, metric and stratum."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from adaptmr.workflows.gates.comparison import (
    Paired,
    by_subject,
    find,
    holm,
    numbers,
    oriented,
    paired,
    strata,
    worst_decile,
)
from adaptmr.workflows.gates.config import GateConfig, Verdict
from adaptmr.workflows.gates.evidence import CaseValue, Evidence, Intervals, Measurement
from adaptmr.workflows.gates.result import ALL, Check, Gate


def floors(config: GateConfig, candidate: Evidence) -> Iterator[Check]:
    """The mean of each stratum against the absolute floor."""
    for one in _gated(config, candidate):
        floor = config.metrics[one.metric].floor
        if floor is None:
            continue
        for stratum in strata(one.values):
            subjects, values = numbers(one.values, stratum)
            if not values:
                continue
            mean = float(by_subject(subjects, values).mean())
            spare = oriented(mean - floor, one.better)
            yield Check(
                gate=Gate.FLOOR,
                verdict=_passes(spare >= 0),
                task=one.task,
                metric=one.metric,
                stratum=stratum,
                subjects=len(set(subjects)),
                value=mean,
                limit=floor,
                spare=spare,
                reason=f"mean {mean:.4g}, floor {floor:.4g}",
            )


def non_inferiority(config: GateConfig, candidate: Evidence, champion: Evidence) -> Iterator[Check]:
    """Whether the candidate is shown to be no worse than the champion by more than the margin.

    One-sided bounds of the paired difference over subjects; Holm over tasks and metrics within each
    stratum. Too few subjects show nothing.
    """
    every = {label for one in _gated(config, candidate) for label in strata(one.values)}
    for stratum in sorted(every, key=lambda label: (label != ALL, label)):
        pairs = _pairs(config, candidate, champion, stratum)
        enough = [pair for pair in pairs if pair.count >= config.minimum_subjects]
        margins = [config.metrics[pair.metric].margin for pair in enough]
        bounds = [partial(pair.bound, config=config) for pair in enough]
        tested = holm(bounds, [-margin for margin in margins], config.level)
        for pair, margin, one in zip(enough, margins, tested, strict=True):
            yield _told(
                Gate.NON_INFERIORITY, pair, stratum, one.bound, -margin, one.level, one.shown
            )
        yield from (_too_few(config, pair, stratum) for pair in pairs if pair not in enough)


def benefit(config: GateConfig, candidate: Evidence, champion: Evidence) -> Iterator[Check]:
    """Whether the candidate is shown to be better in the tasks that it is for."""
    for pair in _pairs(config, candidate, champion, ALL):
        if pair.task not in config.improves:
            continue
        if pair.count < config.minimum_subjects:
            yield _too_few(config, pair, ALL, Gate.BENEFIT)
            continue
        bound = pair.bound(config.level, config)
        yield _told(Gate.BENEFIT, pair, ALL, bound, 0.0, config.level, bound > 0)


def worst_deciles(config: GateConfig, candidate: Evidence, champion: Evidence) -> Iterator[Check]:
    """The mean over the worst tenth of the subjects against the champion's worst tenth."""
    for pair in _pairs(config, candidate, champion, ALL):
        margin = config.metrics[pair.metric].worst_decile
        if margin is None or not pair.count:
            continue
        own, other = (
            worst_decile(by_subject(pair.subjects, values.tolist()))
            for values in (pair.candidate, pair.champion)
        )
        difference = own - other
        yield Check(
            gate=Gate.WORST_DECILE,
            verdict=_passes(difference >= -margin),
            task=pair.task,
            metric=pair.metric,
            stratum=ALL,
            subjects=pair.count,
            value=difference,
            limit=-margin,
            spare=difference + margin,
            reason=f"worst tenth {difference:+.4g} against the champion's, at least {-margin:.4g}",
        )


def forgetting(
    config: GateConfig, candidate: Evidence, history: Sequence[Evidence]
) -> Iterator[Check]:
    """Each task against the earlier champion that was best at it, on the cases that both saw."""
    for one in _gated(config, candidate):
        limit = config.metrics[one.metric].forgetting
        if limit is None:
            continue
        known = (find(old.measurements, one.task, one.metric) for old in history)
        earlier = [
            paired(one, old, ALL)
            for old in known
            if old is not None and old.protocol == one.protocol
        ]
        losses = [pair for pair in earlier if pair.count]
        if not losses:
            continue
        worst = min(losses, key=lambda pair: pair.gain)
        if worst.count < config.minimum_subjects:
            yield _too_few(config, worst, ALL, Gate.FORGETTING)
            continue
        yield Check(
            gate=Gate.FORGETTING,
            verdict=_passes(-worst.gain <= limit),
            task=one.task,
            metric=one.metric,
            stratum=ALL,
            subjects=worst.count,
            value=-worst.gain,
            limit=limit,
            spare=limit + worst.gain,
            reason=f"{-worst.gain:+.4g} below the best of {len(losses)} earlier champions, at most"
            f" {limit:.4g}",
        )


def residuals(config: GateConfig, candidate: Evidence, champion: Evidence) -> Iterator[Check]:
    """Whether the images contradict the measured k-space more than the champion's do."""
    increase = config.residual_increase
    if increase is None:
        return
    for one in candidate.residuals:
        old = find(champion.residuals, one.task, one.metric)
        pair = None if old is None else paired(one, old, ALL)
        if pair is None or pair.count < config.minimum_subjects:
            yield _nothing(config, Gate.RESIDUAL, one.task, 0 if pair is None else pair.count)
            continue
        margin = increase * float(np.abs(pair.champion).mean())
        bound = pair.bound(config.level, config)
        yield _told(Gate.RESIDUAL, pair, ALL, bound, -margin, config.level, bound > -margin)


def intervals(
    config: GateConfig, candidate: Evidence, champion: Evidence | None
) -> Iterator[Check]:
    """Coverage of each stratum against what is promised, and width against the champion's."""
    rule = config.coverage
    if rule is None:
        return
    if not candidate.intervals:
        had = champion is not None and bool(champion.intervals)
        yield Check(
            gate=Gate.COVERAGE,
            verdict=Verdict.FAIL if had else config.too_few,
            reason="the bank gives no intervals" + (", the champion does" if had else ""),
        )
    for one in candidate.intervals:
        for stratum in strata(one.coverage):
            subjects, values = numbers(one.coverage, stratum)
            count = len(set(subjects))
            if count < config.minimum_subjects:
                yield _nothing(config, Gate.COVERAGE, one.task, count, stratum)
                continue
            share = float(by_subject(subjects, values).mean())
            off = abs(share - one.nominal)
            yield Check(
                gate=Gate.COVERAGE,
                verdict=_passes(off <= rule.tolerance),
                task=one.task,
                stratum=stratum,
                subjects=count,
                value=share,
                limit=one.nominal,
                spare=rule.tolerance - off,
                reason=f"{share:.1%} of the pixels covered, {one.nominal:.0%} promised, within"
                f" {rule.tolerance:.1%}",
            )
        old = champion and next((i for i in champion.intervals if i.task == one.task), None)
        if old:
            yield from _width(one, old, rule.wider)


def _width(one: Intervals, old: Intervals, wider: float) -> Iterator[Check]:
    own, other = (float(np.mean(_means(each.width))) for each in (one, old))
    if not (np.isfinite(own) and np.isfinite(other)):
        return
    limit = other * (1 + wider)
    yield Check(
        gate=Gate.WIDTH,
        verdict=_passes(own <= limit),
        task=one.task,
        stratum=ALL,
        subjects=len({each.subject for each in one.width}),
        value=own,
        limit=limit,
        spare=limit - own,
        reason=f"intervals {own:.3g} of the mean signal wide, the champion's {other:.3g}",
    )


def latency(config: GateConfig, candidate: Evidence) -> Iterator[Check]:
    """The time that a slice takes."""
    if config.latency is None:
        return
    took, limit = candidate.seconds_per_slice, config.latency.seconds_per_slice
    if took is None:
        reason = "the time of a slice was not measured"
        yield Check(gate=Gate.LATENCY, verdict=config.too_few, limit=limit, reason=reason)
        return
    yield Check(
        gate=Gate.LATENCY,
        verdict=_passes(took <= limit),
        value=took,
        limit=limit,
        spare=limit - took,
        reason=f"{took:.3g} s for a slice, at most {limit:.3g} s",
    )


def _gated(config: GateConfig, evidence: Evidence) -> Iterator[Measurement]:
    return (one for one in evidence.measurements if one.metric in config.metrics)


def _pairs(
    config: GateConfig, candidate: Evidence, champion: Evidence, stratum: str
) -> list[Paired]:
    """The measurements that both have, on the cases of a stratum; without those of no case."""
    found = [
        paired(one, old, stratum)
        for one in _gated(config, candidate)
        if (old := find(champion.measurements, one.task, one.metric)) is not None
    ]
    return [pair for pair in found if pair.count]


def _means(values: Sequence[CaseValue]) -> list[float]:
    subjects, known = numbers(values, ALL)
    return by_subject(subjects, known).tolist() if known else [float("nan")]


def _passes(good: bool) -> Verdict:
    return Verdict.PASS if good else Verdict.FAIL


def _told(
    gate: Gate, pair: Paired, stratum: str, bound: float, limit: float, level: float, shown: bool
) -> Check:
    return Check(
        gate=gate,
        verdict=_passes(shown),
        task=pair.task,
        metric=pair.metric,
        stratum=stratum,
        subjects=pair.count,
        value=bound,
        limit=limit,
        spare=bound - limit,
        reason=f"gain {pair.gain:+.4g}, at least {bound:+.4g} at {level:.2%}, has to exceed"
        f" {limit:+.4g}",
    )


def _too_few(
    config: GateConfig, pair: Paired, stratum: str, gate: Gate = Gate.NON_INFERIORITY
) -> Check:
    few = _nothing(config, gate, pair.task, pair.count, stratum)
    return few.model_copy(update={"metric": pair.metric})


def _nothing(config: GateConfig, gate: Gate, task: str, subjects: int, stratum: str = ALL) -> Check:
    return Check(
        gate=gate,
        verdict=config.too_few,
        task=task,
        stratum=stratum,
        subjects=subjects,
        reason=f"{subjects} subjects show nothing, at least {config.minimum_subjects} are needed",
    )
