"""The report of a benchmark."""

from collections.abc import Mapping

from adaptmr.reconstruction.metrics import PROTOCOLS
from adaptmr.sampling.mask import Mask
from adaptmr.workflows.benchmark.config import Baseline
from adaptmr.workflows.benchmark.latency import FIXED, OWN
from adaptmr.workflows.benchmark.methods import Kind
from adaptmr.workflows.benchmark.results import BenchmarkResult, Coverage, Difference, Row
from adaptmr.workflows.benchmark.summary import BEST, ONE, Findings
from adaptmr.workflows.benchmark.verdict import UNITS
from adaptmr.workflows.report import (
    Column,
    Gallery,
    GalleryRow,
    Measured,
    Picture,
    Report,
    Section,
    Table,
    Text,
    facts,
    interval_chart,
    mask_gallery,
)
from adaptmr.workflows.report import Row as TableRow
from adaptmr.workflows.report.sections import METRICS as COLUMNS


def report(result: BenchmarkResult, found: Findings, latency: Mapping[str, float]) -> Report:
    """What was found, the verdict first.

    Args:
        result: the numbers.
        found: the methods, for their masks.
        latency: seconds per slice, by method.
    """
    return Report(
        "Does adaptive selection pay?",
        result.verdict,
        (
            Section("Results", (_metrics(result, latency), _comparisons(result))),
            Section("Over the number of masks", (_gain(result), _head_room(result))),
            Section("Choices", (_choices(result), *_confusions(result))),
            Section("Masks", tuple(_masks(found))),
            *_further(result),
            Section("How it was measured", (Text("", result.notes),)),
            facts("Software and hardware", result.environment),
        ),
    )


def _label(row: Row) -> str:
    return (
        row.method if row.kind in (Kind.BASELINE, Kind.PER_SCAN) else f"{row.method}, J = {row.J}"
    )


def _group(row: Row) -> str:
    if row.kind is Kind.PER_SCAN:
        return "a mask for each slice, one network for all masks"
    return "one pair" if row.kind is Kind.BASELINE else f"J = {row.J}"


def _ordered(result: BenchmarkResult) -> list[Row]:
    """Rows of one group together."""
    groups = list(dict.fromkeys(map(_group, result.rows)))
    return sorted(result.rows, key=lambda row: groups.index(_group(row)))


def _metrics(result: BenchmarkResult, latency: Mapping[str, float]) -> Table:
    digits = UNITS[result.metric][2]
    name = UNITS[result.metric][0]

    def cells(row: Row) -> tuple[str | float | Measured | None, ...]:
        values = {"ssim": row.ssim, "psnr": row.psnr, "nmse": row.nmse}
        shown = {
            key: Measured(value, *row.interval) if key == result.metric else value
            for key, value in values.items()
        }
        return (
            _label(row),
            row.acceleration,
            *shown.values(),
            row.worst_5,
            row.worst_10,
            _seconds(row, result, latency),
        )

    return Table(
        "Every method on the same test slices",
        (
            Column("Method"),
            Column("Acceleration measured"),
            *(COLUMNS[key] for key in ("ssim", "psnr", "nmse")),
            Column(f"Worst 5 %, {name}", digits=digits, better="higher"),
            Column(f"Worst 10 %, {name}", digits=digits, better="higher"),
            Column("Time per slice", "s", 4),
        ),
        tuple(TableRow(cells(row), _group(row)) for row in _ordered(result)),
        result.protocol,
        result.slices,
        f"Definition: {PROTOCOLS[result.protocol].definition}. n counts slices, of"
        f" {result.subjects} subjects; means over {len(result.seeds)} seeds. Time: choice and"
        " reconstruction of one slice at a time, median, first seed.",
    )


def _seconds(row: Row, result: BenchmarkResult, latency: Mapping[str, float]) -> float | None:
    if row.kind is Kind.SELECTOR:
        return latency.get(row.method) if row.J == result.J else None
    if row.method == Baseline.POLICY:
        return latency.get(row.method)
    if row.kind is Kind.PER_SCAN and not row.method.startswith("mean"):
        return latency.get(OWN) if row.method.startswith("own") else None
    single = row.kind in (Kind.BASELINE, Kind.PAIR, Kind.PER_SCAN) or row.method == BEST
    return latency.get(FIXED) if single else None


