"""ISMRMRD (MRD v1) HDF5: Cartesian scans in and out.

2-D multi-slice scans stream slice by slice. A 3-D scan (two phase encodes) is inverse transformed
along its readout, so that its slices are positions along the readout; for that it is held in
memory once.
"""

from functools import partial
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np
import torch
from ismrmrd import constants
from ismrmrd.hdf5 import acquisition_header_dtype
from numpy.typing import NDArray
from torch import Tensor

from adaptmr.data.geometry import padding_of
from adaptmr.data.hdf5 import damage_named, dataset, open_hdf5
from adaptmr.data.header_xml import ParsedXML, parse_xml
from adaptmr.data.mrd_lines import (
    Heads,
    Lines,
    acquired_positions,
    flagged,
    imaging_lines,
    place_lines,
    read_lines,
    read_volume,
)
from adaptmr.data.mrd_writing import write_scan
from adaptmr.data.positions import as_lines, columns
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.data.values import require_finite
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import inverse_fourier

__all__ = ["read_scan", "write_scan"]

_BLOCK = 64
_COMPRESSED = (
    constants.ACQ_COMPRESSION1,
    constants.ACQ_COMPRESSION2,
    constants.ACQ_COMPRESSION3,
    constants.ACQ_COMPRESSION4,
)


def read_scan(path: Path) -> Scan:
    """Open an ISMRMRD file with one Cartesian volume.

    Readout oversampling is kept as the file has it: the header's encoded matrix and field of view
    say how wide the readout is, its recon matrix what to crop images to. Lines stand at their
    encoding step relative to the header's centre, so partial Fourier and zero padding are where
    they belong; samples of a partial echo stand relative to ``center_sample``; lines flagged as
    reversed are turned round; averages are averaged. Noise lines become ``Scan.noise``, scaled to
    the bandwidth of the imaging lines where dwell times are told. Calibration lines count as
    imaging lines where the header calls them embedded. Only the fields of `Header` are read.

    Raises:
        BadInputError: the file is damaged; the trajectory is not Cartesian; echo-planar phase
            correction, several encoding spaces or several volumes; slices sampled differently;
            lines that do not fit the header.
    """
    with open_hdf5(path) as file:
        group = _group(path, file)
        parsed = _parse(path, file, group)
        data = _data(path, file, group)
        heads = _read_heads(path, data)
        _refuse_unreadable(path, heads)
        noise_lines = np.flatnonzero(flagged(heads, constants.ACQ_IS_NOISE_MEASUREMENT))
        imaging = np.flatnonzero(imaging_lines(heads, parsed))
        lines, header = place_lines(path, group, heads, imaging, parsed)
        noise = _read_noise(path, data, heads, noise_lines, imaging)
    positions = acquired_positions(path, lines)
    if lines.shape[3] > 1:
        return _three_dimensional(path, lines, positions, header, noise)
    padding = padding_of(path, header, lines.shape[2])
    return Scan(
        name=path.name,
        kspace=Stack(
            (int(lines.slice.max()) + 1, *lines.shape[:3]), partial(_read_slices, path, lines)
        ),
        acquired=torch.from_numpy(as_lines(positions[:, :, 0] & columns(padding, lines.shape[2]))),
        padding=padding,
        header=header,
        noise=noise,
    )


def _group(path: Path, file: h5py.File) -> str:
    with damage_named(path):
        names = [
            name
            for name, member in file.items()
            if isinstance(member, h5py.Group) and "xml" in member and "data" in member
        ]
    if len(names) != 1:
        raise BadInputError(
            "this is not an ISMRMRD file with one measurement",
            file=path,
            got=f"{len(names)} groups that hold 'xml' and 'data'",
            expected="one, usually named 'dataset'",
        )
    return str(names[0])


def _parse(path: Path, file: h5py.File, group: str) -> ParsedXML:
    data = dataset(file, path, f"{group}/xml")
    with damage_named(path, "xml"):
        text = data[0]
    try:
        parsed = parse_xml(text)
    except BadInputError as error:
        raise BadInputError(error.what, file=path, field="xml", got=error.got) from error
    if parsed.trajectory != "cartesian":
        raise BadInputError(
            "the trajectory is not Cartesian",
            file=path,
            field="trajectory",
            got=parsed.trajectory or "none",
            expected="cartesian",
            hint="Grid the data or reconstruct them with a tool for this trajectory",
        )
    if parsed.encodings != 1:
        raise BadInputError(
            "the file has several encoding spaces",
            file=path,
            field="encoding",
            got=parsed.encodings,
            expected=1,
            hint="Convert each encoding to a file of its own",
        )
    return parsed


