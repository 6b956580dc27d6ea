"""What the comparison with a bank says, in words, tables and pictures."""

import math
from collections.abc import Sequence
from typing import Final

from adaptmr.reconstruction.calibration.diagnostics import Diagnostics, diagnose
from adaptmr.reconstruction.metrics import PROTOCOLS
from adaptmr.workflows.bank_report import bank_facts
from adaptmr.workflows.benchmark.examined import METRICS, PROTOCOL
from adaptmr.workflows.demo.comparison import BEST, CHOICE, ORACLE, UNIFORM, Compared, Comparison
from adaptmr.workflows.demo.part import DemoRow, Interval, Part
from adaptmr.workflows.demo.pictures import way_of_a_scan
from adaptmr.workflows.report import (
    Column,
    Gallery,
    GalleryRow,
    Measured,
    Picture,
    Row,
    Section,
    Table,
    Text,
    facts,
    interval_chart,
)
from adaptmr.workflows.report.document import number
from adaptmr.workflows.report.sections import METRICS as COLUMNS

_DIAGNOSIS_SEED: Final = 0
_INTERVALS: Final = "Intervals: 95%, bootstrap over subjects."


def bank_part(found: Comparison, fingerprint: str, origin: str) -> Part:
    """The comparison with a bank as a part of the demonstration.

    Args:
        found: the comparison.
        fingerprint: identity of the bank.
        origin: whose scans these are.
    """
    diagnosis = _diagnosed(found)
    return Part(
        _verdict(found, diagnosis, origin),
        tuple(_demo_row(found, method) for method in found.methods),
        (
            Section("Result", (_methods(found), _chart(found), _pairs(found))),
            Section("The way of a scan", (way_of_a_scan(found),)),
            Section("Intervals of pixels", tuple(_intervals(found, diagnosis))),
            facts("Bank", bank_facts(found.bank, fingerprint)),
        ),
    )


def _gain(found: Comparison, name: str) -> Measured | float:
    """SSIM of a way to use the pairs over the best single pair."""
    return found.estimated(found.method(name), found.method(BEST))


def _verdict(found: Comparison, diagnosis: Diagnostics | None, origin: str) -> str:
    choice, oracle = _gain(found, CHOICE), _gain(found, ORACLE)
    classical, method = found.best_classical, found.method(CHOICE)
    above = found.estimated(method, classical)
    slices, subjects = len(found.chosen), len(set(found.examined.subjects))
    sentences = [
        f"{_judged(choice)} SSIM gained by the bank's choice over its best single pair of mask and"
        f" network: {_told(choice)}; by an oracle that knows the outcome:"
        f" {_told(oracle)}{_realised(choice, oracle)}; over {classical.name} with"
        f" {classical.masks} masks at the same {method.acceleration:.2f}x: {_told(above)}, PSNR"
        f" {_psnr(method) - _psnr(classical):+.2f} dB.",
    ]
    if diagnosis is not None:
        sentences.append(
            f"{diagnosis.coverage.mean:.1%} of the pixels lie in their intervals,"
            f" {_promised(found):.0%} are promised."
        )
    sentences.append(
        f"n = {slices} slices of {subjects} {'subject' if subjects == 1 else 'subjects'},"
        f" {origin}. {_INTERVALS if subjects > 1 else 'One subject: no intervals.'}"
    )
    return " ".join(sentences)


def _psnr(method: Compared) -> float:
    return float(method.metrics[:, METRICS.index("psnr")].mean())


def _judged(gain: Measured | float) -> str:
    if not isinstance(gain, Measured):
        return "Whether choosing pays cannot be told from one subject."
    if gain.low > 0:
        return "Choosing the mask pays here."
    if gain.high < 0:
        return "Choosing the mask costs here."
    return "Choosing the mask makes no sure difference here."


def _realised(choice: Measured | float, oracle: Measured | float) -> str:
    gained, possible = number(choice), number(oracle)
    if not gained or not possible or gained <= 0:
        return ""
    return f" (the choice realises {gained / possible:.0%} of it)"


def _told(gain: Measured | float) -> str:
    if isinstance(gain, Measured):
        return f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
    return f"{gain:+.4f}"


def _demo_row(found: Comparison, method: Compared) -> DemoRow:
    ssim, psnr, nmse = method.metrics.mean(0).tolist()
    gain = found.estimated(method, found.method(BEST))
    return DemoRow(
        method=method.name,
        masks=method.masks,
        acceleration=method.acceleration,
        protocol=PROTOCOL,
        n=len(method.metrics),
        ssim=ssim,
        psnr=psnr if math.isfinite(psnr) else None,
        nmse=nmse,
        interval=_interval(found.estimated(method)),
        gain=number(gain),
        gain_interval=_interval(gain),
    )


