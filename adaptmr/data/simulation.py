"""Simulated raw data: an anatomy seen by a scanner, written as fastMRI HDF5."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from adaptmr.data.acquisition.coils import noise
from adaptmr.data.acquisition.measurement import (
    Geometry,
    draw_scanner,
    magnitude,
    measure,
    slice_axis,
)
from adaptmr.data.acquisition.trajectory import Lines, lines
from adaptmr.data.anatomy.anatomy import Anatomy
from adaptmr.data.anatomy.head import Head
from adaptmr.data.anatomy.signal import (
    SEQUENCES,
    Contrast,
    InversionRecovery,
    SpoiledGradientEcho,
)
from adaptmr.data.anatomy.tissue import FIELD_STRENGTHS, LESIONS, Tissue
from adaptmr.data.anatomy.volumes import Volume, volume_paths
from adaptmr.data.fastmri import write_scan
from adaptmr.data.scan import Header, Orientation, Scan, Stack

_NOISE_SAMPLES = 1024
"""Samples of the noise scan before the acquisition."""

_PREFIXES = {Orientation.AXIAL: "AX", Orientation.SAGITTAL: "SAG", Orientation.CORONAL: "COR"}


class _Stream(IntEnum):
    """Independent streams of randomness of one subject."""

    ANATOMY = 0
    SCANNER = 1
    LINES = 2
    NOISE = 3


_Size = Annotated[int, Field(ge=8, le=1024)]
_Length = Annotated[float, Field(gt=0)]


def _tabulated(field_strength: float) -> float:
    if field_strength not in FIELD_STRENGTHS:
        raise ValueError("relaxation times are known at 1.5 and 3.0 tesla")
    return field_strength


class SimulationConfig(BaseModel):
    """What to simulate. Sizes are (readout, phase); lengths in mm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subjects: int = Field(10, ge=1)
    """Number of subjects; each is scanned once per contrast."""
    seed: int = Field(0, ge=0)
    """Everything random follows from it and from the subject's number alone."""
    contrasts: tuple[Contrast, ...] = Field((Contrast.T2,), min_length=1)
    """Contrasts of each subject; an image volume is only ever scanned in its own."""
    orientation: Orientation = Orientation.AXIAL
    matrix: tuple[_Size, _Size] = (128, 128)
    """Size of the image in pixels."""
    field_of_view: tuple[_Length, _Length] = (230.0, 230.0)
    """What lies outside is cut off, as by a saturation band; it does not fold in."""
    slices: int = Field(8, ge=1)
    slice_spacing: float | None = Field(None, gt=0)
    """Distance of the slices' centres; when not given they cover four fifths of the brain."""
    slice_thickness: float | None = Field(None, gt=0)
    """When not given, 5 mm or the spacing, whichever is less."""
    field_strength: Annotated[float, AfterValidator(_tabulated)] = 3.0
    """1.5 or 3.0 tesla."""
    coils: int = Field(8, ge=1, le=32)
    snr: float = Field(30.0, gt=0)
    """Mean of the noise-free root-sum-of-squares image over the object, over the standard deviation
    of the real part of one coil's noise (root mean square over the coils); the Fourier transform is
    unitary, so that the latter is the same in k-space and in the image."""
    noise_correlation: float = Field(0.4, ge=0, lt=1)
    """Share of the noise that comes from the head and is common to neighbouring coils."""
    readout_oversampling: int = Field(1, ge=1, le=4)
    """Samples along the readout, over those that the image has."""
    phase_resolution: float = Field(1.0, gt=0.2, le=1)
    """Share of the columns that exist; the rest are zero padding."""
    partial_fourier: float = Field(1.0, gt=0.5, le=1)
    """Share of those columns that are measured."""
    dropped_lines: float = Field(0.0, ge=0, lt=0.8)
    """Share of the measured columns that are lost, outside the centre of k-space."""
    white_matter_lesions: bool = True
    """Whether parametric heads have them, more with age; volumes have what their labels say."""
    tumour_probability: float = Field(0.2, ge=0, le=1)
    """Of parametric heads; volumes have what their labels say."""
    anatomy: tuple[Path, ...] = ()
    """NIfTI volumes, or folders of them, in place of the parametric head; subjects take turns."""


