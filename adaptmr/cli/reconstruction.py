"""The command that reconstructs: by a bank, a network or a classical method."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptmr.cli.shared import Device, Json, Out, Overwrite, example, finish, for_each, print_json
from adaptmr.errors import UsageError
from adaptmr.reconstruction.methods import Method, reconstructor
from adaptmr.sampling.generators import MaskKind, MaskSpec

if TYPE_CHECKING:
    from adaptmr.workflows.banks import BankFile
    from adaptmr.workflows.reconstruction import Reconstruction

commands = typer.Typer()


@commands.command(
    epilog=example("adaptmr reconstruct scans/ --out OUT")
    + "\n\n"
    + example("adaptmr reconstruct scans/ --method wavelet --mask vd-2d --out OUT")
)
def reconstruct(
    paths: Annotated[list[Path], typer.Argument(help="Scans, or folders of scans.")],
    out: Out,
    bank: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a reconstruction bank, which chooses mask and network of each slice.",
            show_default="the shipped bank, unless --method or --network is given",
        ),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(help="Folder that `adapt` wrote from the bank, for the site of these scans."),
    ] = None,
    method: Annotated[
        Method | None, typer.Option(help="Classical method; a network takes its place.")
    ] = None,
    network: Annotated[
        Path | None,
        typer.Option(help="Folder that `train` wrote, or fastMRI weights as .safetensors."),
    ] = None,
    mask: Annotated[
        MaskKind | None,
        typer.Option(help="Mask to lay over fully sampled scans; a bank has its own."),
    ] = None,
    acceleration: Annotated[
        float | None, typer.Option(min=1.0, show_default="4", help="Of the mask.")
    ] = None,
    center_fraction: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Fully sampled centre of the mask.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the mask; without it the file name is the seed.")
    ] = None,
    nearest: Annotated[
        bool,
        typer.Option(
            "--nearest",
            help="Reconstruct scans whose mask the bank lacks by the pair of the most similar one.",
        ),
    ] = False,
    submission: Annotated[
        bool,
        typer.Option(
            "--submission", help="Write only what fastMRI's evaluation reads, no intervals."
        ),
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Slices at once.")] = 4,
    device: Device = "cpu",
    report: Annotated[
        Path | None, typer.Option(help="Also write an HTML report with images to this file.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Reconstruct scans into HDF5 files of the same names.

    A bank writes reconstruction, lower and upper bound, and the record of its choices; a method or
    a network writes fastMRI submissions.
    """
    from adaptmr.workflows.bank_report import report_by_bank
    from adaptmr.workflows.banks import BankSettings, open_bank, reconstruct_by_bank, with_adapter
    from adaptmr.workflows.device import usable_device
    from adaptmr.workflows.pictures import report_reconstructions
    from adaptmr.workflows.progress import track
    from adaptmr.workflows.reconstruction import (
        Settings,
        load_reconstructor,
        reconstruct_file,
        scan_files,
    )

    place = usable_device(device)
    done: Sequence[BankFile | Reconstruction]
    if bank is not None or (method is None and network is None):
        without = {
            "--method": method,
            "--network": network,
            "--mask": mask,
            "--acceleration": acceleration,
            "--center-fraction": center_fraction,
            "--seed": seed,
        }
        _refuse("a bank has masks and networks of its own", without)
        if submission and report is not None:
            raise UsageError(
                "a submission has no intervals and no choices that a report could show",
                got="--report and --submission",
                hint="Leave out one of them",
            )
        opened, identity = open_bank(bank)
        by_bank = BankSettings(opened, identity, batch_size, place, nearest, submission)
        if adapter is not None:
            by_bank = with_adapter(by_bank, adapter)
        files = scan_files(paths)
        by_pairs, errors = for_each(
            track(files, "reconstructing"),
            lambda path: reconstruct_by_bank(path, out, by_bank, overwrite=overwrite),
        )
        if report is not None:
            sources = {one.source for one in by_pairs}
            refused = [path.name for path in files if path not in sources]
            reasons = list(zip(refused, errors, strict=True))
            report_by_bank(report, by_pairs, reasons, by_bank, overwrite=overwrite)
        done = by_pairs
    else:
        _refuse("only a bank has masks to be near to", {"--nearest": nearest or None})
        _refuse("only a bank is adapted", {"--adapter": adapter})
        settings = Settings(
            reconstructor=reconstructor(method or Method.CG_SENSE)
            if network is None
            else load_reconstructor(network, place),
            masks=None
            if mask is None
            else MaskSpec(
                kind=mask, acceleration=acceleration or 4.0, center_fraction=center_fraction
            ),
            seed=seed,
            batch_size=batch_size,
            device=place,
        )
        reconstructed, errors = for_each(
            track(scan_files(paths), "reconstructing"),
            lambda path: reconstruct_file(path, out, settings, overwrite=overwrite),
        )
        if report is not None and reconstructed:
            name = str(method) if network is None else network.name
            report_reconstructions(report, name, reconstructed, settings, overwrite=overwrite)
        done = reconstructed
    if as_json:
        print_json({"files": [d.model_dump(mode="json") for d in done], "errors": errors})
    else:
        _tell(done)
    finish(errors)


def _refuse(why: str, options: Mapping[str, object]) -> None:
    """Refuse options that were given though they mean nothing here.

    Raises:
        UsageError: one of them is not None.
    """
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(
            why,
            got=" and ".join(given),
            hint="Give --bank, or --method or --network with a --mask",
        )


def _tell(done: Sequence["BankFile | Reconstruction"]) -> None:
    for one in done:
        typer.echo(
            f"{one.source} -> {one.output} ({one.slices} slices, {one.acceleration:.2f}x,"
            f" {one.seconds:.1f} s, {one.slices / one.seconds:.3g} slices/s)"
        )
        for warning in one.warnings:
            typer.echo(f"  note: {warning}", err=True)
