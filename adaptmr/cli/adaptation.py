"""The command that adapts a bank to a new site."""

from pathlib import Path
from typing import Annotated

import typer

from adaptmr.cli.shared import Json, Out, Overwrite, example, print_json
from adaptmr.continual.adapt.bank import NewMask
from adaptmr.continual.adapt.family import Strategy

commands = typer.Typer()


@commands.command(
    epilog=example("adaptmr adapt bank scans/ --out site")
    + "\n\n"
    + example("adaptmr reconstruct more/ --bank bank --adapter site --out OUT")
)
def adapt(
    bank: Annotated[Path, typer.Argument(help="Folder of the bank, which stays as it is.")],
    scans: Annotated[
        Path,
        typer.Argument(help="Folder of 4 to 64 fastMRI files, all fully sampled or none."),
    ],
    out: Out,
    strategy: Annotated[
        Strategy, typer.Option(help="How weights may change; see docs/adapting.md.")
    ] = Strategy.SCALE_SHIFT,
    rank: Annotated[
        int | None, typer.Option(min=1, show_default="4", help="Of low-rank changes.")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="Mask to adapt to: JSON from a bank, or a list of lines from `select`."),
    ] = None,
    new_mask: Annotated[
        NewMask,
        typer.Option(help="What becomes of a network for a mask that the bank lacks."),
    ] = NewMask.JOIN,
    epochs: Annotated[int | None, typer.Option(min=1, show_default="50")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, show_default="1", help="Slices per step.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0.0, show_default="the strategy's own")
    ] = None,
    validation_fraction: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=0.9,
            show_default="0.25",
            help="Share of the subjects that choose the epoch; 0 keeps the last one.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, show_default="0")] = None,
    resume: Annotated[
        bool, typer.Option(help="Continue what was stopped, or throw it away.")
    ] = True,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Adapt a bank to a new site, contrast, anatomy or mask; out comes a small delta.

    Undersampled scans teach by what they hold: lines that are hidden from the network and then
    predicted. Call again to continue what was stopped.
    """
    from adaptmr.workflows.adaptation import adapt_bank, adaptation_config

    config = adaptation_config(
        strategy,
        {
            "rank": rank,
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "validation_fraction": validation_fraction,
            "seed": seed,
        },
    )
    done = adapt_bank(
        bank,
        scans,
        config,
        out,
        mask=mask,
        new_mask=new_mask,
        overwrite=overwrite,
        resume=resume,
    )
    if as_json:
        print_json(done)
        return
    for pair in done.pairs:
        change = (
            ""
            if pair.before is None
            else f", validation loss {pair.before:.4f} -> {pair.after:.4f}"
        )
        typer.echo(f"  pair {pair.pair}: {pair.trained_numbers:,} numbers{change}")
    for note in done.notes:
        typer.echo(f"  note: {note}", err=True)
    typer.echo(f"The delta is in {done.delta} ({done.bytes / 1000:,.0f} kB)")
