"""The demonstration: simulate, train, reconstruct, measure, and one report of it all."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from adaptmr.data.doors import open_scan
from adaptmr.data.fastmri import read_images, write_scan
from adaptmr.data.files import complete_folder
from adaptmr.data.simulation import SimulationConfig, simulate
from adaptmr.data.target import with_target
from adaptmr.reconstruction.methods import Method, reconstructor
from adaptmr.reconstruction.metrics import ProtocolName
from adaptmr.reconstruction.networks.varnet import VarNetConfig
from adaptmr.reconstruction.training.config import TrainConfig
from adaptmr.reconstruction.training.run import train
from adaptmr.sampling.generators import MaskKind, MaskSpec
from adaptmr.workflows.environment import environment
from adaptmr.workflows.evaluation import Evaluation, evaluate
from adaptmr.workflows.progress import stage, track
from adaptmr.workflows.reconstruction import (
    Settings,
    load_reconstructor,
    mask_of,
    reconstruct_file,
    scan_files,
)
from adaptmr.workflows.report import (
    MethodResult,
    Report,
    Section,
    comparison,
    data_section,
    facts,
    metric_table,
    write_report,
)

PROTOCOL: Final = ProtocolName.FASTMRI_VOLUME
CLASSICAL: Final = (Method.ZERO_FILLED, Method.CG_SENSE, Method.WAVELET)
NETWORK: Final = "varnet"
MASKS: Final = tuple(MaskSpec(kind=MaskKind.RANDOM, acceleration=factor) for factor in (4, 8))


def _training_scans(seed: int) -> SimulationConfig:
    return SimulationConfig(subjects=12, seed=seed, slices=6, coils=6)


def _shown_scans(seed: int) -> SimulationConfig:
    # Another seed, so other subjects.
    return SimulationConfig(subjects=3, seed=seed + 1, slices=6, coils=6)


def _volumes(config: SimulationConfig) -> int:
    return config.subjects * len(config.contrasts)


def _training(data: Path, seed: int) -> TrainConfig:
    return TrainConfig(
        data=data,
        architecture=VarNetConfig(cascades=4, channels=16, pools=2, map_channels=4, map_pools=2),
        masks=MASKS,
        epochs=5,
        batch_size=1,
        learning_rate=2e-3,
        learning_rate_step=4,
        validation_fraction=0.0,
        seed=seed,
    )


class DemoRow(BaseModel):
    """The mean metrics of one method at one acceleration."""

    model_config = ConfigDict(frozen=True)

    method: str
    acceleration: float
    """Asked for; the measured one is in the report."""
    n: int
    ssim: float | None
    psnr: float | None
    nmse: float | None


class DemoResult(BaseModel):
    """What the demonstration found, and where its report is."""

    model_config = ConfigDict(frozen=True)

    report: Path
    protocol: ProtocolName
    rows: tuple[DemoRow, ...]


Evaluations = Mapping[tuple[float, str], Evaluation]


def run_demo(
    out: Path, *, scans: Sequence[Path] = (), seed: int = 0, overwrite: bool = False
) -> DemoResult:
    """Train a small VarNet on simulated scans and compare it with classical methods.

    Args:
        out: folder for the scans, the network, the reconstructions and ``report.html``; appears
            complete at the end.
        scans: fully sampled scans to reconstruct; simulated ones of other subjects when none.
        seed: of the simulation and the training.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: a scan cannot be used, or the output exists or cannot be written.
    """
    sources = scan_files(scans) if scans else []
    with complete_folder(out, overwrite=overwrite) as folder:
        targets = folder / "scans" / "shown"
        if sources:
            for source in track(sources, "reading"):
                write_scan(with_target(open_scan(source)), targets / f"{source.stem}.h5")
        else:
            shown = _shown_scans(seed)
            list(track(simulate(shown, targets), "simulating unseen subjects", _volumes(shown)))
        training = _training_scans(seed)
        data = folder / "scans" / "training"
        list(track(simulate(training, data), "simulating training subjects", _volumes(training)))
        with stage("training a small VarNet on them"):
            train(_training(data, seed), folder / NETWORK)
        evaluations = _reconstruct_all(folder, targets)
        write_report(_report(folder, targets, evaluations, bool(sources)), folder / "report.html")
    return DemoResult(
        report=out / "report.html",
        protocol=PROTOCOL,
        rows=tuple(
            DemoRow(
                method=method,
                acceleration=acceleration,
                n=len(evaluation.volumes),
                ssim=evaluation.mean.ssim,
                psnr=evaluation.mean.psnr,
                nmse=evaluation.mean.nmse,
            )
            for (acceleration, method), evaluation in evaluations.items()
        ),
    )


def _reconstruct_all(folder: Path, targets: Path) -> Evaluations:
    settings = {method.value: Settings(reconstructor(method)) for method in CLASSICAL}
    settings[NETWORK] = Settings(load_reconstructor(folder / NETWORK, Settings.device))
    work = list(product(MASKS, settings, scan_files([targets])))
    for masks, method, scan in track(work, "reconstructing"):
        place = _images_of(folder, masks, method)
        reconstruct_file(scan, place, replace(settings[method], masks=masks))
    return {
        (masks.acceleration, method): evaluate(_images_of(folder, masks, method), targets, PROTOCOL)
        for masks, method in product(MASKS, settings)
    }


def _images_of(folder: Path, masks: MaskSpec, method: str) -> Path:
    return folder / "reconstructions" / f"{masks.acceleration:g}x" / method


def _report(folder: Path, targets: Path, evaluations: Evaluations, own: bool) -> Report:
    files = scan_files([targets])
    origin = "your own" if own else "simulated, of subjects that the network has not seen"
    return Report(
        "adaptmr demonstration",
        _verdict(evaluations, origin),
        (
            _summary(files, evaluations),
            *(_compared(folder, file, masks, evaluations) for file in files for masks in MASKS),
            data_section(
                [(file.name, _described(file, origin)) for file in files],
                [
                    (left_out.name, left_out.reason)
                    for evaluation in list(evaluations.values())[:1]
                    for left_out in evaluation.excluded
                ],
            ),
            facts("Software and hardware", environment()),
        ),
    )


def _verdict(evaluations: Evaluations, origin: str) -> str:
    sentences = []
    for masks in MASKS:
        mean = {
            method: evaluation.mean.ssim
            for (acceleration, method), evaluation in evaluations.items()
            if acceleration == masks.acceleration and evaluation.mean.ssim is not None
        }
        first, second = sorted(mean, key=lambda method: -mean[method])[:2]
        sentences.append(
            f"At {masks.acceleration:g}x {first} is best, SSIM {mean[first]:.3f}, before {second}"
            f" with {mean[second]:.3f} and zero-filled with {mean[Method.ZERO_FILLED]:.3f}."
        )
    return " ".join(
        [
            *sentences,
            f"The scans are {origin}; the network was trained for a minute or two on simulated"
            " heads, so take its numbers as a demonstration of the tools, not of the method.",
        ]
    )


def _summary(files: Sequence[Path], evaluations: Evaluations) -> Section:
    measured = {
        masks.acceleration: sum(mask_of(open_scan(file), masks).acceleration for file in files)
        / len(files)
        for masks in MASKS
    }
    rows = [
        MethodResult(
            method,
            measured[acceleration],
            evaluation.mean.model_dump(),
            f"{acceleration:g}x",
        )
        for (acceleration, method), evaluation in evaluations.items()
    ]
    return Section(
        "Result",
        (
            metric_table(
                "Mean over the volumes",
                rows,
                protocol=PROTOCOL,
                n=len(files),
                note="Too few volumes for intervals.",
            ),
        ),
    )


def _compared(folder: Path, file: Path, masks: MaskSpec, evaluations: Evaluations) -> Section:
    scan = open_scan(file)
    methods = [m for acceleration, m in evaluations if acceleration == masks.acceleration]
    section = comparison(
        file.name,
        read_images(file, "reconstruction_rss")[:],
        {
            method: read_images(_images_of(folder, masks, method) / file.name, "reconstruction")[:]
            for method in methods
        },
        mask_of(scan, masks),
        metrics={
            method: volume
            for method in methods
            for volume in evaluations[masks.acceleration, method].volumes
            if volume.name == file.name
        },
        protocol=PROTOCOL,
        kspace=scan.kspace[scan.slices // 2],
    )
    return replace(section, title=f"{file.name} at {masks.acceleration:g}x")


def _described(file: Path, origin: str) -> str:
    scan = open_scan(file)
    rows, columns = scan.matrix
    return f"{scan.slices} slices, {scan.coils} coils, {rows} × {columns}; {origin}"
