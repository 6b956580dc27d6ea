"""A report of reconstructed files."""

from collections.abc import Sequence
from pathlib import Path

from adaptmr.data.doors import open_scan
from adaptmr.data.fastmri import read_images
from adaptmr.data.target import with_target
from adaptmr.reconstruction.metrics import PROTOCOLS, ProtocolName
from adaptmr.workflows.environment import environment
from adaptmr.workflows.reconstruction import Reconstruction, Settings, mask_of
from adaptmr.workflows.report import Report, Section, comparison, data_section, facts, write_report

PROTOCOL = ProtocolName.FASTMRI_VOLUME


def report_reconstructions(
    path: Path,
    method: str,
    done: Sequence[Reconstruction],
    settings: Settings,
    *,
    overwrite: bool = False,
) -> None:
    """Write a report with the images of each file, beside the reference of fully sampled scans.

    Raises:
        BadInputError: the report exists or cannot be written, or a file changed meanwhile.
    """
    measured = "with their errors" if settings.masks is not None else "as acquired"
    report = Report(
        f"Reconstruction by {method}",
        f"{len(done)} scans reconstructed by {method}, {measured}.",
        (
            *(_compared(method, one, settings) for one in done),
            data_section([(one.source.name, f"{one.slices} slices") for one in done], []),
            facts("Files", {one.output.name: f"mask {one.mask}" for one in done}),
            facts("Software and hardware", environment(settings.device)),
        ),
    )
    write_report(report, path, overwrite=overwrite)


def _compared(method: str, one: Reconstruction, settings: Settings) -> Section:
    scan = open_scan(one.source)
    images = read_images(one.output, "reconstruction")[:]
    mask = mask_of(scan, settings.masks, settings.seed)
    kspace = scan.kspace[scan.slices // 2]
    if settings.masks is None:
        return comparison(scan.name, None, {method: images}, mask, kspace=kspace)
    reference = scan.target or with_target(scan).target
    assert reference is not None  # noqa: S101 - with_target sees to it
    targets = reference[:]
    return comparison(
        scan.name,
        targets,
        {method: images},
        mask,
        metrics={method: PROTOCOLS[PROTOCOL](images, targets)},
        protocol=PROTOCOL,
        kspace=kspace,
    )