def _interval(value: Measured | float) -> Interval | None:
    return (value.low, value.high) if isinstance(value, Measured) else None


def _methods(found: Comparison) -> Table:
    def cells(method: Compared) -> tuple[str | float | Measured | None, ...]:
        _, psnr, nmse = method.metrics.mean(0).tolist()
        gain = None if method.name == BEST else found.estimated(method, found.method(BEST))
        return (
            method.name,
            method.masks,
            method.acceleration,
            found.estimated(method),
            psnr,
            nmse,
            gain,
        )

    return Table(
        "",
        (
            Column("Method"),
            Column("Masks"),
            Column("Acceleration"),
            *(COLUMNS[name] for name in METRICS),
            Column("SSIM gained", digits=4),
        ),
        tuple(Row(cells(method), method.group) for method in found.methods),
        PROTOCOL,
        note=f"{_counted(found)} Accelerations are measured. SSIM gained: over the best single"
        " pair, which is the one that did best on the subjects that the bank was made with, not on"
        " these. A uniform pick is the mean over the pairs. The oracle knows the outcome."
        f" {_INTERVALS} Definition: {PROTOCOLS[PROTOCOL].definition}.",
    )


def _counted(found: Comparison) -> str:
    scans, subjects = found.examined.scans, set(found.examined.subjects)
    return f"n = {len(found.chosen)} slices of {len(scans)} scans of {len(subjects)} subjects."


def _chart(found: Comparison) -> Gallery:
    values = {name: _gain(found, name) for name in (UNIFORM, CHOICE, ORACLE)}
    png = interval_chart(
        {"": values}, x_label=f"SSIM over the best single pair, protocol {PROTOCOL}"
    )
    told = ", ".join(f"{name} {_told(gain)}" for name, gain in values.items())
    picture = Picture(png, f"SSIM over the best single pair: {told}", density=2)
    return Gallery("What choosing is worth", ("",), (GalleryRow("", (picture,)),))


def _pairs(found: Comparison) -> Table:
    chosen, best = found.chosen.tolist(), found.best.tolist()
    agree = sum(one == other for one, other in zip(chosen, best, strict=True)) / len(chosen)
    return Table(
        "The pairs of the bank",
        (
            Column("Pair"),
            Column("SSIM when used for all", digits=4, better="higher"),
            Column("Chosen for", "slices"),
            Column("Best for", "slices"),
        ),
        tuple(
            Row((f"pair {index}", value, chosen.count(index), best.count(index)))
            for index, value in enumerate(found.pairs[..., METRICS.index("ssim")].mean(0).tolist())
        ),
        PROTOCOL,
        note=f"The choice is the best one for {agree:.0%} of the slices.",
    )


def _promised(found: Comparison) -> float:
    calibration = found.bank.calibration
    assert calibration is not None  # noqa: S101 - asked only where intervals were judged
    return 1 - calibration.guarantee.alpha


def _diagnosed(found: Comparison) -> Diagnostics | None:
    """What the intervals did; None where there are none, or of one subject alone."""
    if len({one.subject for one in found.judged}) < 2:
        return None
    return diagnose(found.judged, seed=_DIAGNOSIS_SEED)


def _intervals(found: Comparison, diagnosis: Diagnostics | None) -> Sequence[Text | Table]:
    if diagnosis is None:
        reasons = dict.fromkeys(result.why_no_interval for result in found.results)
        told = [reason for reason in reasons if reason is not None]
        few = "there are too few subjects to judge them on; they are drawn above"
        return [Text("", (f"Not judged: {'; '.join(told) or few}.",))]
    promised, correlation = _promised(found), diagnosis.rank_correlation
    coverage = Measured(*diagnosis.coverage)
    everything = Row(("all", promised, coverage, Measured(*diagnosis.width)))
    sizes = [
        Row((f"from {one.low:.3f} to {one.high:.3f} wide", promised, one.coverage, None))
        for one in diagnosis.sizes
    ]
    table = Table(
        "",
        (
            Column("Pixels of the object"),
            Column("Promised share in the interval", digits=3),
            Column("Share in the interval", digits=3),
            Column("Width of the interval", digits=3),
        ),
        (everything, *sizes),
        note=f"{diagnosis.slices} slices of {diagnosis.subjects} subjects. Widths as share of the"
        " mean signal. What is promised is the share of all pixels of a new subject, in"
        f" expectation, not of narrow or wide intervals alone. {_INTERVALS}",
    )
    if correlation is None:
        return [table]
    said = (
        f"Where errors are large, intervals are wide: rank correlation {correlation.mean:.2f}"
        f" [{correlation.low:.2f}, {correlation.high:.2f}]."
    )
    return [table, Text("", (said,))] if correlation.low > 0 else [table]