@dataclass(frozen=True)
class Truth:
    """What is known of a simulated scan beside its raw data.

    Attributes:
        datasets: ``labels`` and ``lesions`` (slices, rows, columns) uint8, numbered as `Tissue` and
            as the places in `LESIONS` from 1; ``ground_truth`` float32, the root sum of squares
            without noise and with every line measured.
        attributes: what is known of the subject, for classification and regression.
    """

    datasets: dict[str, NDArray[np.generic]]
    attributes: dict[str, str | float | int]


def simulate(config: SimulationConfig, out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Simulate and write scans, one file after another; memory does not grow with their number.

    A file depends on the seed and the subject's number, on neither the number of subjects nor the
    other contrasts.

    Args:
        config: what to simulate.
        out: folder for ``sim_s<seed>_<subject>_<acquisition>.h5``.
        overwrite: whether existing files may be replaced.

    Yields:
        Each file, once it is complete.

    Raises:
        BadInputError: an anatomy cannot be used, or an output exists or cannot be written.
    """
    paths = volume_paths(config.anatomy)
    for number in range(config.subjects):
        anatomy = _anatomy(config, paths, number)
        for contrast in anatomy.contrasts or config.contrasts:
            scan, truth = scan_anatomy(config, anatomy, number, contrast)
            path = out / scan.name
            write_scan(
                scan,
                path,
                overwrite=overwrite,
                extra_datasets=truth.datasets,
                extra_attributes=truth.attributes,
            )
            yield path


def simulate_scan(
    config: SimulationConfig, subject: int, contrast: Contrast | None = None
) -> tuple[Scan, Truth]:
    """Simulate one scan in memory; it is the one that `simulate` writes for this subject.

    Args:
        config: what to simulate.
        subject: number of the subject, from 0; need not be below ``config.subjects``.
        contrast: the contrast; the first of the config, or the image's own, when not given.

    Raises:
        BadInputError: an anatomy cannot be used, or there is no table for the field strength.
    """
    anatomy = _anatomy(config, volume_paths(config.anatomy), subject)
    own = anatomy.contrasts or config.contrasts
    return scan_anatomy(config, anatomy, subject, contrast or own[0])


def _generator(config: SimulationConfig, subject: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(subject, *key)))


def _anatomy(config: SimulationConfig, paths: tuple[Path, ...], subject: int) -> Anatomy:
    generator = _generator(config, subject, _Stream.ANATOMY)
    if paths:
        return Volume.load(paths[subject % len(paths)], generator)
    return Head.draw(
        generator,
        white_matter_lesions=config.white_matter_lesions,
        tumour_probability=config.tumour_probability,
    )


def scan_anatomy(
    config: SimulationConfig, anatomy: Anatomy, subject: int, contrast: Contrast
) -> tuple[Scan, Truth]:
    """Simulate one scan of any anatomy, with its labels at the very same points.

    Args:
        config: what to simulate; its own anatomy does not count.
        anatomy: what is scanned.
        subject: number of the subject, from which scanner, lines and noise follow.
        contrast: one that the anatomy can be seen in.

    Raises:
        BadInputError: there is no table for the field strength.
    """
    scanner = draw_scanner(
        _generator(config, subject, _Stream.SCANNER),
        coils=config.coils,
        noise_correlation=config.noise_correlation,
        field_strength=config.field_strength,
    )
    key = tuple(Contrast).index(contrast)
    layout = lines(
        config.matrix[1],
        phase_resolution=config.phase_resolution,
        partial_fourier=config.partial_fourier,
        dropped=config.dropped_lines,
        generator=_generator(config, subject, _Stream.LINES, key),
    )
    geometry = _geometry(config, anatomy)
    measured = measure(anatomy, scanner, geometry, contrast, config.field_strength)
    kspace, labels = measured.kspace, measured.labels
    truth = magnitude(kspace, config.matrix)
    visible = truth[measured.visible]
    deviation = float(visible.mean()) / config.snr if visible.size else 0.0

    generator = _generator(config, subject, _Stream.NOISE, key)
    prescan = deviation * noise(scanner.covariance, (_NOISE_SAMPLES,), generator)
    for values in kspace:
        values += deviation * noise(scanner.covariance, values.shape[1:], generator)
    kspace[..., ~layout.acquired] = 0
    target = torch.from_numpy(magnitude(kspace, config.matrix))
    acquisition = _PREFIXES[config.orientation] + contrast
    scan = Scan(
        name=f"sim_s{config.seed}_{subject:04d}_{acquisition}.h5",
        kspace=Stack.of(torch.from_numpy(kspace)),
        acquired=torch.from_numpy(layout.acquired),
        padding=layout.padding,
        header=_header(config, anatomy, subject, contrast, layout, geometry),
        target=Stack.of(target),
        maximum=float(target.max()),
        noise=torch.from_numpy(prescan.astype(np.complex64)),
    )
    lesions = np.zeros_like(labels)
    for number, tissue in enumerate(LESIONS, start=1):
        lesions[labels == tissue] = number
    return scan, Truth(
        datasets={"labels": labels, "lesions": lesions, "ground_truth": truth},
        attributes={
            **anatomy.attributes,
            "lesion": int(lesions.any()),
            "tumour": int((labels == Tissue.TUMOUR).any()),
            "lesion_volume_ml": float((lesions > 0).sum()) * geometry.voxel / 1000,
            "snr": config.snr,
            "noise_deviation": deviation,
            "slice_spacing_mm": geometry.spacing,
            "slice_thickness_mm": geometry.thickness,
        },
    )


def _geometry(config: SimulationConfig, anatomy: Anatomy) -> Geometry:
    low, high = (corner[slice_axis(config.orientation)] for corner in anatomy.focus)
    spacing = config.slice_spacing or 0.8 * (high - low) / config.slices
    return Geometry(
        matrix=config.matrix,
        field_of_view=config.field_of_view,
        readout_oversampling=config.readout_oversampling,
        slices=config.slices,
        spacing=spacing,
        thickness=config.slice_thickness or min(5.0, spacing),
        orientation=config.orientation,
    )


def _header(
    config: SimulationConfig,
    anatomy: Anatomy,
    subject: int,
    contrast: Contrast,
    layout: Lines,
    geometry: Geometry,
) -> Header:
    columns = config.matrix[1]
    left, right = layout.padding
    known = Header(
        acquisition=_PREFIXES[config.orientation] + contrast,
        subject=anatomy.subject or f"sim-{config.seed}-{subject:04d}",
        encoded_matrix=(*geometry.sampled, 1),
        recon_matrix=(*geometry.matrix, 1),
        encoded_field_of_view=(*geometry.encoded_field_of_view, geometry.thickness),
        recon_field_of_view=(*geometry.field_of_view, geometry.thickness),
        phase_limits=(0, columns // 2 - left, right - left - 1),
        field_strength=config.field_strength,
        orientation=config.orientation.value,
    )
    if anatomy.contrasts is not None:
        return known  # the sequence behind an image is not known
    sequence = SEQUENCES[contrast]
    return known.model_copy(
        update={
            "repetition_time": sequence.repetition_time,
            "echo_time": sequence.echo_time,
            "inversion_time": sequence.inversion_time
            if isinstance(sequence, InversionRecovery)
            else None,
            "flip_angle": sequence.flip_angle
            if isinstance(sequence, SpoiledGradientEcho)
            else 90.0,
        }
    )
