"""Classical methods on scans that no bank fits."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from statistics import fmean
from typing import Final

import torch

from adaptmr.data.scan import Scan
from adaptmr.reconstruction.methods import Method, reconstructor
from adaptmr.reconstruction.metrics import PROTOCOLS, Metrics, ProtocolName
from adaptmr.sampling.generators import MaskKind, MaskSpec
from adaptmr.workflows.demo.part import CLASSICAL, DemoRow, Part
from adaptmr.workflows.progress import track
from adaptmr.workflows.reconstruction import Settings, mask_of, reconstructed
from adaptmr.workflows.report import MethodResult, Section, comparison, metric_table

PROTOCOL: Final = ProtocolName.FASTMRI_VOLUME
MASKS: Final = tuple(MaskSpec(kind=MaskKind.RANDOM, acceleration=factor) for factor in (4, 8))

Measurements = Mapping[tuple[MaskSpec, Method, str], Metrics]


def classical_part(unfit: Mapping[str, str], scans: Sequence[Scan]) -> Part:
    """Compare methods that need no training.

    Args:
        unfit: why the bank does not fit each scan, by its name.
        scans: fully sampled, with targets.

    Raises:
        BadInputError: a scan cannot be read, or shows nothing.
    """
    found: dict[tuple[MaskSpec, Method, str], Metrics] = {}
    sections = []
    for scan, masks in track(list(product(scans, MASKS)), "reconstructing"):
        section, metrics = _compared(scan, masks)
        sections.append(section)
        found |= {(masks, method, scan.name): metrics[method] for method in CLASSICAL}
    accelerations = {
        masks: fmean(mask_of(scan, masks).acceleration for scan in scans) for masks in MASKS
    }
    rows = [
        _mean(found, masks, method, accelerations[masks]) for masks in MASKS for method in CLASSICAL
    ]
    return Part(_verdict(unfit, rows), tuple(rows), (_summary(rows), *sections))


def _compared(scan: Scan, masks: MaskSpec) -> tuple[Section, dict[Method, Metrics]]:
    mask = mask_of(scan, masks)
    assert scan.target is not None  # noqa: S101 - scans of the demonstration have targets
    targets = scan.target[:]
    with torch.inference_mode():
        images = {
            method: reconstructed(scan, mask, Settings(reconstructor(method)))[:]
            for method in CLASSICAL
        }
    metrics = {method: PROTOCOLS[PROTOCOL](image, targets) for method, image in images.items()}
    section = comparison(
        scan.name,
        targets,
        {method.value: image for method, image in images.items()},
        mask,
        metrics={method.value: each for method, each in metrics.items()},
        protocol=PROTOCOL,
        kspace=scan.kspace[scan.slices // 2],
    )
    return replace(section, title=f"{scan.name} at {masks.acceleration:g}x"), metrics


def _mean(found: Measurements, masks: MaskSpec, method: Method, acceleration: float) -> DemoRow:
    volumes = [one for (spec, by, _), one in found.items() if (spec, by) == (masks, method)]
    psnr = [one.psnr for one in volumes if one.psnr is not None]
    return DemoRow(
        method=method.value,
        masks=f"{masks.kind.value}, {masks.acceleration:g}x",
        acceleration=acceleration,
        protocol=PROTOCOL,
        n=len(volumes),
        ssim=fmean(one.ssim for one in volumes),
        psnr=fmean(psnr) if len(psnr) == len(volumes) else None,
        nmse=fmean(one.nmse for one in volumes),
        interval=None,
    )


def _verdict(unfit: Mapping[str, str], rows: Sequence[DemoRow]) -> str:
    groups: dict[str, list[str]] = {}
    for name, reason in unfit.items():
        groups.setdefault(reason, []).append(name)
    reasons = "; ".join(
        f"{names[0]} has {reason}" if len(names) == 1 else f"{len(names)} scans have {reason}"
        for reason, names in groups.items()
    )
    sentences = [
        f"The bank does not fit: {reasons}. So classical methods are compared, which need no"
        " training; the command train makes a bank for such scans."
    ]
    for masks in dict.fromkeys(row.masks for row in rows):
        first, second = sorted((row for row in rows if row.masks == masks), key=_worse)[:2]
        sentences.append(
            f"With masks {masks}, {first.method} is best, SSIM {first.ssim:.3f}, before"
            f" {second.method} with {second.ssim:.3f}."
        )
    return " ".join(sentences)


def _worse(row: DemoRow) -> float:
    return -row.ssim


def _summary(rows: Sequence[DemoRow]) -> Section:
    results = [
        MethodResult(
            row.method,
            row.acceleration,
            {"ssim": row.ssim, "psnr": row.psnr, "nmse": row.nmse},
            row.masks,
        )
        for row in rows
    ]
    table = metric_table("Mean over the volumes", results, protocol=PROTOCOL, n=rows[0].n)
    return Section("Classical methods", (table,))
