"""The commands that take or make scans and images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from adaptmr.cli.shared import Device, Json, Out, Overwrite, example, finish, for_each, print_json
from adaptmr.data.anatomy.signal import Contrast
from adaptmr.data.scan import Orientation
from adaptmr.reconstruction.metrics import ProtocolName

if TYPE_CHECKING:
    from adaptmr.workflows.evaluation import Evaluation

commands = typer.Typer()


@commands.command(epilog=example("adaptmr demo --out demo"))
def demo(
    out: Out,
    scans: Annotated[
        list[Path] | None,
        typer.Argument(help="Fully sampled scans to show instead of simulated ones."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated subjects.")] = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Let the shipped bank choose masks and reconstruct, compare, write a report."""
    from adaptmr.workflows.demo.run import run_demo

    result = run_demo(out, scans=scans or (), seed=seed, overwrite=overwrite)
    if as_json:
        print_json(result)
        return
    table = Table("method", "masks", "acceleration", "SSIM", "PSNR (dB)", "NMSE")
    for row in result.rows:
        nmse, psnr, ssim = _metrics(row.nmse, row.psnr, row.ssim)
        table.add_row(row.method, row.masks, f"{row.acceleration:.2f}", ssim, psnr, nmse)
    Console().print(table)
    typer.echo(result.verdict)
    typer.echo(f"The report is {result.report}")


@commands.command(epilog=example("adaptmr inspect scan.h5 other.cfl"))
def inspect(
    files: Annotated[list[Path], typer.Argument(help="Scans to look into.")],
    as_json: Json = False,
) -> None:
    """Say what is in each file, and what would be refused and why."""
    from adaptmr.data.inspection import inspect as inspect_file

    found, errors = for_each(files, inspect_file)
    if as_json:
        print_json({"files": [f.model_dump(mode="json") for f in found], "errors": errors})
    else:
        for inspection in found:
            _print_inspection(inspection)
    refused = [refusal for inspection in found for refusal in inspection.refusals]
    finish(errors + refused)


