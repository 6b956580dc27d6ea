"""The report of sequences: what was learned, what was forgotten, and how it looks."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from adaptmr.workflows.continual.comparison import PER_TASK, Group, Measures, grouped, measures_of
from adaptmr.workflows.continual.run import SequenceRecord
from adaptmr.workflows.continual.slices import read_slices
from adaptmr.workflows.continual.summary import means, references
from adaptmr.workflows.report import (
    Column,
    Gallery,
    GalleryRow,
    Measured,
    Picture,
    Report,
    Row,
    Section,
    Table,
    facts,
    interval_chart,
    write_report,
)

_COLUMNS: Final[Mapping[str, Column]] = {
    "incremental_average": Column("Average over stages", digits=3, better="higher"),
    "learning": Column("Learned", digits=3, better="higher"),
    "forgetting": Column("Forgetting", digits=3, better="lower"),
    "peak_forgetting": Column("Forgetting from the peak", digits=3, better="lower"),
    "backward_transfer": Column("Backward transfer", digits=3, better="higher"),
    "forward_transfer": Column("Forward transfer", digits=3, better="higher"),
}
_SCALE: Final = (
    "Zero-filled images have 0 and fully sampled ones 1, so that tasks of different units can be"
    " averaged. Intervals: 95 %, test subjects drawn again, the same ones after every stage."
)


class ContinualReport(BaseModel):
    """What was reported."""

    model_config = ConfigDict(frozen=True)

    report: Path
    tasks: tuple[str, ...]
    matrices: dict[str, list[list[float]]]
    """Strategy -> scores a[i][j] of task j after stage i, mean over seeds, units of the tasks."""
    measures: tuple[Measures, ...]


def report(runs: Sequence[Path], out: Path, *, overwrite: bool = False) -> ContinualReport:
    """Write the report of one or several sequences of the same tasks.

    Sequences of one strategy and its settings are taken for seeds.

    Args:
        runs: folders of `adaptmr.workflows.continual.run.run_sequence`.
        out: the HTML file.
        overwrite: whether an existing file may be replaced.

    Raises:
        BadInputError: a folder holds no sequence, the sequences are of other tasks or subjects, a
            task has fewer than two test subjects, or the report exists.
    """
    groups = grouped(runs)
    first = next(iter(groups.values()))[0][1]
    alone = groups.get(PER_TASK)
    measures = tuple(measures_of(name, group, alone) for name, group in groups.items())
    matrices = {
        name: np.mean([means(record.pairs).matrix for _, record in group], axis=0)
        for name, group in groups.items()
    }
    page = Report(
        "Task after task",
        _verdict(measures),
        (
            Section("What was kept", tuple(_compared(measures))),
            Section(
                "Scores after each stage",
                tuple(_matrix(name, matrices[name], groups[name][0][1]) for name in groups),
            ),
            *_galleries(groups),
            facts("Settings", {name: str(value) for name, value in first.learner.items()}),
            facts("Software and hardware", first.environment),
        ),
    )
    write_report(page, out, overwrite=overwrite)
    return ContinualReport(
        report=out,
        tasks=tuple(task.name for task in first.tasks),
        matrices={name: values.tolist() for name, values in matrices.items()},
        measures=measures,
    )


def _verdict(measures: Sequence[Measures]) -> str:
    known = [each for each in measures if "forgetting" in each.values]
    if not known:
        return f"{measures[0].strategy}: {measures[0].average:.0%} of what full images would give."
    best = min(known, key=lambda each: each.values["forgetting"][0])
    mean, low, high = best.values["forgetting"]
    lead = "" if len(known) == 1 else f" Of {len(known)} strategies it forgot least."
    return (
        f"After the last task {best.strategy} is {best.average:.0%} of the way from zero-filled to"
        f" fully sampled images; of that way it forgot {mean:.1%} [{low:.1%}, {high:.1%}].{lead}"
    )


def _compared(measures: Sequence[Measures]) -> Iterator[Table | Gallery]:
    columns = (
        Column("Strategy"),
        Column("Seeds"),
        Column("Average", digits=3, better="higher"),
        *_COLUMNS.values(),
        Column("Intransigence", digits=3, better="lower"),
        Column("Stability gap", digits=3, better="lower"),
        Column("Training", unit="s", digits=0),
        Column("Buffer", unit="kB", digits=0),
    )
    rows = []
    for each in measures:
        average = each.values.get("average")
        rows.append(
            Row(
                (
                    each.strategy,
                    each.seeds,
                    each.average if average is None else Measured(*average),
                    *(_measured(each, name) for name in _COLUMNS),
                    each.intransigence,
                    each.stability_gap,
                    each.seconds,
                    each.buffer_bytes / 1000,
                )
            )
        )
    yield Table("", columns, tuple(rows), note=_SCALE)
    shown = {
        name: {each.strategy: Measured(*each.values[name]) for each in measures if each.values}
        for name in ("forgetting", "average")
    }
    if shown["forgetting"]:
        chart = interval_chart(shown, x_label="share of the way from zero-filled to full")
        picture = Picture(chart, "Forgetting and average of each strategy", density=2)
        yield Gallery("", ("",), (GalleryRow("", (picture,)),))


def _measured(measures: Measures, name: str) -> Measured | None:
    return Measured(*measures.values[name]) if name in measures.values else None


def _matrix(name: str, values: np.ndarray, record: SequenceRecord) -> Table:
    """The matrix a[i][j], with what zero-filled and fully sampled images give."""
    low, high = references(record.pairs)
    stages = [f"{stage.index}: {stage.task}" for stage in record.pairs[0].stages]
    lines = [
        ("zero-filled", low),
        *((f"after stage {stage}", row) for stage, row in zip(stages, values, strict=True)),
        ("fully sampled", high),
    ]
    return Table(
        name,
        (
            Column("Images"),
            *(Column(f"{task.name}, {task.metric}", digits=3) for task in record.tasks),
        ),
        tuple(Row((label, *(float(value) for value in row))) for label, row in lines),
        n=len(next(iter(record.pairs[0].full.values())).subjects),
        note="Mean over test subjects, pairs of the bank and seeds; higher is better.",
    )


def _galleries(groups: Mapping[str, Group]) -> Iterator[Section]:
    for name, group in groups.items():
        drawn = list(read_slices(group[0][0]))
        columns = list(dict.fromkeys(each.column for each, _ in drawn))
        rows: dict[str, list[Picture]] = {}
        for each, png in drawn:
            alt = f"{each.task}, {each.column}"
            rows.setdefault(each.task, []).append(Picture(png, alt, each.lines))
        if drawn:
            gallery = Gallery(
                "",
                tuple(columns),
                tuple(GalleryRow(task, tuple(pictures)) for task, pictures in rows.items()),
                note="A test slice of each task; the first column has the true labels. Colours are"
                " the classes that the task's network sees. First pair of the bank.",
            )
            yield Section(f"The same slice after each stage: {name}", (gallery,))
