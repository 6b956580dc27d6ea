"""The page of a bank's training: its masks, how its networks learned, what is promised, of what."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from adaptmr.reconstruction.bank import persistence as banks
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.calibration.intervals import Calibration, Factor
from adaptmr.workflows.bank_report import bank_facts
from adaptmr.workflows.bank_training.steps import MANIFEST, Step
from adaptmr.workflows.environment import environment
from adaptmr.workflows.report import (
    Column,
    Gallery,
    GalleryRow,
    Picture,
    Report,
    Row,
    Section,
    Table,
    Text,
    facts,
    line_chart,
    mask_gallery,
    write_report,
)

WIDTH: Final = "width"
"""Name of the network of interval widths."""
_PER_CHART: Final = 5
"""Networks whose losses share a chart; more lines cannot be told apart."""
_LONGEST: Final = 60
"""Characters of a value of the configuration that are shown."""


@dataclass(frozen=True)
class Made:
    """A step that a bank was made by.

    Attributes:
        name: what it is called.
        key: sha256 of all that it depends on.
        seconds: how long it took.
        finished: when.
    """

    name: str
    key: str
    seconds: float
    finished: datetime

    @classmethod
    def of(cls, folder: Path) -> "Made":
        """What the folder of a step says of it."""
        told = json.loads((folder / MANIFEST).read_text())
        finished = datetime.fromtimestamp((folder / MANIFEST).stat().st_mtime, UTC)
        return cls(told["step"], told["key"], told["seconds"], finished)


def write_training_page(
    path: Path,
    bank: Step,
    losses: Tensor,
    parts: Mapping[str, Any],
    networks: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        bank: step of the bank, the folder ``bank`` in its own.
        losses: (slices, J) loss of each pair on slices that no network was trained on.
        parts: what each part of the data holds: subjects, scans and strata.
        networks: name -> how each network that was trained came to be, in order.

    Raises:
        BadInputError: the bank is damaged, or the page cannot be written.
    """
    folder = bank.folder / "bank"
    opened, made = banks.load(folder), steps_behind(bank)
    page = Report(
        "Training of a bank",
        verdict(opened, losses, parts),
        (
            Section("Masks", (*_masks(opened), _pairs(opened, losses, networks))),
            Section("Training", tuple(_charts(networks))),
            Section("Intervals", tuple(_intervals(opened.calibration))),
            Section("Data", (_data(parts),)),
            Section("Steps", (_steps(made, _earlier(bank)),)),
            facts("Bank", bank_facts(opened, banks.fingerprint(folder))),
            facts("Configuration", dict(_flat("", opened.provenance["config"]))),
            facts("Software and hardware", environment()),
        ),
    )
    write_report(page, path)


def steps_behind(last: Step) -> tuple[Made, ...]:
    """The steps that a step was made by, itself included, in the order in which they were done."""
    steps = last.folder.parents[1]
    found: dict[Path, Made] = {}
    left = [last.folder]
    while left:
        folder = left.pop()
        if folder in found or not (folder / MANIFEST).is_file():
            continue  # what is no step of this folder: scans in the store
        found[folder] = Made.of(folder)
        needs = json.loads((folder / MANIFEST).read_text())["needs"]
        left += [steps / name / key[: len(last.folder.name)] for name, key in needs.items()]
    return tuple(sorted(found.values(), key=lambda one: (one.finished, one.name)))


def _earlier(bank: Step) -> datetime | None:
    """When the bank before this one was finished in this folder; None where this is the first."""
    mine = Made.of(bank.folder).finished
    others = (Made.of(file.parent).finished for file in bank.folder.parent.glob(f"*/{MANIFEST}"))
    return max((each for each in others if each < mine), default=None)


def verdict(bank: ReconstructionBank, losses: Tensor, parts: Mapping[str, Any]) -> str:
    """What is said first: of how many subjects, how good, what is promised."""
    masks, means = bank.masks, losses.double().mean(0)
    sentences = [
        f"{len(bank)} masks at {masks.masks[0].acceleration:.2f}x with a network each, from"
        f" {parts['train']['subjects']} subjects."
    ]
    if len(losses):
        best = f"mask {masks.best}, loses {float(means[masks.best]):.4f}"
        sentences.append(
            f"On {len(losses)} slices that no network was trained on the best single pair, {best};"
            f" whoever always chose rightly would lose {float(losses.min(1).values.mean()):.4f}."
        )
    found = bank.calibration
    if found is None:
        sentences.append("It gives no intervals.")
    elif found.pooled.factor is None:
        sentences.append(f"It gives no intervals: {found.pooled.reason}.")
    else:
        sentences.append(
            f"Intervals of a new subject miss {found.guarantee.alpha:.0%} of its pixels or less,"
            f" on average: calibrated on {found.pooled.subjects} subjects."
        )
    return " ".join(sentences)


def _masks(bank: ReconstructionBank) -> Iterator[Gallery]:
    masks = {str(index): mask for index, mask in enumerate(bank.masks.masks)}
    yield mask_gallery("", masks, bank.masks.matrix[0])