def _measured(difference: Difference | None) -> Measured | None:
    return None if difference is None else Measured(difference.mean, *difference.interval)


def _comparisons(result: BenchmarkResult) -> Table:
    name, unit, digits = UNITS[result.metric]

    def to(row: Row, reference: str) -> Measured | None:
        named = (gain for of, gain in row.differences.items() if of.startswith(reference))
        return _measured(next(named, None))

    columns = (
        ("best single pair", BEST),
        ("J = 1", ONE),
        ("variable density", Baseline.VARIABLE_DENSITY.value),
        ("mean mask, same network", "mean mask"),
    )
    return Table(
        f"{name} gained over reference methods",
        (
            Column("Method"),
            *(Column(f"over {label}", unit.strip(), digits, "higher") for label, _ in columns),
            Column("Head-room realised", digits=2),
            Column("seed-corrected", digits=2),
        ),
        tuple(
            TableRow(
                (
                    _label(row),
                    *(to(row, reference) for _, reference in columns),
                    None if row.realised is None else row.realised.raw,
                    None if row.realised is None else row.realised.seed_corrected,
                ),
                _group(row),
            )
            for row in _ordered(result)
        ),
        result.protocol,
        result.slices,
        "Paired over slices; intervals: 95 %, bootstrap over subjects. The best single pair is that"
        f" of the row's J, of J = {result.J} for rows without. Head-room: gain over the best single"
        " pair as share of the oracle's; seed-corrected: the oracle's less that of as many networks"
        " that differ by their seed alone.",
    )


def _gain(result: BenchmarkResult) -> Gallery:
    """Gain over J = 1 of the selector, the oracle and the best single pair, for each J."""
    name, unit, _ = UNITS[result.metric]
    methods = dict.fromkeys((result.selector, BEST, "oracle", "oracle of seeds", "protocol prior"))
    series = {
        method: {
            f"J = {row.J}": Measured(gain.mean, *gain.interval)
            for row in result.rows
            if row.method == method and (gain := row.differences.get(ONE)) is not None
        }
        for method in methods
    }
    png = interval_chart(
        {method: values for method, values in series.items() if values},
        x_label=f"{name} gained over J = 1{f' ({unit.strip()})' if unit else ''},"
        f" protocol {result.protocol}",
    )
    alt = f"{name} gained over J = 1 by J: {', '.join(series)}"
    return Gallery(
        "Gain over one mask",
        ("",),
        (GalleryRow("", (Picture(png, alt, density=2),)),),
        note="Mean over slices and seeds with 95 % intervals over subjects.",
    )


def _head_room(result: BenchmarkResult) -> Table:
    _, unit, digits = UNITS[result.metric]
    return Table(
        "Head-room over the best single pair",
        (
            Column("J"),
            Column("Different masks, each seed"),
            Column("oracle", unit.strip(), digits),
            Column("of networks that differ by seed", unit.strip(), digits),
            Column("corrected", unit.strip(), digits),
        ),
        tuple(
            TableRow(
                (
                    room.J,
                    ", ".join(map(str, room.distinct_masks)),
                    *map(_measured, (room.oracle, room.seeds, room.corrected)),
                )
            )
            for room in result.head_room
        ),
        result.protocol,
        result.slices,
    )


def _choices(result: BenchmarkResult) -> Table:
    return Table(
        "How selectors spread their choices",
        (
            Column("Selector"),
            Column("J"),
            Column("Share of each pair"),
            Column("Entropy", "bit"),
            Column("Agrees with the oracle", digits=3),
        ),
        tuple(
            TableRow(
                (
                    one.method,
                    one.J,
                    ", ".join(f"{share:.0%}" for share in one.shares),
                    one.entropy,
                    one.agreement,
                ),
                f"J = {one.J}",
            )
            for one in sorted(result.choices, key=lambda one: one.J)
        ),
        note="Pairs are numbered from the best on the selection subjects, in each seed anew. An"
        " entropy of 0 means that one pair was always chosen.",
    )


def _confusions(result: BenchmarkResult) -> list[Table]:
    return [
        Table(
            f"{one.method}, J = {one.J}: chosen and best pair",
            (Column("Chosen"), *(Column(f"best is {pair + 1}") for pair in range(one.J))),
            tuple(
                TableRow((f"pair {pair + 1}", *counts)) for pair, counts in enumerate(one.counts)
            ),
            note="Slices, summed over seeds; the best pair is the oracle's.",
        )
        for one in result.confusion
        if one.J == result.J
    ]


