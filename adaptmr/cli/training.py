"""The command that trains."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from adaptmr.cli.shared import Json, Out, Overwrite, example, print_json

commands = typer.Typer()


class Part(StrEnum):
    """What is trained."""

    NETWORK = "network"
    SAMPLER = "sampler"


@commands.command(epilog=example("adaptmr train examples/varnet-small.yaml --out network"))
def train(
    config: Annotated[Path, typer.Argument(help="YAML file; see docs/training.md and examples/.")],
    out: Out,
    only: Annotated[
        Part, typer.Option(help="A reconstruction network, or a sampler of what a slice may be.")
    ] = Part.NETWORK,
    resume: Annotated[
        bool, typer.Option(help="Continue a training that was stopped, or throw it away.")
    ] = True,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train a network or a sampler on fully sampled scans; call again to continue."""
    from adaptmr.workflows.config import load_config

    if only is Part.SAMPLER:
        from adaptmr.workflows.sampling import TrainSamplerConfig, train_sampler

        sampler = load_config(config, TrainSamplerConfig)
        folder = train_sampler(sampler, out, overwrite=overwrite, resume=resume)
    else:
        from adaptmr.reconstruction.training.config import TrainConfig
        from adaptmr.reconstruction.training.run import train as train_network

        network = load_config(config, TrainConfig)
        folder = train_network(network, out, overwrite=overwrite, resume=resume)
    if as_json:
        print_json({only.value: str(folder)})
    else:
        typer.echo(f"The {only.value} is in {folder}")
