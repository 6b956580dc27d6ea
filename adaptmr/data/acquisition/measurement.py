"""Noise-free k-space of an anatomy, and the image and label maps that belong to it.

The anatomy is sampled on a grid finer than the acquisition's, several times through each slice;
its k-space is computed there and cut to the acquisition's matrix. Gibbs ringing and partial volume
are therefore those of a real scan, and no reconstruction can invert the simulation exactly.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from adaptmr.data.acquisition.coils import coil_array, noise_covariance
from adaptmr.data.acquisition.phase import off_resonance, receive_phase
from adaptmr.data.acquisition.smooth import SmoothMap
from adaptmr.data.anatomy.anatomy import Anatomy
from adaptmr.data.anatomy.signal import SEQUENCES, Contrast, SpoiledGradientEcho
from adaptmr.data.crop import center_crop
from adaptmr.data.scan import Orientation
from adaptmr.kernels.fourier import fourier, inverse_fourier

_FINER = 2
"""Points of the anatomy per pixel and axis."""

_THROUGH = 3
"""Points of the anatomy through the thickness of a slice."""


_AXES = {
    Orientation.AXIAL: (2, 1, 0),
    Orientation.SAGITTAL: (0, 2, 1),
    Orientation.CORONAL: (1, 2, 0),
}
"""Axes (0 right, 1 front, 2 top) of slices, rows and columns. Rows and columns run against theirs:
front or top come first, the patient's right is on the left."""


@dataclass(frozen=True)
class Geometry:
    """Where a scan's pixels lie; lengths in mm.

    Attributes:
        matrix: rows (readout) and columns (phase) of the image.
        field_of_view: of the image.
        readout_oversampling: samples along the readout, over the rows.
        slices: number of slices.
        spacing: distance of the slices' centres.
        thickness: thickness of a slice.
        orientation: orientation of the slices.
    """

    matrix: tuple[int, int]
    field_of_view: tuple[float, float]
    readout_oversampling: int
    slices: int
    spacing: float
    thickness: float
    orientation: Orientation

    @property
    def sampled(self) -> tuple[int, int]:
        """Size of k-space."""
        return self.matrix[0] * self.readout_oversampling, self.matrix[1]

    @property
    def encoded_field_of_view(self) -> tuple[float, float]:
        """Field of view of k-space."""
        return self.field_of_view[0] * self.readout_oversampling, self.field_of_view[1]

    @property
    def voxel(self) -> float:
        """Volume that a pixel stands for, gaps between slices included, mm^3."""
        (height, width), (rows, columns) = self.field_of_view, self.matrix
        return height / rows * width / columns * self.spacing


def slice_axis(orientation: Orientation) -> int:
    """The axis along which slices are stacked: 0 right, 1 front, 2 top."""
    return _AXES[orientation][0]


@dataclass(frozen=True)
class Scanner:
    """What the scans of one subject have in common.

    Attributes:
        coils: sensitivities.
        covariance: (coils, coils) covariance of the noise, mean diagonal 1.
        off_resonance: field map, Hz.
        receive_phase: phase that every sequence has, rad.
    """

    coils: SmoothMap
    covariance: NDArray[np.complex128]
    off_resonance: SmoothMap
    receive_phase: SmoothMap


def draw_scanner(
    generator: np.random.Generator, *, coils: int, noise_correlation: float, field_strength: float
) -> Scanner:
    """Draw a coil array with its noise, and the phase of a subject in it.

    Args:
        generator: source of randomness.
        coils: 1 to 32.
        noise_correlation: share of the noise that comes from the head.
        field_strength: tesla.

    Raises:
        BadInputError: there is no array of so many coils.
    """
    array = coil_array(coils, generator)
    return Scanner(
        coils=array,
        covariance=noise_covariance(array, noise_correlation, generator),
        off_resonance=off_resonance(generator, field_strength),
        receive_phase=receive_phase(generator),
    )


@dataclass(frozen=True)
class Measurement:
    """A noise-free scan with every line measured.

    Attributes:
        kspace: (slices, coils, readout, phase) complex64.
        labels: (slices, rows, columns) uint8 `Tissue` that fills most of a pixel.
        visible: (slices, rows, columns) bool, pixels with signal in them: the object.
    """

    kspace: NDArray[np.complex64]
    labels: NDArray[np.uint8]
    visible: NDArray[np.bool_]


def measure(
    anatomy: Anatomy,
    scanner: Scanner,
    geometry: Geometry,
    contrast: Contrast,
    field_strength: float,
) -> Measurement:
    """Measure an anatomy.

    Raises:
        BadInputError: there is no table of relaxation times for the field strength.
    """
    table = anatomy.signals(contrast, field_strength)
    sequence = SEQUENCES[contrast]
    # A spin echo refocuses what the field map dephases.
    seconds = sequence.echo_time / 1000 if isinstance(sequence, SpoiledGradientEcho) else 0.0
    coils = len(scanner.coils.values)
    kspace = np.empty((geometry.slices, coils, *geometry.sampled), dtype=np.complex64)
    labels = np.empty((geometry.slices, *geometry.matrix), dtype=np.uint8)
    visible = np.empty(labels.shape, dtype=np.bool_)
    for index, middle in enumerate(_middles(anatomy, geometry)):
        axes = _axes(geometry, middle)
        tissue, signal = _slab(anatomy, table, axes, geometry)
        angle = _in_plane(scanner.receive_phase, axes, geometry)
        angle = angle + 2 * np.pi * seconds * _in_plane(scanner.off_resonance, axes, geometry)
        seen = torch.from_numpy(signal * np.exp(1j * angle[0]).astype(np.complex64))
        received = seen * torch.from_numpy(_in_plane(scanner.coils, axes, geometry))
        # Orthonormal transforms of two sizes: the factor keeps the image's scale.
        kspace[index] = _central(fourier(received), geometry.sampled).numpy() / _FINER
        labels[index] = _labels(tissue, geometry)
        shown = _per_pixel(np.abs(signal), geometry)
        visible[index] = shown > 0.05 * float(np.abs(signal).max())
    return Measurement(kspace, labels, visible)


