"""The commands of continual training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptmr.cli.shared import Json, Out, Overwrite, example, print_json

if TYPE_CHECKING:
    from adaptmr.workflows.continual.report import ContinualReport

commands = typer.Typer(help="One bank, task after task, nothing forgotten.", no_args_is_help=True)

Resume = Annotated[bool, typer.Option(help="Continue what was stopped, or throw it away.")]


@commands.command(
    epilog=example("adaptmr continual train-task examples/task-small.yaml --out tissue")
)
def train_task(
    config: Annotated[Path, typer.Argument(help="YAML file; see docs/continual.md and examples/.")],
    out: Out,
    resume: Resume = True,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train the network of a task on fully sampled images, or take one over from elsewhere."""
    from adaptmr.workflows.config import load_config
    from adaptmr.workflows.continual import tasks
    from adaptmr.workflows.continual.config import TaskConfig

    trained = tasks.train_task(
        load_config(config, TaskConfig), out, overwrite=overwrite, resume=resume
    )
    if as_json:
        print_json(trained)
        return
    typer.echo(
        f"{trained.metric} {trained.score:.3f} on the fully sampled images of"
        f" {trained.subjects} subjects that it was not trained on"
    )
    typer.echo(f"The task is in {trained.task}")


@commands.command(epilog=example("adaptmr continual run examples/continual-small.yaml --out run"))
def run(
    config: Annotated[Path, typer.Argument(help="YAML file; see docs/continual.md and examples/.")],
    out: Out,
    resume: Resume = True,
    as_json: Json = False,
) -> None:
    """Learn tasks one after another with a bank; call again to continue, or with more tasks."""
    from adaptmr.workflows.config import load_config
    from adaptmr.workflows.continual import report as reports
    from adaptmr.workflows.continual.config import SequenceConfig
    from adaptmr.workflows.continual.run import REPORT, run_sequence

    run_sequence(load_config(config, SequenceConfig), out, resume=resume)
    _told(reports.report([out], out / REPORT, overwrite=True), as_json)
    if not as_json:
        typer.echo(f"The bank is in {out / 'bank'}")


@commands.command(epilog=example("adaptmr continual report run --out report.html"))
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of sequences of the same tasks.")],
    out: Annotated[Path, typer.Option("--out", help="The HTML file.")],
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare what strategies kept and forgot; sequences of one strategy are taken for seeds."""
    from adaptmr.workflows.continual import report as reports

    _told(reports.report(runs, out, overwrite=overwrite), as_json)


@commands.command(epilog=example("adaptmr continual buffer run"))
def buffer(
    out: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a sequence.")],
    as_json: Json = False,
) -> None:
    """List what a sequence keeps of its subjects."""
    from adaptmr.workflows.continual.buffers import kept_scans

    kept = kept_scans(out)
    if as_json:
        print_json({"scans": [each.model_dump(mode="json") for each in kept]})
        return
    for each in kept:
        typer.echo(
            f"{each.stage}  {each.task}  {each.subject}  {each.scan}"
            f"  {each.slices} slices, {each.bytes:,} bytes"
        )
    typer.echo(f"{len(kept)} scans of {len({each.subject for each in kept})} subjects")


@commands.command(epilog=example("adaptmr continual erase run --subject sub-03"))
def erase(
    out: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a sequence.")],
    subject: Annotated[str, typer.Option(help="Key of the subject.")],
    as_json: Json = False,
) -> None:
    """Erase a subject from all buffers and records of a sequence; weights stay as they are."""
    from adaptmr.workflows.continual.buffers import erase_subject

    erased = erase_subject(out, subject)
    if as_json:
        print_json(erased)
        return
    typer.echo(f"Erased from {len(erased.stages)} stages; it cannot come back into their buffers")
    typer.echo("Weights may retain an influence: train again without the subject to be rid of it")


def _told(found: "ContinualReport", as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for each in found.measures:
        line = f"{each.strategy}: average {each.average:.3f}"
        if "forgetting" in each.values:
            mean, low, high = each.values["forgetting"]
            line += f", forgetting {mean:.3f} [{low:.3f}, {high:.3f}]"
        typer.echo(line)
    typer.echo(f"The report is {found.report}")
