"""Simulated raw data: an anatomy seen by a scanner, written as fastMRI HDF5.

The anatomy is sampled on a grid finer than the acquisition's, several times through each slice;
its k-space is computed there and cut to the acquisition's matrix. Gibbs ringing and partial volume
are therefore those of a real scan, and no reconstruction can invert the simulation exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from adaptmr.data.acquisition.coils import coil_array, noise, noise_covariance
from adaptmr.data.acquisition.phase import off_resonance, receive_phase
from adaptmr.data.acquisition.smooth import SmoothMap
from adaptmr.data.acquisition.trajectory import Lines, lines
from adaptmr.data.anatomy.anatomy import Anatomy
from adaptmr.data.anatomy.head import Head
from adaptmr.data.anatomy.signal import (
    SEQUENCES,
    Contrast,
    InversionRecovery,
    SpoiledGradientEcho,
)
from adaptmr.data.anatomy.tissue import LESIONS, Tissue
from adaptmr.data.anatomy.volumes import Volume, volume_paths
from adaptmr.data.fastmri import write_scan
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.kernels.fourier import fourier, inverse_fourier

_FINER = 2
"""Points of the anatomy per pixel and axis."""

_THROUGH = 3
"""Points of the anatomy through the thickness of a slice."""

_NOISE_SAMPLES = 1024
"""Samples of the noise scan before the acquisition."""


class Orientation(StrEnum):
    """Orientation of the slices."""

    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"


@dataclass(frozen=True)
class _Plane:
    """Axes (0 right, 1 front, 2 top) of rows, columns and slices.

    Rows and columns run against theirs: front or top come first, the right side is on the left.
    """

    prefix: str
    rows: int
    columns: int
    slices: int


_PLANES = {
    Orientation.AXIAL: _Plane("AX", 1, 0, 2),
    Orientation.SAGITTAL: _Plane("SAG", 2, 1, 0),
    Orientation.CORONAL: _Plane("COR", 2, 0, 1),
}


class _Stream(IntEnum):
    """Independent streams of randomness of one subject."""

    ANATOMY = 0
    SCANNER = 1
    LINES = 2
    NOISE = 3


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
    matrix: tuple[int, int] = (160, 160)
    """Size of the image in pixels; 8 at least."""
    field_of_view: tuple[float, float] = (240.0, 240.0)
    """What lies outside is cut off, as by a saturation band; it does not fold in."""
    slices: int = Field(8, ge=1)
    slice_spacing: float | None = Field(None, gt=0)
    """Distance of the slices' centres; when not given they cover four fifths of the brain."""
    slice_thickness: float | None = Field(None, gt=0)
    """When not given, 5 mm or the spacing, whichever is less."""
    field_strength: float = 3.0
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
            scan, truth = _scan(config, anatomy, number, contrast)
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
    return _scan(config, anatomy, subject, contrast or own[0])


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


@dataclass(frozen=True)
class _Scanner:
    """What one subject's scans have in common."""

    coils: SmoothMap
    covariance: NDArray[np.complex128]
    off_resonance: SmoothMap
    receive_phase: SmoothMap


def _scanner(config: SimulationConfig, subject: int) -> _Scanner:
    generator = _generator(config, subject, _Stream.SCANNER)
    coils = coil_array(config.coils, generator)
    return _Scanner(
        coils=coils,
        covariance=noise_covariance(coils, config.noise_correlation, generator),
        off_resonance=off_resonance(generator, config.field_strength),
        receive_phase=receive_phase(generator),
    )


