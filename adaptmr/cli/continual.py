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
