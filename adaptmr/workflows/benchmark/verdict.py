"""What a benchmark says in words."""

from collections.abc import Sequence

from adaptmr.sampling.frame import Positions
from adaptmr.workflows.benchmark.config import Baseline, BenchmarkConfig, Metric
from adaptmr.workflows.benchmark.methods import Kind
from adaptmr.workflows.benchmark.results import Difference, HeadRoom, Row
from adaptmr.workflows.benchmark.summary import BEST, Findings

UNITS = {Metric.SSIM: ("SSIM", "", 4), Metric.PSNR: ("PSNR", " dB", 2)}
"""Name, unit and digits of the metric."""


def verdict(
    config: BenchmarkConfig, selector: str, rows: Sequence[Row], rooms: Sequence[HeadRoom]
) -> tuple[str, bool]:
    """Whether adaptive selection pays, in sentences and as a fact."""
    own = _found(rows, selector, config.main)
    best = f"{BEST} of {config.main}"  # which the fixed best mask is not compared with
    pays = best in own.differences and all(one.positive for one in own.differences.values())
    kind = "lines" if config.training.positions is Positions.LINES else "points"
    gains = ", ".join(f"{told(config, gain)} over {of}" for of, gain in own.differences.items())
    sentences = [
        f"Adaptive selection {'pays' if pays else 'does not pay'} here: with {config.main} masks of"
        f" {kind} at {own.acceleration:.2f}x the {selector} selector gains {gains}"
        f" ({UNITS[config.metric][0]}; n = {own.n} slices, {own.seeds} seeds).",
        *_head_room(config, own, rooms),
        *_limit(config, rows),
    ]
    return " ".join(sentences), pays


def told(config: BenchmarkConfig, gain: Difference) -> str:
    """A difference with its interval, in the unit of the metric."""
    _, unit, digits = UNITS[config.metric]
    low, high = gain.interval
    return f"{gain.mean:+.{digits}f}{unit} [{low:+.{digits}f}, {high:+.{digits}f}]"


def notes(found: Findings) -> tuple[str, ...]:
    """What a reader has to know of how the numbers came to be."""
    config = found.config
    pairs = config.training.pairs
    start = (
        "start from the surrogate of their seed"
        if config.training.surrogate is not None and pairs.warm_start
        else "start from the first weights of their seed"
    )
    said = [
        "Every row has the same budget, which is met exactly, the same low-frequency block and the"
        f" same network class. All networks {start} and are trained for {pairs.epochs} epochs of"
        " the same slices in the same batches, so for equally many optimiser steps; the epoch that"
        " does best on the selection subjects is kept.",
        "Best single pair, order of the pairs and fitted selectors come from the selection"
        " subjects, never from the test. The uniform pick is its expectation: the mean over the"
        " pairs.",
        "Random masks are new for every batch of the training and follow from the file's name in"
        " the test. Equispaced and variable-density masks are drawn once for each seed, like those"
        " of the pairs.",
        "Numbers are means over seeds for each slice, then over slices; intervals (95 %) draw"
        " subjects with all their slices and do not hold the spread between seeds, which by_seed"
        " shows.",
        "Best of seeds and oracle of seeds: networks of other seeds for the mask of J = 1. What"
        " their oracle gains is noise of the training, and is taken off the head-room. The pairs"
        " differ by their seeds just so: pair and control of one number share theirs.",
    ]
    if not config.training.selection_fraction:
        said.append(
            "There are no selection subjects: best pairs, best epochs and selectors were found on"
            " slices that the networks were trained on, which flatters some pairs."
        )
    return tuple(said)


def _head_room(config: BenchmarkConfig, own: Row, rooms: Sequence[HeadRoom]) -> list[str]:
    room = next(each for each in rooms if config.main == each.J)
    said = f"The oracle gains {told(config, room.oracle)} over the best single pair"
    if room.seeds is not None:
        said += f", where networks that differ by seed alone give {told(config, room.seeds)}"
    realised = own.realised
    shares = [] if realised is None else [realised.raw, realised.seed_corrected]
    named = [
        f"{share:.0%} of the {what}"
        for share, what in zip(shares, ("head-room", "seed-corrected head-room"), strict=False)
        if share is not None
    ]
    return [f"{said}; the selector realises {' and '.join(named)}." if named else f"{said}."]


def _limit(config: BenchmarkConfig, rows: Sequence[Row]) -> list[str]:
    """The mask of each slice against the mean mask; the best of all selectors afterwards."""
    said = []
    if Baseline.PER_SCAN in config.baselines:
        network = "surrogate trained further"
        gain = _found(rows, f"own mask, {network}", None).differences[f"mean mask, {network}"]
        said.append(
            f"A mask for each slice gains {told(config, gain)} over the mean mask with one network"
            " for all masks."
        )
    selectors = [row for row in rows if row.kind is Kind.SELECTOR]
    best = max(selectors, key=lambda row: row.differences["J = 1"].mean)
    said.append(
        f"Of all selectors and J the highest is {best.method} at J = {best.J},"
        f" {told(config, best.differences['J = 1'])} over J = 1; picked on the test, so flattered."
    )
    return said


def _found(rows: Sequence[Row], method: str, count: int | None) -> Row:
    return next(row for row in rows if (row.method, row.J) == (method, count))
