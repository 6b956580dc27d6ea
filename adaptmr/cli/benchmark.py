"""The command that measures whether adaptive selection pays."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from adaptmr.cli.shared import Json, Out, Overwrite, example, print_json

commands = typer.Typer()


@commands.command(epilog=example("adaptmr benchmark examples/benchmark-small.yaml --out benchmark"))
def benchmark(
    config: Annotated[
        Path, typer.Argument(help="YAML file; see docs/benchmarking.md and examples/.")
    ],
    out: Out,
    resume: Annotated[
        bool, typer.Option(help="Continue what was stopped, or throw it away.")
    ] = True,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare adaptive selection with fixed, random and learned masks; call again to continue."""
    from adaptmr.reconstruction.training.run import run_folder
    from adaptmr.workflows.benchmark import run
    from adaptmr.workflows.benchmark.config import BenchmarkConfig
    from adaptmr.workflows.config import load_config

    settings = load_config(config, BenchmarkConfig)
    if not resume:
        shutil.rmtree(run_folder(out), ignore_errors=True)
    result = run.benchmark(settings, out, overwrite=overwrite)
    if as_json:
        print_json(result)
        return
    typer.echo(result.verdict)
    typer.echo(f"The report is {out / run.REPORT}")