def _scan(
    config: SimulationConfig, anatomy: Anatomy, subject: int, contrast: Contrast
) -> tuple[Scan, Truth]:
    scanner = _scanner(config, subject)
    key = tuple(Contrast).index(contrast)
    layout = lines(
        config.matrix[1],
        phase_resolution=config.phase_resolution,
        partial_fourier=config.partial_fourier,
        dropped=config.dropped_lines,
        generator=_generator(config, subject, _Stream.LINES, key),
    )
    spacing, thickness = _slice_geometry(config, anatomy)
    clean, labels, objects = _measure(config, anatomy, scanner, contrast, spacing, thickness)
    truth = _images(clean, config.matrix)
    deviation = _deviation(config, truth, objects)

    generator = _generator(config, subject, _Stream.NOISE, key)
    prescan = deviation * noise(scanner.covariance, (_NOISE_SAMPLES,), generator)
    for kspace in clean:
        kspace += deviation * noise(scanner.covariance, kspace.shape[1:], generator)
    clean[..., ~layout.acquired] = 0
    target = torch.from_numpy(_images(clean, config.matrix))
    acquisition = _PLANES[config.orientation].prefix + contrast
    scan = Scan(
        name=f"sim_s{config.seed}_{subject:04d}_{acquisition}.h5",
        kspace=Stack.of(torch.from_numpy(clean)),
        acquired=torch.from_numpy(layout.acquired),
        padding=layout.padding,
        header=_header(config, anatomy, subject, contrast, layout, spacing),
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
            "lesion_volume_ml": float((lesions > 0).sum()) * _voxel(config, spacing) / 1000,
            "snr": config.snr,
            "noise_deviation": deviation,
            "slice_spacing_mm": spacing,
            "slice_thickness_mm": thickness,
        },
    )


def _voxel(config: SimulationConfig, spacing: float) -> float:
    """Volume that a pixel stands for, gaps between slices included, mm^3."""
    (height, width), (rows, columns) = config.field_of_view, config.matrix
    return height / rows * width / columns * spacing


def _slice_geometry(config: SimulationConfig, anatomy: Anatomy) -> tuple[float, float]:
    axis = _PLANES[config.orientation].slices
    low, high = (corner[axis] for corner in anatomy.focus)
    spacing = config.slice_spacing or 0.8 * (high - low) / config.slices
    return spacing, config.slice_thickness or min(5.0, spacing)


