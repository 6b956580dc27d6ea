"""The command that trains."""

from pathlib import Path
from typing import Annotated

import typer

from adaptmr.cli.shared import Json, Out, Overwrite, example, print_json

commands = typer.Typer()


@commands.command(epilog=example("adaptmr train examples/varnet-small.yaml --out network"))
def train(
    config: Annotated[Path, typer.Argument(help="YAML file; docs/training.md explains it.")],
    out: Out,
    resume: Annotated[
        bool, typer.Option(help="Continue a training that was stopped, or throw it away.")
    ] = True,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train a network on a folder of fully sampled scans; call again to continue."""
    from adaptmr.reconstruction.training.config import TrainConfig
    from adaptmr.reconstruction.training.run import train as train_network
    from adaptmr.workflows.config import load_config

    settings = load_config(config, TrainConfig)
    folder = train_network(settings, out, overwrite=overwrite, resume=resume)
    if as_json:
        print_json({"network": str(folder)})
    else:
        typer.echo(f"The network is in {folder}")
