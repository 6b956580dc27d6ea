"""From low-frequency data to a decision: sampled, compared, chosen, recorded.

A slice that cannot be judged gets the bank's fixed best mask, and its record says so and why:

* it has no signal, or its samples are equal, not finite or beyond all plausibility;
* its scan has a coil count that the bank was not made from;
* the selector has no score for it.

What fits no mask of the bank, a scan of another matrix, block or padding, is an error.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import repeat
from typing import Final

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from adaptmr.data.scan import Scan
from adaptmr.errors import BadInputError, UsageError
from adaptmr.sampling.bank import BankConfig, MaskBank
from adaptmr.sampling.decision import Decision, versions
from adaptmr.sampling.flow import config as flow
from adaptmr.sampling.informed import DrawRule
from adaptmr.sampling.low_frequency import LowFrequency, acquire
from adaptmr.sampling.posterior import PosteriorSampler
from adaptmr.sampling.protocol_prior import slice_positions
from adaptmr.sampling.selector import (
    Captured,
    Evidence,
    NearestCentroid,
    Selector,
    Similarity,
    euclidean,
)
from adaptmr.sampling.selectors import SelectorName
from adaptmr.sampling.uncertainty import UncertaintyMap, sensitivity_maps, uncertainty


class UncertaintyConfig(BaseModel):
    """How the uncertainty of a slice is found. The defaults are those of Hong et al. (2024)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(default=10, ge=2)
    """Samples per slice."""
    seed: int = Field(default=0, ge=0)
    """Of the samples."""
    coils: bool = False
    """Whether the variance is that of the coils' k-space, with sensitivities from the block."""
    smoothing: float = Field(default=0.0, ge=0, le=10, allow_inf_nan=False)
    """Standard deviation, in positions, of the Gaussian that the variance is smoothed with."""
    redraws: int = Field(default=3, ge=0)
    """Further rounds in which samples that are not usable are drawn anew."""


class PresetName(StrEnum):
    """Which published method."""

    HONG2024 = "hong2024"


