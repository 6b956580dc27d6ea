"""The command that trains."""

import shutil
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptmr.cli.shared import Json, Out, Overwrite, example, print_json
from adaptmr.errors import UsageError
from adaptmr.workflows.bank_training.preset_names import BankPreset

if TYPE_CHECKING:
    from adaptmr.reconstruction.training.config import TrainConfig
    from adaptmr.workflows.bank_training.config import BankTraining
    from adaptmr.workflows.sampling import TrainSamplerConfig

commands = typer.Typer()


class Part(StrEnum):
    """What is trained by itself."""

    NETWORK = "network"
    SAMPLER = "sampler"


ConfigFile = Annotated[
    Path | None, typer.Argument(help="YAML file; see docs/training.md and examples/.")
]


@commands.command(epilog=example("adaptmr train examples/bank-small.yaml --out bank"))
def train(
    out: Out,
    config: ConfigFile = None,
    preset: Annotated[
        BankPreset | None, typer.Option(help="A configuration of the package, in place of a file.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder that a preset trains on; demo simulates its own.")
    ] = None,
    only: Annotated[
        Part | None,
        typer.Option(help="A reconstruction network, or a sampler, by itself; not a bank."),
    ] = None,
    pair: Annotated[
        int | None,
        typer.Option(min=0, help="Just the network of this mask of the bank; one job for each."),
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Continue what was stopped, or throw it away.")
    ] = True,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train a bank of masks and networks on fully sampled scans; call again to continue."""
    if (config is None) == (preset is None):
        raise UsageError(
            "a training needs a configuration file or a preset, and not both",
            field="config",
            hint="Name a YAML file, or one of the package's with --preset",
        )
    if data is not None and preset is None:
        raise UsageError(
            "a configuration file names its own data", field="data", hint="Change the file"
        )
    if pair is not None and only is not None:
        raise UsageError("a pair is part of a bank", field="pair", hint="Leave --only out")
    if only is None:
        _bank(_bank_config(config, preset, data), out, pair, resume, overwrite, as_json)
        return
    if only is Part.SAMPLER:
        from adaptmr.workflows.sampling import train_sampler

        sampler = _sampler_config(config, preset, data)
        folder = train_sampler(sampler, out, overwrite=overwrite, resume=resume)
    else:
        from adaptmr.reconstruction.training.run import train as train_network

        folder = train_network(_network_config(config), out, overwrite=overwrite, resume=resume)
    if as_json:
        print_json({only.value: str(folder)})
    else:
        typer.echo(f"The {only.value} is in {folder}")


def _bank(
    config: "BankTraining",
    out: Path,
    pair: int | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    from adaptmr.reconstruction.training.run import run_folder
    from adaptmr.workflows.bank_training.run import TrainedBank, train_bank, train_pair

    if not resume:
        shutil.rmtree(run_folder(out), ignore_errors=True)
    trained = (
        train_bank(config, out, overwrite=overwrite)
        if pair is None
        else train_pair(config, out, pair)
    )
    if as_json:
        print_json(trained)
        return
    for took in trained.steps:
        typer.echo(f"  {took.step}: {took.seconds:.1f} s{', done before' if took.reused else ''}")
    if isinstance(trained, TrainedBank):
        typer.echo(f"The bank is in {trained.bank}")
    else:
        typer.echo(f"The network of pair {trained.pair} is in {trained.network}")


def _bank_config(config: Path | None, name: BankPreset | None, data: Path | None) -> "BankTraining":
    from adaptmr.workflows.bank_training.config import BankTraining
    from adaptmr.workflows.bank_training.presets import preset
    from adaptmr.workflows.config import load_config

    if name is not None:
        return preset(name, data)
    assert config is not None  # noqa: S101 - one of the two is given
    return load_config(config, BankTraining)


def _sampler_config(
    config: Path | None, name: BankPreset | None, data: Path | None
) -> "TrainSamplerConfig":
    from adaptmr.workflows.bank_training.presets import sampler_preset
    from adaptmr.workflows.config import load_config
    from adaptmr.workflows.sampling import TrainSamplerConfig

    if name is not None:
        return sampler_preset(name, data)
    assert config is not None  # noqa: S101 - one of the two is given
    return load_config(config, TrainSamplerConfig)


def _network_config(config: Path | None) -> "TrainConfig":
    from adaptmr.reconstruction.training.config import TrainConfig
    from adaptmr.workflows.config import load_config

    if config is None:
        raise UsageError(
            "presets are of banks and samplers",
            field="preset",
            hint="Name a YAML file to train a network by itself",
        )
    return load_config(config, TrainConfig)