def _pairs(
    bank: ReconstructionBank, losses: Tensor, networks: Mapping[str, Mapping[str, Any]]
) -> Table:
    wins = torch.bincount(losses.argmin(1), minlength=len(bank)).tolist()
    means = losses.double().mean(0).tolist() if len(losses) else [None] * len(bank)

    def row(index: int) -> Row:
        best = "yes" if index == bank.masks.best else ""
        drawn_for = bank.masks.populations[index]
        epoch = networks[f"network-{index}"].get("epoch")
        return Row((str(index), drawn_for, epoch, means[index], wins[index], best))

    return Table(
        "Pairs",
        (
            Column("Mask"),
            Column("Training slices it was drawn for", digits=0),
            Column("Epoch kept", digits=0),
            Column("Mean loss", digits=4, better="lower"),
            Column("Slices it is best for", digits=0),
            Column("Best single pair"),
        ),
        tuple(map(row, range(len(bank)))),
        note="Loss: 1 - SSIM. Mean, and the slices a pair is best for: of"
        f" {len(losses)} slices that no network was trained on.",
    )


def _charts(networks: Mapping[str, Mapping[str, Any]]) -> Iterator[Gallery | Text]:
    """Losses by epoch, of the networks of images and of that of widths, which has another loss."""
    known = {name: told["curve"] for name, told in networks.items() if told.get("curve")}
    images = [name for name in known if name != WIDTH]
    for first in range(0, len(images), _PER_CHART):
        some = images[first : first + _PER_CHART]
        yield _chart("Networks" if not first else "", {name: known[name] for name in some}, "loss")
    if WIDTH in known:
        yield _chart("Interval widths", {WIDTH: known[WIDTH]}, "quantile loss")
    if not known:
        yield Text("", ("The networks have no record of their training.",))


def _chart(title: str, curves: Mapping[str, list[dict[str, float]]], loss: str) -> Gallery:
    """Training and validation beside each other, with the same names."""

    def drawn(key: str, label: str) -> Picture | None:
        lines = {
            name: [(each["epoch"], each[key]) for each in curve if key in each]
            for name, curve in curves.items()
        }
        shown = {name: line for name, line in lines.items() if line}
        if not shown:
            return None
        last = ", ".join(f"{name} {line[-1][1]:.4f}" for name, line in shown.items())
        png = line_chart(shown, x_label="epoch", y_label=f"{loss}, {label}")
        return Picture(png, f"{loss} by epoch, {label}; at last: {last}", density=2)

    pictures = drawn("loss", "training"), drawn("validation_loss", "validation")
    return Gallery(title, ("", ""), (GalleryRow("", pictures),))


def _intervals(found: Calibration | None) -> Iterator[Table | Text]:
    if found is None:
        yield Text("", ("No subjects were kept out to calibrate them on.",))
        return

    def row(name: str, one: Factor) -> Row:
        return Row((name, one.subjects, one.slices, one.factor, one.risk, one.reason or ""))

    rows = [*sorted(found.strata.items()), ("all", found.pooled)]
    yield Table(
        "",
        (
            Column("Contrast and orientation"),
            Column("Subjects", digits=0),
            Column("Slices", digits=0),
            Column("Factor", digits=3),
            Column("Share missed", digits=4),
            Column("Why there is no factor"),
        ),
        tuple(row(*each) for each in rows),
        note="Promised: the share of a new subject's pixels that is missed is"
        f" {found.guarantee.alpha:g} at most, in expectation. Share missed: of the calibration"
        " subjects, with that factor. Strata with too few subjects use the factor of all.",
    )


def _data(parts: Mapping[str, Any]) -> Table:
    def row(part: str, told: Mapping[str, Any]) -> Row:
        strata = "; ".join(
            f"{name} " + ", ".join(f"{value} ({count})" for value, count in counts.items())
            for name, counts in told["strata"].items()
        )
        return Row((part, told["subjects"], told["scans"], strata))

    return Table(
        "",
        (
            Column("Part"),
            Column("Subjects", digits=0),
            Column("Scans", digits=0),
            Column("Of these (scans)"),
        ),
        tuple(row(part, told) for part, told in parts.items()),
        note="The part for tests is sealed: nothing on this page has seen it.",
    )


def _steps(made: Sequence[Made], earlier: datetime | None) -> Table:
    def row(one: Made) -> Row:
        cached = earlier is not None and one.finished <= earlier
        moment = f"{one.finished:%Y-%m-%d %H:%M}"
        return Row((one.name, "found" if cached else "made", one.seconds, moment, one.key[:16]))

    return Table(
        "",
        (
            Column("Step"),
            Column("For this bank"),
            Column("Took", "s", 1),
            Column("Finished (UTC)"),
            Column("Key"),
        ),
        tuple(map(row, made)),
        note="Found: done for an earlier bank of this folder, and nothing it depends on changed"
        " since. The key is a hash of all that a step depends on, and names its folder.",
    )


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Names with dots, and values, of what is nested."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _flat(f"{name}.{key}" if name else key, each)
    else:
        text = json.dumps(value) if isinstance(value, list) else str(value)
        yield name, text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
