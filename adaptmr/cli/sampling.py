"""The commands of adaptive sampling: uncertainty, banks of masks, the choice of a mask."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from adaptmr.cli.shared import Json, Out, Overwrite, example, print_json
from adaptmr.sampling.frame import Positions
from adaptmr.sampling.informed import Law
from adaptmr.sampling.selection import PRESETS, PresetName, UncertaintyConfig
from adaptmr.sampling.selectors import SelectorName, selector

commands = typer.Typer()
_BUILD = "adaptmr masks build --sampler sampler --scans scans --acceleration 4 --out bank"
masks = typer.Typer(no_args_is_help=True, epilog=example(f"{_BUILD} --json"))
commands.add_typer(masks, name="masks", help="Masks that a scanner can choose among.")

ScanFile = Annotated[Path, typer.Argument(help="Scan that holds at least the low frequencies.")]
SamplerFolder = Annotated[
    Path, typer.Option("--sampler", help="Folder that `train --only sampler` wrote.")
]
_PRESET = (
    "Published settings of all but the sampler; an option given beside it overrides one of them."
    " hong2024: 3 masks, weighted draw, 10 samples, magnitude image, nearest centroid."
)
Preset = Annotated[PresetName, typer.Option(help=_PRESET)]
Samples = Annotated[int | None, typer.Option(help="Samples per slice.")]
Seed = Annotated[int | None, typer.Option(help="Of the samples.")]
Coils = Annotated[
    bool | None,
    typer.Option(
        "--coils/--magnitude",
        help="Variance of the coils' k-space, or of the transform of the magnitude image.",
    ),
]


Smoothing = Annotated[
    float | None, typer.Option(help="Of the variance over neighbours, in k-space positions.")
]


def _uncertainty(
    base: UncertaintyConfig,
    samples: int | None,
    seed: int | None,
    coils: bool | None,
    smoothing: float | None,
) -> UncertaintyConfig:
    from adaptmr.workflows.config import overridden

    given = {"samples": samples, "seed": seed, "coils": coils, "smoothing": smoothing}
    return overridden(base, given, "the uncertainty cannot be found so")


@commands.command(epilog=example("adaptmr uncertainty scan.h5 --sampler sampler --out uncertainty"))
def uncertainty(
    scan: ScanFile,
    sampler: SamplerFolder,
    out: Out,
    preset: Preset = PresetName.HONG2024,
    samples: Samples = None,
    seed: Seed = None,
    coils: Coils = None,
    smoothing: Smoothing = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure where in k-space the low frequencies leave a slice uncertain, and draw it."""
    from adaptmr.workflows.sampling import measure_file

    config = _uncertainty(PRESETS[preset].uncertainty, samples, seed, coils, smoothing)
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
    preset: Preset = PresetName.HONG2024,
    count: Annotated[int | None, typer.Option("--masks", "-J", help="How many masks.")] = None,
    law: Annotated[
        Law | None, typer.Option(help="How positions are drawn from the uncertainty.")
    ] = None,
    power: Annotated[
        float | None, typer.Option(help="Exponent of the uncertainty before the draw.")
    ] = None,
    sort_fraction: Annotated[
        float | None, typer.Option(help="Share taken from the top before the draw, 0 to 1.")
    ] = None,
    one_of_mirrored: Annotated[
        bool | None, typer.Option(help="Pass position -k over once k is acquired.")
    ] = None,
    refine: Annotated[
        int,
        typer.Option(
            min=0, help="Masks to try per cluster for more captured variance; 0 keeps the draw."
        ),
    ] = 0,
    samples: Samples = None,
    seed: Seed = None,
    coils: Coils = None,
    smoothing: Smoothing = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Cluster the uncertainty of training scans and draw one mask for each cluster."""
    from adaptmr.sampling.bank import RefineConfig
    from adaptmr.workflows.config import overridden
    from adaptmr.workflows.reconstruction import scan_files
    from adaptmr.workflows.selection import build_bank

    settings, problem = PRESETS[preset], "such a bank cannot be built"
    drawing = {
        "law": law,
        "power": power,
        "sort_fraction": sort_fraction,
        "one_of_mirrored": one_of_mirrored,
    }
    rule = overridden(settings.bank.rule, drawing, problem)
    built = build_bank(
        scan_files([scans]),
        sampler,
        out,
        kind,
        acceleration,
        overridden(settings.bank, {"masks": count, "rule": rule}, problem),
        _uncertainty(settings.uncertainty, samples, seed, coils, smoothing),
        refinement=RefineConfig(evaluations=refine) if refine else None,
        overwrite=overwrite,
    )
    if as_json:
        print_json(built)
        return
    typer.echo(
        f"{len(built.populations)} masks of {built.budget} {kind.value}"
        f" ({built.acceleration:.2f}x) are in {out};"
        f" training slices of each: {', '.join(map(str, built.populations))};"
        f" share of their variance: {_shares(built.captured)}"
        + (f", before refinement {_shares(before)}" if (before := built.captured_before) else "")
    )


@commands.command(epilog=example("adaptmr select scan.h5 --out choice"))
def select(
    scan: ScanFile,
    out: Out,
    bank: Annotated[
        Path | None,
        typer.Option(
            show_default="the shipped bank",
            help="Folder of a reconstruction bank, or of the masks that `masks build` wrote.",
        ),
    ] = None,
    sampler: Annotated[
        Path | None,
        typer.Option(
            help="Folder that `train --only sampler` wrote, for a bank of masks; fixed and uniform"
            " need none."
        ),
    ] = None,
    rule: Annotated[
        SelectorName | None,
        typer.Option(
            "--selector",
            show_default="that of the reconstruction bank, else nearest",
            help="What chooses the mask.",
        ),
    ] = None,
    preset: Annotated[
        PresetName | None,
        typer.Option(show_default="as the bank was built", help=_PRESET),
    ] = None,
    samples: Samples = None,
    seed: Seed = None,
    coils: Coils = None,
    smoothing: Smoothing = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Choose a mask for each slice (for the whole of a 3-D scan) by its low frequencies alone."""
    from adaptmr.workflows.selection import open_adaptation, select_file

    adaptation = open_adaptation(bank, sampler)
    settings = None if preset is None else PRESETS[preset]
    base = adaptation.config if settings is None else settings.uncertainty
    name = rule or (None if settings is None else settings.selector)
    adaptation = replace(
        adaptation,
        selector=adaptation.selector if name is None else selector(name),
        config=_uncertainty(base, samples, seed, coils, smoothing),
    )
    chosen = select_file(scan, adaptation, out, overwrite=overwrite)
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


def _shares(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
