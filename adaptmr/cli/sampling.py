"""The commands of adaptive sampling: uncertainty, banks of masks, the choice of a mask."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from adaptmr.cli.shared import Json, Out, Overwrite, example, print_json
from adaptmr.sampling.frame import Positions

if TYPE_CHECKING:
    from adaptmr.sampling.selection import UncertaintyConfig

commands = typer.Typer()
_BUILD = "adaptmr masks build --sampler sampler --scans scans --acceleration 4 --out bank"
masks = typer.Typer(no_args_is_help=True, epilog=example(f"{_BUILD} --json"))
commands.add_typer(masks, name="masks", help="Masks that a scanner can choose among.")

ScanFile = Annotated[Path, typer.Argument(help="Scan that holds at least the low frequencies.")]
SamplerFolder = Annotated[
    Path, typer.Option("--sampler", help="Folder that `train --only sampler` wrote.")
]
Samples = Annotated[int, typer.Option(help="Samples per slice.")]
Seed = Annotated[int, typer.Option(help="Of the samples.")]


def _uncertainty(samples: int, seed: int) -> "UncertaintyConfig":
    from adaptmr.sampling.selection import UncertaintyConfig
    from adaptmr.workflows.config import checked

    values = {"samples": samples, "seed": seed}
    return checked(UncertaintyConfig, values, "the uncertainty cannot be found so")


@commands.command(epilog=example("adaptmr uncertainty scan.h5 --sampler sampler --out uncertainty"))
def uncertainty(
    scan: ScanFile,
    sampler: SamplerFolder,
    out: Out,
    samples: Samples = 10,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure where in k-space the low frequencies leave a slice uncertain, and draw it."""
    from adaptmr.workflows.sampling import measure_file

    config = _uncertainty(samples, seed)
    measured = measure_file(scan, sampler, out, config, overwrite=overwrite)
    if as_json:
        print_json(measured)
        return
    for one in measured.slices:
        if not one.known:
            typer.echo(
                f"  note: slice {one.slice_index} has no uncertainty"
                f" ({one.usable} usable samples, {one.rejected} rejected)",
                err=True,
            )
    typer.echo(f"{len(measured.slices)} slices of {measured.scan} are in {out}")


@masks.command(epilog=example(_BUILD))
def build(
    sampler: SamplerFolder,
    scans: Annotated[Path, typer.Option(help="Folder of training scans, or one scan.")],
    out: Out,
    acceleration: Annotated[float, typer.Option(min=1.0, help="Of every mask.")] = 4.0,
    kind: Annotated[
        Positions, typer.Option(help="Lines, or points for scans with two phase-encode axes.")
    ] = Positions.LINES,
    count: Annotated[int, typer.Option("--masks", "-J", help="How many masks.")] = 3,
    samples: Samples = 10,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Cluster the uncertainty of training scans and draw one mask for each cluster."""
    from adaptmr.sampling.bank import BankConfig
    from adaptmr.workflows.config import checked
    from adaptmr.workflows.reconstruction import scan_files
    from adaptmr.workflows.sampling import build_bank

    built = build_bank(
        scan_files([scans]),
        sampler,
        out,
        kind,
        acceleration,
        checked(BankConfig, {"masks": count}, "such a bank cannot be built"),
        _uncertainty(samples, seed),
        overwrite=overwrite,
    )
    if as_json:
        print_json(built)
        return
    typer.echo(
        f"{len(built.populations)} masks of {built.budget} {kind.value}"
        f" ({built.acceleration:.2f}x) are in {out};"
        f" training slices of each: {', '.join(map(str, built.populations))}"
    )


@commands.command(
    epilog=example("adaptmr select scan.h5 --sampler sampler --bank bank --out choice")
)
def select(
    scan: ScanFile,
    sampler: SamplerFolder,
    bank: Annotated[Path, typer.Option(help="Folder that `masks build` wrote.")],
    out: Out,
    samples: Samples = 10,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Choose a mask for each slice (for the whole of a 3-D scan) by its low frequencies alone."""
    from adaptmr.workflows.sampling import select_file

    config = _uncertainty(samples, seed)
    chosen = select_file(scan, sampler, bank, out, config, overwrite=overwrite)
    if as_json:
        print_json(chosen)
        return
    table = Table("slice", "mask", "score of each mask", "ms", "note", title=chosen.decisions.scan)
    for one in chosen.decisions.decisions:
        table.add_row(
            "all" if one.slice_index is None else str(one.slice_index),
            str(one.index),
            "  ".join("-" if score is None else f"{score:.4g}" for score in one.scores),
            f"{one.latency_ms:.0f}",
            one.reason or "",
        )
    Console().print(table)
    typer.echo(f"The decisions, line lists and pictures are in {out}")