class Preset(BaseModel):
    """All settings of a published method, from sampler to choice; not those of its trainings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: flow.FlowConfig
    """Architecture, and the temperature that it samples at."""
    uncertainty: UncertaintyConfig
    bank: BankConfig
    selector: SelectorName


HONG2024: Final = Preset(
    sampler=flow.HONG2024,
    uncertainty=UncertaintyConfig(samples=10, seed=0, coils=False),
    bank=BankConfig(masks=3, seed=1, restarts=10, rule=DrawRule(seed=42)),
    selector=SelectorName.NEAREST,
)
"""Hong, Bae, Lee, Chun, "Adaptive Selection of Sampling-Reconstruction in Fourier Compressed
Sensing", ECCV 2024: S = 10, temperature 0.9, k-means++ with ten starts from seed 1, weighted draw
from seed 42, nearest centroid. The draw follows the published law, from a stream of our own."""

PRESETS: Final = {PresetName.HONG2024: HONG2024}
"""Presets by name."""


@dataclass(frozen=True, eq=False)
class Adaptation:
    """All that a choice takes: bank, selector, and a sampler where the selector needs one.

    Attributes:
        bank: the masks.
        selector: the rule.
        sampler: draws images; None for a selector that needs none.
        sampler_fingerprint: identity of the sampler, for the record of a choice that it was
            needed for.
        config: how the uncertainty is found.
    """

    bank: MaskBank
    selector: Selector
    sampler: PosteriorSampler | None = None
    sampler_fingerprint: str | None = None
    config: UncertaintyConfig = field(default_factory=UncertaintyConfig)


def measure(
    sampler: PosteriorSampler, low_frequency: LowFrequency, config: UncertaintyConfig
) -> UncertaintyMap:
    """The uncertainty of slices to be decided on; each starts the random stream anew.

    So a slice's uncertainty does not depend on the slices beside it.
    """
    streams = (_stream(low_frequency, config) for _ in range(low_frequency.batch))
    return _measured(sampler, low_frequency, config, streams)


def measure_training(
    sampler: PosteriorSampler, low_frequency: LowFrequency, config: UncertaintyConfig
) -> UncertaintyMap:
    """The uncertainty of slices to build a bank from; one random stream runs through them all.

    So the scatter of few samples is independent between slices, and averages out in centroids.
    """
    return _measured(sampler, low_frequency, config, repeat(_stream(low_frequency, config)))


def decide(
    evidence: Evidence, adaptation: Adaptation, *, first: int = 0, begun: float | None = None
) -> tuple[Decision, ...]:
    """Choose a mask for every slice of the evidence.

    Args:
        evidence: the slices, with their uncertainty where the selector needs it.
        adaptation: bank and selector.
        first: index of the first slice within its scan.
        begun: `time.perf_counter` when the low-frequency data came in; now when not given.

    Raises:
        BadInputError: the slices are of another matrix or block than the bank.
        UsageError: the selector needs what the evidence lacks.
    """
    begun = time.perf_counter() if begun is None else begun
    bank, selector = adaptation.bank, adaptation.selector
    check_fit(evidence.low_frequency, bank)
    scores = selector.scores(evidence, bank).double().cpu()
    if tuple(scores.shape) != (evidence.low_frequency.batch, len(bank)):
        raise BadInputError(
            "the selector gave no score per slice and mask",
            field="scores",
            got=tuple(scores.shape),
            expected=(evidence.low_frequency.batch, len(bank)),
        )
    found = evidence.uncertainty
    reasons = _reasons(evidence, adaptation, scores)
    elapsed = 1000 * (time.perf_counter() - begun)
    # The choice is made; what follows is for the record.
    distances, others = _compared(evidence, bank)
    decisions = []
    for index, reason in enumerate(reasons):
        chosen = bank.best if reason else int(scores[index].argmax())
        decisions.append(
            Decision(
                slice_index=first + index,
                index=chosen,
                selector=selector.name,
                scores=tuple(
                    float(score) if bool(torch.isfinite(score)) else None for score in scores[index]
                ),
                distances=distances[index],
                others=others[index],
                fallback=reason is not None,
                reason=reason,
                samples=None if found is None else int(found.usable[index]),
                rejected=None if found is None else int(found.rejected[index]),
                inputs=evidence.low_frequency.fingerprints[index],
                bank=bank.fingerprint,
                mask=bank.masks[chosen].fingerprint,
                sampler=adaptation.sampler_fingerprint if selector.needs_uncertainty else None,
                versions=versions(),
                latency_ms=elapsed,
            )
        )
    return tuple(decisions)


def select(
    scan: Scan, adaptation: Adaptation, losses: Tensor | None = None
) -> tuple[Decision, ...]:
    """Choose a mask for every slice of a scan, from its low-frequency block alone.

    Args:
        scan: the scan; it may hold no more than the block.
        adaptation: bank, selector and sampler.
        losses: (slices, J) true losses, for the oracle only.

    Raises:
        BadInputError: the scan is of another matrix than the bank, lacks the block, or pads columns
            that the bank's masks acquire.
        UsageError: the selector needs a sampler and there is none.
    """
    bank = adaptation.bank
    check_scan(scan, bank)
    positions = slice_positions(scan.slices)
    decisions: list[Decision] = []
    for index in range(scan.slices):
        kspace = scan.kspace[index : index + 1]
        begun = time.perf_counter()
        evidence = Evidence(
            acquire(kspace, bank.block),
            header=scan.header,
            positions=positions[index : index + 1],
            losses=None if losses is None else losses[index : index + 1],
        )
        decisions += decide(
            with_uncertainty(evidence, adaptation), adaptation, first=index, begun=begun
        )
    return tuple(decisions)


def with_uncertainty(evidence: Evidence, adaptation: Adaptation) -> Evidence:
    """The evidence with the uncertainty that the selector needs.

    Raises:
        UsageError: the selector needs a sampler and there is none.
    """
    if not adaptation.selector.needs_uncertainty:
        return evidence
    if adaptation.sampler is None:
        raise UsageError(
            "this selector needs a sampler",
            field="sampler",
            got="none",
            expected=f"one, for the selector {adaptation.selector.name}",
        )
    check_fit(evidence.low_frequency, adaptation.bank)
    return replace(
        evidence,
        uncertainty=measure(adaptation.sampler, evidence.low_frequency, adaptation.config),
    )


def check_fit(low_frequency: LowFrequency, bank: MaskBank) -> None:
    """Check that slices are of the bank's matrix and low-frequency block.

    Raises:
        BadInputError: otherwise; also when a bank of lines meets the block of a bank of points.
    """
    got = (low_frequency.matrix, low_frequency.block)
    if got != (bank.matrix, bank.block):
        kind = "lines" if bank.axes == 1 else "points"
        raise BadInputError(
            f"the low-frequency data do not fit the bank of {kind}",
            field="block" if low_frequency.matrix == bank.matrix else "matrix",
            got=f"block {got[1]} of {got[0]}",
            expected=f"block {bank.block} of {bank.matrix}",
            hint="Choose with a bank that was built for this matrix and block",
        )


def check_matrix(scan: Scan, bank: MaskBank) -> None:
    """Check that a scan is of the bank's matrix.

    Raises:
        BadInputError: otherwise.
    """
    if scan.matrix != bank.matrix:
        raise BadInputError(
            "the scan is of another matrix than the bank",
            file=scan.name,
            field="kspace",
            got=scan.matrix,
            expected=bank.matrix,
            hint="Build a bank for this matrix, or crop the scan",
        )


def check_scan(scan: Scan, bank: MaskBank) -> None:
    """Check that a scan is of the bank's matrix, holds its block, and has all its positions.

    Raises:
        BadInputError: otherwise.
    """
    check_matrix(scan, bank)
    exists = scan.encoded.expand(scan.matrix)
    held = (scan.acquired & scan.encoded).expand(scan.matrix)
    block = bank.masks[0].low_frequency_only().tensor().expand(scan.matrix)
    if bool((block & ~held).any()):
        raise BadInputError(
            "the scan does not hold the bank's low-frequency block",
            file=scan.name,
            field="acquired",
            got=f"{int((block & held).sum())} of {int(block.sum())} positions",
            expected="all of them",
        )
    for index, mask in enumerate(bank.masks):
        beyond = int((mask.tensor() & ~exists).sum())
        if beyond:
            raise BadInputError(
                "a mask of the bank acquires what is zero padding in the scan",
                file=scan.name,
                field="padding",
                got=f"{beyond} positions of mask {index}",
                expected="none",
                hint="Build the bank for scans with this padding",
            )


def foreign_coils(coils: int, bank: MaskBank) -> str | None:
    """Why a scan of so many coils is foreign to a bank; None where it is not."""
    if not bank.coils or coils in bank.coils:
        return None
    return f"{coils} coils; the bank was made from scans of {', '.join(map(str, bank.coils))}"


def _compared(
    evidence: Evidence, bank: MaskBank
) -> tuple[list[tuple[float, ...] | None], list[dict[str, int]]]:
    """Per slice: distances from the centroids, and what other rules would have chosen."""
    batch, found = evidence.low_frequency.batch, evidence.uncertainty
    if found is None:
        return [None] * batch, [{} for _ in range(batch)]
    rules: list[Selector] = [*map(NearestCentroid, Similarity), Captured()]
    chosen = {rule.name: rule.scores(evidence, bank).argmax(1).tolist() for rule in rules}
    apart = (-euclidean(found.values, bank.centroids.to(found.values))).tolist()
    known = found.known.tolist()
    return (
        [tuple(row) if sure else None for row, sure in zip(apart, known, strict=True)],
        [
            {name: indices[index] for name, indices in chosen.items()} if sure else {}
            for index, sure in enumerate(known)
        ],
    )


def _reasons(evidence: Evidence, adaptation: Adaptation, scores: Tensor) -> list[str | None]:
    """Why each slice cannot be judged; None for those that can."""
    low_frequency, found, bank = evidence.low_frequency, evidence.uncertainty, adaptation.bank
    foreign = foreign_coils(low_frequency.coils, bank)
    reasons: list[str | None] = []
    for index in range(low_frequency.batch):
        usable = bool(torch.isfinite(scores[index]).all())
        adaptive = adaptation.selector.needs_uncertainty
        if usable and not (adaptive and foreign is not None):
            reasons.append(None)
        elif adaptive and not bool(low_frequency.image[index].any()):
            reasons.append("the slice has no signal in its low-frequency block")
        elif adaptive and found is not None and int(found.usable[index]) < 2:
            reasons.append(
                f"{int(found.usable[index])} usable samples, {int(found.rejected[index])} rejected"
            )
        elif adaptive and found is not None and not bool(found.known[index]):
            reasons.append("the samples are all equal, so their variance is zero")
        elif adaptive and foreign is not None:
            reasons.append(foreign)
        else:
            reasons.append("the selector has no score for this slice")
    return reasons


def _stream(low_frequency: LowFrequency, config: UncertaintyConfig) -> torch.Generator:
    return torch.Generator(low_frequency.image.device).manual_seed(config.seed)


def _measured(
    sampler: PosteriorSampler,
    low_frequency: LowFrequency,
    config: UncertaintyConfig,
    streams: Iterable[torch.Generator],
) -> UncertaintyMap:
    parts = (low_frequency[index : index + 1] for index in range(low_frequency.batch))
    return UncertaintyMap.concatenate(
        [
            uncertainty(
                sampler,
                part,
                config.samples,
                stream,
                maps=sensitivity_maps(part) if config.coils else None,
                smoothing=config.smoothing,
                redraws=config.redraws,
            )
            for part, stream in zip(parts, streams, strict=False)
        ]
    )
