"""`Report`: what a report says, as a plain value, and the one HTML file it becomes."""

import csv
import hashlib
import io
import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from adaptmr.data.files import complete_file
from adaptmr.errors import UsageError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MISSING = "–"


@dataclass(frozen=True)
class Measured:
    """A number with the interval it was given.

    Attributes:
        value: the estimate.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float
    high: float


Cell: TypeAlias = str | int | float | Measured | None
"""What stands in one place of a table; None where there is nothing."""


def number(cell: Cell) -> float | None:
    """The number a cell holds, infinite perhaps, or None."""
    value = cell.value if isinstance(cell, Measured) else cell
    if value is None or isinstance(value, str) or math.isnan(value):
        return None
    return float(value)


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: heading.
        unit: unit of the numbers; empty for none.
        digits: decimals shown; the CSV keeps all of them.
        better: which numbers are better, where one is emphasised.
    """

    name: str
    unit: str = ""
    digits: int = 2
    better: Literal["higher", "lower"] | None = None

    @property
    def heading(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def show(self, cell: Cell) -> str:
        """The text of a cell, without its interval."""
        if cell is None or isinstance(cell, str):
            return cell or MISSING
        value = cell.value if isinstance(cell, Measured) else cell
        if math.isnan(value):
            return "not a number"
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        return f"{value:,}" if isinstance(value, int) else f"{value:.{self.digits}f}"

    def interval(self, cell: Cell) -> str:
        """The text of a cell's interval; empty where it has none."""
        if not isinstance(cell, Measured):
            return ""
        return f"[{cell.low:.{self.digits}f}, {cell.high:.{self.digits}f}]"


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        cells: one per column.
        group: rows with one label are compared with each other and with no others.
    """

    cells: tuple[Cell, ...]
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose numbers say how they were made.

    Attributes:
        title: heading; none when empty.
        columns: the columns.
        rows: the rows; those of a group stand together.
        protocol: name of the metric protocol, where the numbers are metrics.
        n: number of volumes behind each row.
        note: what else to know, for example the kind of interval.
    """

    kind: ClassVar[str] = "table"
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    protocol: str | None = None
    n: int | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise UsageError(
                    "a row of the table does not fit its columns",
                    field=self.title,
                    got=f"{len(row.cells)} cells",
                    expected=f"{len(self.columns)}",
                )

    @cached_property
    def groups(self) -> list[tuple[str, list[Row]]]:
        """The rows of each group, in order."""
        return [(label, list(rows)) for label, rows in groupby(self.rows, lambda row: row.group)]

    def best(self, rows: Sequence[Row], index: int) -> float | None:
        """The best number of a column among rows that differ in it, where there is a best one."""
        better = self.columns[index].better
        numbers = [value for row in rows if (value := number(row.cells[index])) is not None]
        if better is None or len(set(numbers)) < 2:
            return None
        return max(numbers) if better == "higher" else min(numbers)

    @property
    def emphasises(self) -> bool:
        """Whether any number is emphasised as the best of its group."""
        return any(
            self.best(rows, index) is not None
            for _, rows in self.groups
            for index in range(len(self.columns))
        )

    def numeric(self, index: int) -> bool:
        """Whether a column holds numbers."""
        return not any(isinstance(row.cells[index], str) for row in self.rows)

    @property
    def csv(self) -> str:
        """The table as CSV with all digits; an interval takes two more columns."""
        grouped = any(row.group for row in self.rows)
        wide = [any(isinstance(row.cells[i], Measured) for row in self.rows) for i in self._range]

        def spread(cell: Cell, with_interval: bool) -> list[str | int | float]:
            if isinstance(cell, Measured):
                return [cell.value, cell.low, cell.high]
            return ["" if cell is None else cell] + ([""] * 2 if with_interval else [])

        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        head = ["group"] if grouped else []
        for column, with_interval in zip(self.columns, wide, strict=True):
            head += [column.heading]
            head += [f"{column.heading} {end}" for end in ("low", "high")] if with_interval else []
        writer.writerow(head)
        for row in self.rows:
            cells = [value for i in self._range for value in spread(row.cells[i], wide[i])]
            writer.writerow([row.group, *cells] if grouped else cells)
        return stream.getvalue()

    @property
    def _range(self) -> range:
        return range(len(self.columns))


@dataclass(frozen=True)
class Text:
    """Paragraphs, with a heading where the title is not empty."""

    kind: ClassVar[str] = "text"
    title: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        png: the PNG file.
        alt: what the picture shows, for those who do not see it.
        lines: what stands under it.
        density: pixels of the PNG per pixel of the page; 2 for charts, which are then sharp.
        framed: whether it stands out from those beside it.
    """

    png: bytes
    alt: str
    lines: tuple[str, ...] = ()
    density: int = 1
    framed: bool = False

    def __post_init__(self) -> None:
        if not self.png.startswith(PNG_SIGNATURE):
            raise UsageError("a picture of a report is not a PNG", field=self.alt)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the page in pixels."""
        width, height = (int.from_bytes(self.png[start : start + 4], "big") for start in (16, 20))
        return width // self.density, height // self.density


@dataclass(frozen=True)
class Scale:
    """One entry of the legend of a gallery: a strip of colour and what its ends mean.

    Attributes:
        png: the strip.
        label: what the colours show, with the unit.
        low: meaning of the left end; empty for a strip of one colour.
        high: meaning of the right end.
    """

    png: bytes
    label: str
    low: str = ""
    high: str = ""


@dataclass(frozen=True)
class GalleryRow:
    """One row of a gallery: a label and a picture, or nothing, per column."""

    label: str
    pictures: tuple[Picture | None, ...]


@dataclass(frozen=True)
class Gallery:
    """Pictures in rows and columns that are shown alike, with the legend they share.

    Attributes:
        title: heading; none when empty.
        columns: heading of each column.
        rows: the rows.
        legend: what the colours mean.
        note: what else to know.
    """

    kind: ClassVar[str] = "gallery"
    title: str
    columns: tuple[str, ...]
    rows: tuple[GalleryRow, ...]
    legend: tuple[Scale, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.pictures) != len(self.columns):
                raise UsageError(
                    "a row of the gallery does not fit its columns",
                    field=f"{self.title}, {row.label}",
                    got=f"{len(row.pictures)} pictures",
                    expected=f"{len(self.columns)}",
                )


Block: TypeAlias = Text | Table | Gallery


@dataclass(frozen=True)
class Section:
    """A heading that the contents list names, and what stands under it.

    Attributes:
        title: the heading.
        blocks: texts, tables and galleries in order.
    """

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """A report: the verdict first, then what it rests on.

    Attributes:
        title: what was done, in a few words.
        verdict: the outcome in one or two sentences.
        sections: the rest, in order.
    """

    title: str
    verdict: str
    sections: tuple[Section, ...]


def render_report(report: Report) -> str:
    """The report as one HTML page that needs nothing else: no network, no script, no other file.

    Equal reports give equal pages. Every text is escaped; the page's content security policy
    allows embedded images and its own style sheet, nothing more.
    """
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("adaptmr.workflows.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["embedded"] = _embedded
    environment.filters["number"] = number
    return environment.get_template("template.html.j2").render(
        report=report,
        style=Markup(style),  # noqa: S704 - our own file; escaping would break the style sheet
        style_hash=b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"


def write_report(report: Report, path: Path, *, overwrite: bool = False) -> None:
    """Write a report as one self-contained HTML file.

    Args:
        report: what to write.
        path: the HTML file.
        overwrite: whether an existing file may be replaced.

    Raises:
        BadInputError: the file exists, or cannot be written.
    """
    page = render_report(report)
    with complete_file(path, overwrite=overwrite) as partial:
        # A file name that is not valid text reaches us with lone surrogates: shown as "?".
        partial.write_bytes(page.encode("utf-8", errors="replace"))