def _coordinates(size: int, field_of_view: float) -> NDArray[np.float64]:
    """Positions of pixels in mm, against the axis, the centre at index ``size // 2``."""
    return np.asarray((size // 2 - np.arange(size)) * (field_of_view / size))


def _measure(
    config: SimulationConfig,
    anatomy: Anatomy,
    scanner: _Scanner,
    contrast: Contrast,
    spacing: float,
    thickness: float,
) -> tuple[NDArray[np.complex64], NDArray[np.uint8], NDArray[np.bool_]]:
    """Noise-free k-space (slices, coils, readout, phase), tissue labels, where the object is."""
    plane = _PLANES[config.orientation]
    rows, columns = config.matrix
    sampled = (rows * config.readout_oversampling, columns)
    fine = (_FINER * sampled[0], _FINER * sampled[1])
    views = (
        config.field_of_view[0] * config.readout_oversampling,
        config.field_of_view[1],
    )
    table = anatomy.signals(contrast, config.field_strength)
    sequence = SEQUENCES[contrast]
    # A spin echo refocuses what the field map dephases.
    dephasing = sequence.echo_time if isinstance(sequence, SpoiledGradientEcho) else 0.0
    low, high = (corner[plane.slices] for corner in anatomy.focus)
    kspace = np.empty((config.slices, config.coils, *sampled), dtype=np.complex64)
    labels = np.empty((config.slices, rows, columns), dtype=np.uint8)
    objects = np.empty(labels.shape, dtype=np.bool_)
    axes = [np.zeros(1)] * 3
    axes[plane.rows] = _coordinates(fine[0], views[0])
    axes[plane.columns] = _coordinates(fine[1], views[1])
    for index in range(config.slices):
        middle = (low + high) / 2 + (index - (config.slices - 1) / 2) * spacing
        tissue, signal = _slab(anatomy, table, axes, plane, middle, thickness)
        axes[plane.slices] = np.array([middle])
        angle = _in_plane(scanner.receive_phase, axes, plane)
        angle = angle + 2e-3 * np.pi * dephasing * _in_plane(scanner.off_resonance, axes, plane)
        seen = torch.from_numpy(signal * np.exp(1j * angle[0]).astype(np.complex64))
        coils = torch.from_numpy(_in_plane(scanner.coils, axes, plane))
        # Orthonormal transforms of two sizes: the factor keeps the image's scale.
        full = fourier(seen * coils) / _FINER
        kspace[index] = _central(full, sampled).numpy()
        labels[index], objects[index] = _pooled(tissue, signal, (rows, columns))
    return kspace, labels, objects


def _in_plane(
    smooth: SmoothMap, axes: list[NDArray[np.float64]], plane: _Plane
) -> NDArray[np.complex64]:
    """A smooth map in a slice, (channels, rows, columns)."""
    values = smooth.on_grid(axes[0], axes[1], axes[2])
    ordered = values.transpose(0, 1 + plane.rows, 1 + plane.columns, 1 + plane.slices)
    return np.ascontiguousarray(ordered[..., 0])


def _slab(
    anatomy: Anatomy,
    table: NDArray[np.float32],
    axes: list[NDArray[np.float64]],
    plane: _Plane,
    middle: float,
    thickness: float,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Tissue (through, rows, columns) in a slice, and its mean signal (rows, columns)."""
    through = middle + ((np.arange(_THROUGH) + 0.5) / _THROUGH - 0.5) * thickness
    mesh = np.meshgrid(through, axes[plane.rows], axes[plane.columns], indexing="ij")
    points = np.empty((3, mesh[0].size), dtype=np.float32)
    for axis, values in zip((plane.slices, plane.rows, plane.columns), mesh, strict=True):
        points[axis] = values.ravel()
    tissue, weight = anatomy.sample(points)
    signal = (table[tissue] * weight).reshape(mesh[0].shape).mean(0)
    return tissue.reshape(mesh[0].shape), signal.astype(np.float32)


def _central(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The part of ``size`` about the centre ``n // 2`` of the last two axes."""
    (first, rows), (second, columns) = (
        (n // 2 - k // 2, k) for n, k in zip(values.shape[-2:], size, strict=True)
    )
    return values[..., first : first + rows, second : second + columns]


def _pooled(
    tissue: NDArray[np.uint8], signal: NDArray[np.float32], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Per pixel the tissue that fills most of it, and whether there is any signal in it."""
    best = np.zeros(size, dtype=np.float32)
    label = np.zeros(size, dtype=np.uint8)
    for value in np.unique(tissue):
        share = _per_pixel((tissue == value).mean(0, dtype=np.float32), size)
        more = share > best
        best[more], label[more] = share[more], value
    return label, _per_pixel(np.abs(signal), size) > 0.05 * float(np.abs(signal).max())


def _per_pixel(fine: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Mean over the pixels of the acquisition of values on the finer grid (trapezoidal)."""
    result = fine
    for axis, count in enumerate(size):
        first = result.shape[axis] // 2 - _FINER * (count // 2)
        centre = first + _FINER * np.arange(count)
        last = result.shape[axis] - 1
        before = result.take(np.clip(centre - 1, 0, last), axis)
        after = result.take(np.clip(centre + 1, 0, last), axis)
        result = (before + 2 * result.take(centre, axis) + after) / 4
    return result


def _images(kspace: NDArray[np.complex64], matrix: tuple[int, int]) -> NDArray[np.float32]:
    """Root sum of squares per slice, cut to the image's matrix."""
    images = np.empty((len(kspace), *matrix), dtype=np.float32)
    for index, values in enumerate(kspace):
        coils = _central(inverse_fourier(torch.from_numpy(values)), matrix)
        images[index] = coils.abs().square().sum(0).sqrt().numpy()
    return images


def _deviation(
    config: SimulationConfig, truth: NDArray[np.float32], objects: NDArray[np.bool_]
) -> float:
    """Standard deviation of the noise that gives the stated SNR; 0 where there is no object."""
    return float(truth[objects].mean()) / config.snr if objects.any() else 0.0


def _header(
    config: SimulationConfig,
    anatomy: Anatomy,
    subject: int,
    contrast: Contrast,
    layout: Lines,
    spacing: float,
) -> Header:
    rows, columns = config.matrix
    readout = rows * config.readout_oversampling
    left, right = layout.padding
    height, width = config.field_of_view
    known = Header(
        acquisition=_PLANES[config.orientation].prefix + contrast,
        subject=anatomy.subject or f"sim-{config.seed}-{subject:04d}",
        encoded_matrix=(readout, columns, 1),
        recon_matrix=(rows, columns, 1),
        encoded_field_of_view=(height * config.readout_oversampling, width, spacing),
        recon_field_of_view=(height, width, spacing),
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
