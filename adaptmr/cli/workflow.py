"""The commands that run workflows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptmr.cli.shared import Json, Out, example, print_json
from adaptmr.workflows.registry.trigger import Trigger

if TYPE_CHECKING:
    from adaptmr.workflows.orchestration.run import Outcome

commands = typer.Typer()
workflow = typer.Typer(help="Run chains of stages that are cached, gated and resumable.")
commands.add_typer(workflow, name="workflow")

ConfigFile = Annotated[
    Path, typer.Argument(help="YAML file of a workflow; see docs/workflows.md and examples/.")
]


@workflow.command(epilog=example("adaptmr workflow run examples/train-bank.yaml --out run"))
def run(
    config: ConfigFile,
    out: Out,
    trigger: Annotated[
        Trigger | None,
        typer.Option(help="What asks for a retraining.", show_default="what the file says"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a workflow; call again to continue, or to see that all is done."""
    from adaptmr.workflows.orchestration.run import run_workflow
    from adaptmr.workflows.stages.config import asked_by, load_workflow

    _tell(run_workflow(asked_by(load_workflow(config), trigger), out), as_json)


@workflow.command(epilog=example("adaptmr workflow ui run"))
def ui(
    out: Annotated[Path, typer.Argument(help="Folder of a workflow that was run or begun.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 3000,
) -> None:
    """Show the stages of a workflow in a browser of this machine, by Dagster's server."""
    from adaptmr.workflows.orchestration.ui import serve

    raise typer.Exit(serve(out, port))


@commands.command(epilog=example("adaptmr stage sampler examples/train-bank.yaml --out run"))
def stage(
    name: Annotated[str, typer.Argument(help="Name of the stage, as a run of the workflow tells.")],
    config: ConfigFile,
    out: Out,
    as_json: Json = False,
) -> None:
    """Run one stage of a workflow by itself, and before it what is missing of what it needs."""
    from adaptmr.workflows.orchestration.run import run_stage
    from adaptmr.workflows.stages.config import load_workflow

    _tell(run_stage(load_workflow(config), out, name), as_json)


def _tell(outcome: "Outcome", as_json: bool) -> None:
    if as_json:
        print_json(outcome)
        return
    count = len(outcome.stages)
    typer.echo(f"{count} stages done, {len(outcome.computed)} of them now")
    for name, path in outcome.results.items():
        typer.echo(f"  {name}: {path}")