def _masks(found: Findings) -> list[Gallery]:
    """The masks of the first seed."""
    readout = found.test.scans[0].matrix[0]
    groups: dict[str, dict[str, Mask]] = {}
    for method in found.seeds[0]:
        title = "One pair" if method.kind is not Kind.PAIR else f"J = {method.count}"
        several = len(method.examples) > 1
        for number, mask in enumerate(method.examples):
            if method.kind is Kind.PER_SCAN and not method.name.startswith("own mask, surrogate"):
                continue
            name = f"{method.name}, example {number + 1}" if several else method.name
            groups.setdefault(title, {})[name] = mask
    return [mask_gallery(title, masks, readout) for title, masks in groups.items()]


def _further(result: BenchmarkResult) -> list[Section]:
    sections = []
    if result.cells is not None:
        sections.append(Section("Contrasts and orientations", (_cells(result),)))
    if result.coverage is None:
        why = Text("", (f"There are no intervals to judge: {result.why_no_coverage}.",))
        sections.append(Section("Intervals of pixels", (why,)))
    else:
        sections.append(Section("Intervals of pixels", _coverage(result.coverage)))
    if result.policy:
        sections.append(Section("The learned policy", (_policy(result),)))
    return sections


def _cells(result: BenchmarkResult) -> Table:
    found = result.cells
    assert found is not None  # noqa: S101 - asked before
    _, unit, digits = UNITS[result.metric]
    numbers = ("quality", "acceptable", "excellent")
    return Table(
        f"{found.method}, J = {result.J}, by cell",
        (
            Column("Cell"),
            Column("Slices"),
            *(Column(name, unit.strip(), digits) for name in numbers),
            Column("Relative performance ratio", digits=3),
            Column("Accepted"),
        ),
        tuple(
            TableRow(
                (
                    cell.cell,
                    cell.slices,
                    *(getattr(cell, name) for name in numbers),
                    cell.ratio,
                    "yes" if cell.accepted else "no",
                )
            )
            for cell in found.cells
        ),
        result.protocol,
        result.slices,
        f"Acceptable: {found.acceptable}; excellent: {found.excellent}. Acceptance rate"
        f" {found.acceptance_rate:.0%}. The ratio is 0.5 at the acceptable line and 0.73 at the"
        " excellent one.",
    )


def _coverage(found: Coverage) -> tuple[Table, ...]:
    return (
        Table(
            "Coverage on the test subjects",
            (
                Column("Nominal", digits=3),
                Column("Coverage", digits=3),
                Column("Width", digits=3),
                Column("Rank correlation with the error", digits=3),
                Column("Worst bin of width", digits=3),
            ),
            (
                TableRow(
                    (
                        found.nominal,
                        _measured(found.coverage),
                        _measured(found.width),
                        _measured(found.rank_correlation),
                        found.worst_size,
                    )
                ),
            ),
            n=found.slices,
            note="Of the bank that the training makes, first seed. Width as share of the mean"
            f" signal. Means over {found.subjects} subjects with 95 % intervals.",
        ),
        Table(
            "Coverage by width of the interval",
            (
                Column("From", digits=3),
                Column("To", digits=3),
                Column("Coverage", digits=3),
            ),
            tuple(TableRow((size.low, size.high, size.coverage)) for size in found.sizes),
        ),
        Table(
            "Pixels missed, from the centre outwards",
            (Column("Ring"), Column("Share missed", digits=3)),
            tuple(TableRow((index + 1, share)) for index, share in enumerate(found.rings)),
        ),
    )


def _policy(result: BenchmarkResult) -> Table:
    return Table(
        "Whether it adapts at all",
        (
            Column("Seed"),
            Column("Adaptivity", digits=3),
            Column("Distinct masks"),
            Column("Collapsed"),
        ),
        tuple(
            TableRow(
                (one.seed, one.adaptivity, one.distinct_masks, "yes" if one.collapsed else "no")
            )
            for one in result.policy
        ),
        note="Adaptivity: one minus the mean overlap of the masks of two slices. Collapsed: they"
        " differ by less than a position on average.",
    )
