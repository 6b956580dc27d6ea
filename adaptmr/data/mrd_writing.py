"""Cartesian scans written as ISMRMRD (MRD v1); use `adaptmr.data.mrd.write_scan`."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np
import torch
from ismrmrd import constants
from ismrmrd.hdf5 import acquisition_dtype
from numpy.typing import NDArray
from torch import Tensor

from adaptmr.data.files import complete_file, require_room
from adaptmr.data.geometry import header_of
from adaptmr.data.header_xml import write_xml
from adaptmr.data.mrd_lines import Heads
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import fourier

_T = TypeVar("_T")
_NOISE_SAMPLES = 4096
_DIRECTIONS = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
"""Patient axes (right-left, front-back, feet-head) of readout, phase and slice."""


def write_scan(scan: Scan, path: Path, *, overwrite: bool = False) -> None:
    """Write a scan as one Cartesian ISMRMRD measurement (group ``dataset``).

    Each acquired line becomes one acquisition, slice after slice; ``Scan.noise`` comes first, as
    noise lines. A scan with two phase axes is written as the 3-D scan it is: transformed along its
    slices, which are positions along the readout; for that it is held in memory once. The target
    is left out: the format has no place for a reference. Dwell times and positions are not known
    to a `Scan` and stay 0.

    Args:
        scan: what to write.
        path: the file.
        overwrite: whether an existing file may be replaced.

    Raises:
        BadInputError: the output exists or cannot be written; points that are no lines in a 2-D
            scan; a partial echo with holes.
    """
    header = header_of(scan)
    kspace, lines = _lines_of(scan)
    require_room(path.parent, 8 * math.prod(scan.kspace.shape))
    with (
        complete_file(path, overwrite=overwrite) as partial_path,
        h5py.File(partial_path, "w") as file,
    ):
        file.create_dataset("dataset/xml", (1,), h5py.special_dtype(vlen=bytes))
        file["dataset/xml"][0] = _xml_of(scan, header)
        data = file.create_dataset(
            "dataset/data", (0,), acquisition_dtype, maxshape=(None,), chunks=(64,)
        )
        if scan.noise is not None:
            _append(data, _noise_records(scan.noise))
        for index, one_slice in enumerate(kspace):
            records = _records(one_slice.to(torch.complex64).numpy(), lines)
            records["head"]["idx"]["slice"] = index
            records["head"]["flags"][0] |= _bit(constants.ACQ_FIRST_IN_SLICE)
            records["head"]["flags"][-1] |= _bit(constants.ACQ_LAST_IN_SLICE)
            if index == len(kspace) - 1:
                records["head"]["flags"][-1] |= _bit(constants.ACQ_LAST_IN_MEASUREMENT)
            _direct(records, header.orientation)
            _append(data, records)


@dataclass(frozen=True)
class _Written:
    """Which samples of one slice (coils, readout, phase, partition) are written as lines.

    Attributes:
        rows: range of samples of each line.
        columns: column of each line.
        partitions: partition of each line.
        first: column and partition that have step 0.
    """

    rows: slice
    columns: NDArray[np.int64]
    partitions: NDArray[np.int64]
    first: tuple[int, int]


def _lines_of(scan: Scan) -> tuple[Stack, _Written]:
    """The k-space as (slices, coils, readout, phase, partition), and its lines."""
    acquired = scan.acquired.numpy() & scan.encoded.numpy()
    if scan.header.phase_axes == 2:
        points = np.broadcast_to(acquired, scan.matrix)
        columns, partitions = np.nonzero(points)
        slab = fourier(scan.kspace[:], dims=(0,)).permute(1, 0, 2, 3)[None]
        rows = slice(0, scan.slices)
        return Stack.of(slab), _Written(rows, columns, partitions, (0, scan.padding[0]))
    echo = np.flatnonzero(acquired.any(axis=1)) if acquired.ndim == 2 else np.arange(scan.matrix[0])
    columns = np.flatnonzero(acquired.any(axis=0) if acquired.ndim == 2 else acquired)
    rows = slice(int(echo[0]), int(echo[-1]) + 1)
    if acquired.ndim == 2 and not acquired[rows][:, columns].all():
        raise BadInputError(
            "single points of a 2-D scan cannot be acquired as lines",
            file=scan.name,
            field="acquired",
            got=f"{int(acquired.sum())} points",
            expected="whole lines, or a scan with two phase axes",
            hint="Write it as fastMRI HDF5 (.h5)",
        )
    return (
        Stack((*scan.kspace.shape, 1), partial(_with_partition, scan.kspace)),
        _Written(rows, columns, np.zeros_like(columns), (scan.padding[0], 0)),
    )


def _with_partition(kspace: Stack, start: int, stop: int) -> Tensor:
    return kspace.read(start, stop)[..., None]


def _xml_of(scan: Scan, header: Header) -> bytes:
    if header.phase_axes == 1:
        return write_xml(header, coils=scan.coils, slices=scan.slices).encode()
    rows, columns = scan.matrix
    turned = header.model_copy(
        update={
            "encoded_matrix": (scan.slices, rows, columns),
            "recon_matrix": _from_turned(header.recon_matrix),
            "encoded_field_of_view": _from_turned(header.encoded_field_of_view),
            "recon_field_of_view": _from_turned(header.recon_field_of_view),
            "phase_limits": (0, rows // 2, rows - 1),
        }
    )
    if turned.recon_matrix is not None:
        turned = turned.model_copy(update={"recon_matrix": (scan.slices, *turned.recon_matrix[1:])})
    return write_xml(turned, coils=scan.coils, partition_limits=header.phase_limits).encode()


def _from_turned(sizes: tuple[_T, _T, _T] | None) -> tuple[_T, _T, _T] | None:
    """(phase, partition, readout) as (readout, phase, partition)."""
    return None if sizes is None else (sizes[2], sizes[0], sizes[1])


def _bit(flag: int) -> np.uint64:
    return np.uint64(1 << (flag - 1))


def _blank(count: int, coils: int, samples: int) -> Heads:
    """``count`` acquisitions with all that depends on their size."""
    records = np.zeros(count, dtype=acquisition_dtype)
    heads = records["head"]
    heads["version"] = 1
    heads["number_of_samples"] = samples
    heads["active_channels"] = heads["available_channels"] = coils
    for coil in range(coils):
        heads["channel_mask"][:, coil // 64] |= np.uint64(1 << (coil % 64))
    for record in records:
        record["traj"] = np.zeros(0, dtype=np.float32)
    return records


def _records(kspace: NDArray[np.complex64], lines: _Written) -> Heads:
    """The acquisitions of one slice (coils, readout, phase, partition)."""
    coils, readout = kspace.shape[:2]
    records = _blank(len(lines.columns), coils, lines.rows.stop - lines.rows.start)
    heads = records["head"]
    heads["center_sample"] = readout // 2 - lines.rows.start
    heads["idx"]["kspace_encode_step_1"] = lines.columns - lines.first[0]
    heads["idx"]["kspace_encode_step_2"] = lines.partitions - lines.first[1]
    for record, column, part in zip(records, lines.columns, lines.partitions, strict=True):
        line = np.ascontiguousarray(kspace[:, lines.rows, column, part])
        record["data"] = line.view(np.float32).reshape(-1)
    return records


def _noise_records(noise: Tensor) -> Heads:
    samples = noise.to(torch.complex64).numpy()
    records = []
    for start in range(0, samples.shape[1], _NOISE_SAMPLES):
        piece = np.ascontiguousarray(samples[:, start : start + _NOISE_SAMPLES])
        record = _blank(1, *piece.shape)
        record["head"]["flags"] = _bit(constants.ACQ_IS_NOISE_MEASUREMENT)
        record[0]["data"] = piece.view(np.float32).reshape(-1)
        records.append(record)
    return np.concatenate(records)


def _direct(records: Heads, orientation: str | None) -> None:
    """Directions of readout, phase and slice in the patient, where the orientation is known."""
    for name, axis in zip(
        ("read_dir", "phase_dir", "slice_dir"), _DIRECTIONS.get(orientation or "", ()), strict=False
    ):
        records["head"][name][:, axis] = 1


def _append(data: h5py.Dataset, records: Heads) -> None:
    start = data.shape[0]
    data.resize(start + len(records), axis=0)
    data[start:] = records
