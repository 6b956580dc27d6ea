"""The lines of an ISMRMRD file: which belong to the image, and where each of them goes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from ismrmrd import constants
from numpy.typing import NDArray
from torch import Tensor

from adaptmr.data.hdf5 import damage_named
from adaptmr.data.header_xml import ParsedXML
from adaptmr.data.scan import Header
from adaptmr.data.values import require_finite
from adaptmr.errors import BadInputError

# Neither imaging data nor noise: left out.
_AUXILIARY = (
    constants.ACQ_IS_NAVIGATION_DATA,
    constants.ACQ_IS_HPFEEDBACK_DATA,
    constants.ACQ_IS_DUMMYSCAN_DATA,
    constants.ACQ_IS_RTFEEDBACK_DATA,
    constants.ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA,
    constants.ACQ_IS_PHASE_STABILIZATION_REFERENCE,
    constants.ACQ_IS_PHASE_STABILIZATION,
)
_ORIENTATIONS = ("sagittal", "coronal", "axial")
Heads = NDArray[Any]


@dataclass(frozen=True)
class Lines:
    """Where each imaging line of a file goes; one entry per line, in file order.

    Attributes:
        group: name of the HDF5 group.
        shape: (coils, readout, phase, partition) of one slice.
        number: position of the line in the file.
        slice: slice it belongs to.
        column: its column.
        partition: its partition; 0 in 2-D scans.
        start: position along the readout of its first kept sample.
        kept: samples kept, as (first, end) within the line as it is stored.
        reverse: whether it was read out backwards.
    """

    group: str
    shape: tuple[int, int, int, int]
    number: NDArray[np.int64]
    slice: NDArray[np.int64]
    column: NDArray[np.int64]
    partition: NDArray[np.int64]
    start: NDArray[np.int64]
    kept: NDArray[np.int64]
    reverse: NDArray[np.bool_]


def flagged(heads: Heads, *flags: int) -> NDArray[np.bool_]:
    """Which acquisition headers carry any of the flags (numbered from 1, as in ISMRMRD)."""
    bits = np.uint64(sum(1 << (flag - 1) for flag in flags))
    found: NDArray[np.bool_] = (heads["flags"] & bits) != 0
    return found


def imaging_lines(heads: Heads, parsed: ParsedXML) -> NDArray[np.bool_]:
    """Which acquisitions belong to the image: no noise, navigators, separate calibration."""
    imaging = ~flagged(heads, constants.ACQ_IS_NOISE_MEASUREMENT, *_AUXILIARY)
    if parsed.calibration != "embedded":
        # Lines for calibration alone then come of another scan.
        imaging &= ~flagged(heads, constants.ACQ_IS_PARALLEL_CALIBRATION) | flagged(
            heads, constants.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING
        )
    return imaging


def place_lines(
    path: Path, group: str, heads: Heads, imaging: NDArray[np.int64], parsed: ParsedXML
) -> tuple[Lines, Header]:
    """Where each imaging line goes, and the header with the readout that the lines really have.

    Args:
        path: the file, for messages.
        group: name of the HDF5 group.
        heads: all acquisition headers of the file.
        imaging: numbers of the imaging lines.
        parsed: the XML header.

    Raises:
        BadInputError: no line, lines of several volumes, or lines outside the encoded matrix.
    """
    chosen = heads[imaging]
    if not len(chosen):
        raise BadInputError("the file has no imaging lines", file=path, field="data")
    for counter in ("contrast", "phase", "repetition", "set"):
        _single(path, counter, chosen["idx"][counter], "Convert each volume to a file of its own")
    coils = _single(path, "active_channels", chosen["active_channels"], "Leave other lines out")
    _single(path, "encoding_space_ref", chosen["encoding_space_ref"], "Leave other lines out")
    header = _header(path, parsed.header, chosen)
    assert header.encoded_matrix is not None  # noqa: S101 - _header refuses scans without
    readout, phase, partitions = header.encoded_matrix
    phase_centre = header.phase_limits[1] if header.phase_limits else phase // 2
    partition_limits = parsed.partition_limits if partitions > 1 else None
    partition_centre = partition_limits[1] if partition_limits else partitions // 2
    kept, start = _samples(chosen, readout)
    steps = chosen["idx"]
    lines = Lines(
        group=group,
        shape=(coils, readout, phase, partitions),
        number=imaging,
        slice=steps["slice"].astype(np.int64),
        column=steps["kspace_encode_step_1"].astype(np.int64) - phase_centre + phase // 2,
        partition=steps["kspace_encode_step_2"].astype(np.int64)
        - partition_centre
        + partitions // 2,
        start=start,
        kept=kept,
        reverse=flagged(chosen, constants.ACQ_IS_REVERSE),
    )
    _within(path, "kspace_encode_step_1", lines.column, phase)
    _within(path, "kspace_encode_step_2", lines.partition, partitions)
    _within(path, "number_of_samples", lines.start, readout)
    _within(path, "number_of_samples", lines.start + np.diff(kept)[:, 0] - 1, readout)
    if partitions > 1:
        header = header.model_copy(update={"phase_limits": partition_limits})
    return lines, header


def _single(path: Path, field: str, values: NDArray[Any], hint: str) -> int:
    found = np.unique(values)
    if len(found) != 1:
        raise BadInputError(
            "the imaging lines are not of one volume",
            file=path,
            field=field,
            got=f"{len(found)} different values",
            expected="one",
            hint=hint,
        )
    return int(found[0])


def _within(path: Path, field: str, positions: NDArray[np.int64], size: int) -> None:
    if positions.min() < 0 or positions.max() >= size:
        raise BadInputError(
            "lines lie outside the encoded matrix of the header",
            file=path,
            field=field,
            got=f"positions {positions.min()} to {positions.max()}",
            expected=f"0 to {size - 1}",
            hint="The converter wrote a wrong matrix size or centre: convert the scan again",
        )


def _header(path: Path, header: Header, heads: Heads) -> Header:
    """The header with the readout that the lines really have, and the orientation they tell."""
    if header.encoded_matrix is None:
        raise BadInputError(
            "the header has no matrix size",
            file=path,
            field="encodedSpace.matrixSize",
            hint="Convert the scan again",
        )
    updates: dict[str, object] = {}
    direction = np.abs(heads["slice_dir"][0])
    if header.orientation is None and np.isfinite(direction).all() and direction.any():
        updates["orientation"] = _ORIENTATIONS[int(direction.argmax())]
    encoded, recon = header.encoded_matrix, header.recon_matrix
    samples = np.unique(heads["number_of_samples"])
    centred = (heads["center_sample"] == heads["number_of_samples"] // 2).all()
    if recon and len(samples) == 1 and samples[0] == recon[0] != encoded[0] and centred:
        # The scanner removed the oversampling, the header still tells of it.
        updates["encoded_matrix"] = (recon[0], *encoded[1:])
        if header.encoded_field_of_view and header.recon_field_of_view:
            updates["encoded_field_of_view"] = (
                header.recon_field_of_view[0],
                *header.encoded_field_of_view[1:],
            )
    return header.model_copy(update=updates)


def _samples(heads: Heads, readout: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Range of samples kept of each line, and where the first of them goes along the readout."""
    samples = heads["number_of_samples"].astype(np.int64)
    first, end = heads["discard_pre"].astype(np.int64), samples - heads["discard_post"]
    centre = heads["center_sample"].astype(np.int64)
    reverse = flagged(heads, constants.ACQ_IS_REVERSE)
    first, end = np.where(reverse, samples - end, first), np.where(reverse, samples - first, end)
    centre = np.where(reverse, samples - 1 - centre, centre)
    # A whole line that is turned round has its centre one sample early when its length is even.
    whole = reverse & (end - first == readout)
    start = np.where(whole, 0, readout // 2 - centre + first)
    return np.stack([first, end], axis=1), start


def acquired_positions(path: Path, lines: Lines) -> NDArray[np.bool_]:
    """Acquired positions (readout, phase, partition), the same in every slice."""
    _, readout, phase, partitions = lines.shape
    slices = int(lines.slice.max()) + 1
    reference: NDArray[np.bool_] | None = None
    for index in range(slices):
        positions = np.zeros((readout, phase, partitions), dtype=np.bool_)
        for entry in np.flatnonzero(lines.slice == index):
            length = lines.kept[entry, 1] - lines.kept[entry, 0]
            start = lines.start[entry]
            positions[start : start + length, lines.column[entry], lines.partition[entry]] = True
        if reference is None:
            reference = positions
        if not np.array_equal(positions, reference):
            raise BadInputError(
                "the slices were sampled differently",
                file=path,
                slice_index=index,
                got=f"{int(positions.any(axis=0).sum())} lines",
                expected=f"the {int(reference.any(axis=0).sum())} lines of slice 0",
                hint="The scan is incomplete, or slices are numbered wrongly: convert it again",
            )
    assert reference is not None  # noqa: S101 - there is at least one imaging line
    return reference


def read_lines(
    path: Path, data: h5py.Dataset, numbers: NDArray[np.int64], coils: int
) -> list[NDArray[np.complex64]]:
    """The samples of some acquisitions, each (coils, samples).

    Raises:
        BadInputError: damaged, or of a length that the coils do not divide.
    """
    with damage_named(path, "data"):
        stored = data.fields("data")[numbers]
    lines = []
    for values in stored:
        if values.size % (2 * coils):
            raise BadInputError(
                "a line has another length than its coils and samples make",
                file=path,
                field="data",
                got=values.size,
                expected=f"a multiple of {2 * coils}",
            )
        line = np.ascontiguousarray(values, dtype=np.float32).view(np.complex64)
        lines.append(line.reshape(coils, -1))
    return lines


def read_volume(path: Path, data: h5py.Dataset, lines: Lines, index: int) -> Tensor:
    """One slice (or the slab of a 3-D scan), (coils, readout, phase, partition)."""
    coils, _, phase, partitions = lines.shape
    entries = np.flatnonzero(lines.slice == index)
    total = np.zeros(lines.shape, dtype=np.complex64)
    count = np.zeros((phase, partitions), dtype=np.float32)
    stored = read_lines(path, data, lines.number[entries], coils)
    for entry, values in zip(entries, stored, strict=True):
        line = values[:, ::-1] if lines.reverse[entry] else values
        first, end = lines.kept[entry]
        if line.shape[1] < end:
            raise BadInputError(
                "a line is shorter than its header says",
                file=path,
                slice_index=index,
                field="number_of_samples",
                got=line.shape[1],
                expected=int(end),
            )
        at = lines.start[entry]
        column, partition = lines.column[entry], lines.partition[entry]
        total[:, at : at + end - first, column, partition] += line[:, first:end]
        count[column, partition] += 1
    total /= np.maximum(count, 1)
    require_finite(total, path, "data", index)
    return torch.from_numpy(total)