def magnitude(kspace: NDArray[np.complex64], matrix: tuple[int, int]) -> NDArray[np.float32]:
    """Root-sum-of-squares images (slices, rows, columns), cropped as fastMRI crops them."""
    images = np.empty((len(kspace), *matrix), dtype=np.float32)
    for index, values in enumerate(kspace):
        coils = center_crop(inverse_fourier(torch.from_numpy(values)), matrix)
        images[index] = torch.linalg.vector_norm(coils, dim=0).numpy()
    return images


def _middles(anatomy: Anatomy, geometry: Geometry) -> NDArray[np.float64]:
    """Positions of the slices' centres, mm."""
    low, high = (corner[slice_axis(geometry.orientation)] for corner in anatomy.focus)
    steps = np.arange(geometry.slices) - (geometry.slices - 1) / 2
    return np.asarray((low + high) / 2 + steps * geometry.spacing)


def _axes(geometry: Geometry, middle: float) -> list[NDArray[np.float64]]:
    """Coordinates of a slice's fine grid along x, y and z; those through it come from `_slab`.

    The centre of the image, at pixel ``n // 2`` of k-space's transform, is at 0 mm.
    """
    axes: list[NDArray[np.float64]] = [np.zeros(1)] * 3
    through, *plane = _AXES[geometry.orientation]
    for axis, count, view in zip(
        plane, geometry.sampled, geometry.encoded_field_of_view, strict=True
    ):
        fine = _FINER * count
        axes[axis] = (fine // 2 - np.arange(fine, dtype=np.float64)) * (view / fine)
    axes[through] = np.array([middle])
    return axes


def _slab(
    anatomy: Anatomy,
    table: NDArray[np.float32],
    axes: list[NDArray[np.float64]],
    geometry: Geometry,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Tissue (through, rows, columns) in a slice, and its mean signal (rows, columns)."""
    through, rows, columns = _AXES[geometry.orientation]
    offsets = ((np.arange(_THROUGH) + 0.5) / _THROUGH - 0.5) * geometry.thickness
    mesh = np.meshgrid(axes[through] + offsets, axes[rows], axes[columns], indexing="ij")
    points = np.empty((3, mesh[0].size), dtype=np.float32)
    for axis, values in zip((through, rows, columns), mesh, strict=True):
        points[axis] = values.ravel()
    tissue, weight = anatomy.sample(points)
    signal = (table[tissue] * weight).reshape(mesh[0].shape).mean(0)
    return tissue.reshape(mesh[0].shape), signal.astype(np.float32)


def _in_plane(
    smooth: SmoothMap, axes: list[NDArray[np.float64]], geometry: Geometry
) -> NDArray[np.complex64]:
    """A smooth map in a slice, (channels, rows, columns)."""
    through, rows, columns = _AXES[geometry.orientation]
    values = smooth.on_grid(axes[0], axes[1], axes[2])
    return np.ascontiguousarray(values.transpose(0, 1 + rows, 1 + columns, 1 + through)[..., 0])


def _central(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The part of ``size`` of the last two axes, centre ``n // 2`` on centre."""
    rows, columns = (
        slice(n // 2 - k // 2, n // 2 - k // 2 + k)
        for n, k in zip(values.shape[-2:], size, strict=True)
    )
    return values[..., rows, columns]


def _labels(tissue: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Per pixel the tissue that fills most of it."""
    best = np.zeros(geometry.matrix, dtype=np.float32)
    label = np.zeros(geometry.matrix, dtype=np.uint8)
    for value in np.unique(tissue):
        share = _per_pixel((tissue == value).mean(0, dtype=np.float32), geometry)
        more = share > best
        best[more], label[more] = share[more], value
    return label


def _per_pixel(fine: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float32]:
    """Mean over the image's pixels of values on the finer grid (trapezoidal)."""
    result = fine
    for axis, (count, sampled) in enumerate(zip(geometry.matrix, geometry.sampled, strict=True)):
        # Where the pixels that `center_crop` keeps lie on the fine grid.
        kept = np.arange(count) + (sampled - count) // 2
        last = result.shape[axis] - 1
        centre = result.shape[axis] // 2 + _FINER * (kept - sampled // 2)
        before = result.take(np.clip(centre - 1, 0, last), axis)
        after = result.take(np.clip(centre + 1, 0, last), axis)
        result = (before + 2 * result.take(centre, axis) + after) / 4
    return result