def _print_inspection(inspection: BaseModel) -> None:
    values = inspection.model_dump(mode="json")
    table = Table(show_header=False, title=str(values.pop("file")), title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in values.items():
        if value not in (None, [], {}):
            table.add_row(key.replace("_", " "), _shown(value))
    Console().print(table)


def _shown(value: Any) -> str:
    """A value of an inspection as text: numbers to four digits, one line for each named part."""
    if isinstance(value, dict):
        return "\n".join(f"{k}: {_shown(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        lines = isinstance(value[0], str) if value else False
        return ("\n" if lines else ", ").join(_shown(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@commands.command(epilog=example("adaptmr convert scan.h5 scan.mrd"))
def convert(
    source: Annotated[Path, typer.Argument(help="File to read.")],
    destination: Annotated[Path, typer.Argument(help="File to write; its suffix says what.")],
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a scan or image in another format: fastMRI .h5, MRD .mrd, NIfTI .nii.gz."""
    from adaptmr.data.convert import convert as convert_file

    convert_file(source, destination, overwrite=overwrite)
    if as_json:
        print_json({"source": str(source), "destination": str(destination)})
    else:
        typer.echo(f"{source} -> {destination}")


@commands.command(
    epilog=example("adaptmr evaluate --predictions OUT --targets scans/ --protocol fastmri-volume")
)
def evaluate(
    predictions: Annotated[Path, typer.Option(help="Folder of submission files.")],
    targets: Annotated[Path, typer.Option(help="Folder of files with the targets.")],
    protocol: Annotated[
        ProtocolName, typer.Option(help="Definition of the metrics.")
    ] = ProtocolName.FASTMRI_VOLUME,
    acquisition: Annotated[
        str | None, typer.Option(help="Only files of this acquisition, such as AXT2.")
    ] = None,
    acceleration: Annotated[
        int | None, typer.Option(help="Only files that say this acceleration.")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(help="Dataset of the targets that marks the voxels of region-volume."),
    ] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Compare reconstructions with targets under a named protocol."""
    from adaptmr.workflows.evaluation import evaluate as evaluate_folders

    evaluation = evaluate_folders(
        predictions,
        targets,
        protocol,
        acquisition=acquisition,
        acceleration=acceleration,
        region=region,
        device=device,
    )
    if as_json:
        print_json(evaluation)
    else:
        _print_evaluation(evaluation)
    for exclusion in evaluation.excluded:
        typer.echo(f"adaptmr: excluded {exclusion.name}: {exclusion.reason}", err=True)
    finish([exclusion.name for exclusion in evaluation.excluded])


def _print_evaluation(evaluation: "Evaluation") -> None:
    table = Table("volume", "NMSE", "PSNR (dB)", "SSIM", title=f"protocol {evaluation.protocol}")
    for volume in evaluation.volumes:
        table.add_row(volume.name, *_metrics(volume.nmse, volume.psnr, volume.ssim))
    table.add_section()
    mean, spread = evaluation.mean, evaluation.two_std
    table.add_row(f"mean of {len(evaluation.volumes)}", *_metrics(mean.nmse, mean.psnr, mean.ssim))
    table.add_row("2 std", *_metrics(spread.nmse, spread.psnr, spread.ssim))
    Console().print(table)


def _metrics(nmse: float | None, psnr: float | None, ssim: float | None) -> list[str]:
    """NMSE, PSNR and SSIM as text; a dash where there is no finite number."""
    digits = ((nmse, ".5f"), (psnr, ".2f"), (ssim, ".4f"))
    return ["-" if value is None else f"{value:{shown}}" for value, shown in digits]


@commands.command(
    epilog=example("adaptmr simulate --subjects 4 --seed 0 --contrast T2 --out scans")
)
def simulate(
    out: Out,
    subjects: Annotated[int, typer.Option(help="How many subjects.")] = 4,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    contrast: Annotated[
        list[Contrast] | None, typer.Option(help="Contrast of each scan; may be repeated.")
    ] = None,
    anatomy: Annotated[
        list[Path] | None,
        typer.Option(help="NIfTI labels or images, or folders of them, instead of made-up heads."),
    ] = None,
    orientation: Annotated[Orientation, typer.Option(help="Of the slices.")] = Orientation.AXIAL,
    matrix: Annotated[tuple[int, int], typer.Option(help="Readout and phase.")] = (128, 128),
    slices: Annotated[int, typer.Option(help="Slices per scan.")] = 8,
    coils: Annotated[int, typer.Option(help="Receive coils, 1 to 32.")] = 8,
    snr: Annotated[float, typer.Option(help="Signal over one coil's noise.")] = 30.0,
    field_strength: Annotated[float, typer.Option(help="1.5 or 3.0 tesla.")] = 3.0,
    readout_oversampling: Annotated[int, typer.Option(help="Along the readout.")] = 1,
    phase_resolution: Annotated[
        float, typer.Option(help="Share of the columns that exist; the rest is zero padding.")
    ] = 1.0,
    partial_fourier: Annotated[float, typer.Option(help="Share of the lines measured.")] = 1.0,
    dropped_lines: Annotated[float, typer.Option(help="Share of the lines lost.")] = 0.0,
    white_matter_lesions: Annotated[
        bool, typer.Option(help="Whether made-up heads have them.")
    ] = True,
    tumour_probability: Annotated[float, typer.Option(help="Of made-up heads.")] = 0.2,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make raw data of made-up (or given) anatomy, as fastMRI HDF5."""
    from adaptmr.data.simulation import SimulationConfig
    from adaptmr.data.simulation import simulate as simulate_scans
    from adaptmr.workflows.config import checked
    from adaptmr.workflows.progress import track

    contrasts = tuple(contrast or [Contrast.T2])
    values = {
        "subjects": subjects,
        "seed": seed,
        "contrasts": contrasts,
        "anatomy": tuple(anatomy or ()),
        "orientation": orientation,
        "matrix": matrix,
        "slices": slices,
        "coils": coils,
        "snr": snr,
        "field_strength": field_strength,
        "readout_oversampling": readout_oversampling,
        "phase_resolution": phase_resolution,
        "partial_fourier": partial_fourier,
        "dropped_lines": dropped_lines,
        "white_matter_lesions": white_matter_lesions,
        "tumour_probability": tumour_probability,
    }
    config = checked(SimulationConfig, values, "this cannot be simulated")
    scans = simulate_scans(config, out, overwrite=overwrite)
    expected = None if anatomy else subjects * len(contrasts)  # images have their own contrast
    files = list(track(scans, "simulating", expected))
    if as_json:
        print_json({"files": [str(file) for file in files]})
    else:
        typer.echo(f"{len(files)} scans in {out}")