def _data(path: Path, file: h5py.File, group: str) -> h5py.Dataset:
    data = dataset(file, path, f"{group}/data")
    names = data.dtype.names or ()
    if data.ndim != 1 or not {"head", "data"} <= set(names):
        raise BadInputError(
            "the acquisitions have the wrong layout",
            file=path,
            field="data",
            got=f"{data.dtype} of shape {data.shape}",
            expected="a list of ISMRMRD acquisitions",
        )
    heads = data.dtype["head"]
    missing = set(acquisition_header_dtype.names or ()) - set(heads.names or ())
    if missing:
        raise BadInputError(
            "the acquisition headers have the wrong layout",
            file=path,
            field="head",
            got=f"no {', '.join(sorted(missing))}",
            expected="the fields of ISMRMRD version 1",
        )
    return data


def _read_heads(path: Path, data: h5py.Dataset) -> Heads:
    """The headers of all acquisitions, read with their samples block by block.

    HDF5 reads the samples anyhow, and never frees them when asked for the headers alone.
    """
    with damage_named(path, "data"):
        blocks = [
            data[start : start + _BLOCK]["head"].copy() for start in range(0, len(data), _BLOCK)
        ]
    return np.concatenate(blocks)


def _refuse_unreadable(path: Path, heads: Heads) -> None:
    if flagged(heads, constants.ACQ_IS_PHASECORR_DATA).any():
        raise BadInputError(
            "echo-planar data with phase-correction lines are not read",
            file=path,
            field="flags",
            got=f"{int(flagged(heads, constants.ACQ_IS_PHASECORR_DATA).sum())} such lines",
            expected="none",
            hint="Apply the phase correction first, for example with Gadgetron",
        )
    if flagged(heads, *_COMPRESSED).any():
        raise BadInputError(
            "compressed acquisitions are not read",
            file=path,
            field="flags",
            hint="Convert the scan again without compression",
        )


def _read_slices(path: Path, lines: Lines, start: int, stop: int) -> Tensor:
    with open_hdf5(path) as file:
        data = dataset(file, path, f"{lines.group}/data")
        volume = [read_volume(path, data, lines, index)[..., 0] for index in range(start, stop)]
    shape = lines.shape[:3]
    return torch.stack(volume) if volume else torch.empty((0, *shape), dtype=torch.complex64)


def _three_dimensional(
    path: Path,
    lines: Lines,
    positions: NDArray[np.bool_],
    header: Header,
    noise: Tensor | None,
) -> Scan:
    if lines.slice.max() > 0:
        raise BadInputError(
            "several slabs of a 3-D scan are not read",
            file=path,
            field="slice",
            got=int(lines.slice.max()) + 1,
            expected=1,
            hint="Convert each slab to a file of its own",
        )
    with open_hdf5(path) as file:
        data = dataset(file, path, f"{lines.group}/data")
        slab = read_volume(path, data, lines, 0)
    readout = lines.shape[1]
    wanted = min(readout, header.recon_matrix[0]) if header.recon_matrix else readout
    first = readout // 2 - wanted // 2
    hybrid = inverse_fourier(slab, dims=(1,))[:, first : first + wanted].transpose(0, 1)
    turned = header.model_copy(
        update={
            "encoded_matrix": (*lines.shape[2:], readout),
            "recon_matrix": _turned(header.recon_matrix),
            "encoded_field_of_view": _turned(header.encoded_field_of_view),
            "recon_field_of_view": _turned(header.recon_field_of_view),
            "phase_axes": 2,
        }
    )
    padding = padding_of(path, turned, lines.shape[3])
    acquired = positions.any(axis=0) & columns(padding, lines.shape[3])
    return Scan(
        name=path.name,
        kspace=Stack.of(hybrid.contiguous()),
        acquired=torch.from_numpy(as_lines(acquired)),
        padding=padding,
        header=turned,
        noise=noise,
    )


_T = TypeVar("_T")


def _turned(sizes: tuple[_T, _T, _T] | None) -> tuple[_T, _T, _T] | None:
    """(readout, phase, partition) as (phase, partition, readout): the readout became the slices."""
    return None if sizes is None else (sizes[1], sizes[2], sizes[0])


def _read_noise(
    path: Path,
    data: h5py.Dataset,
    heads: Heads,
    noise: NDArray[np.int64],
    imaging: NDArray[np.int64],
) -> Tensor | None:
    coils = heads["active_channels"][imaging[0]] if len(imaging) else 0
    noise = noise[heads["active_channels"][noise] == coils]
    if not len(noise):
        return None
    dwell = float(heads["sample_time_us"][noise[0]]), float(heads["sample_time_us"][imaging[0]])
    # The variance of noise goes with the bandwidth, the inverse of the dwell time.
    scale = (dwell[0] / dwell[1]) ** 0.5 if min(dwell) > 0 else 1.0
    samples = np.concatenate(read_lines(path, data, noise, int(coils)), axis=1)
    require_finite(samples, path, "noise")
    return torch.from_numpy(samples) * scale
