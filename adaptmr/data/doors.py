"""One door for every scan: the format is told by what is in the file, not by its name."""

from collections.abc import Callable
from enum import Enum
from pathlib import Path

import h5py

from adaptmr.data import arrays, fastmri, mrd
from adaptmr.data.hdf5 import DAMAGE, open_hdf5, require_file
from adaptmr.data.scan import Scan
from adaptmr.errors import BadInputError


class Format(Enum):
    """What a file can be; the value is its name for people."""

    FASTMRI = "fastMRI HDF5"
    MRD = "ISMRMRD (MRD v1)"
    NUMPY = "NumPy array"
    BART = "BART cfl/hdr"
    HDF5_IMAGES = "HDF5 images"
    NIFTI = "NIfTI image"
    HDF5_OTHER = "HDF5 of another layout"
    MATLAB = "MATLAB 5 file"
    DICOM = "DICOM"
    TWIX = "Siemens raw data (twix)"
    GE = "GE raw data"
    PHILIPS = "Philips raw data"
    UNKNOWN = "unknown"


_READERS: dict[Format, Callable[[Path], Scan]] = {
    Format.FASTMRI: fastmri.read_scan,
    Format.MRD: mrd.read_scan,
    Format.NUMPY: arrays.read_scan,
    Format.BART: arrays.read_scan,
}
_HINTS = {
    Format.HDF5_IMAGES: "These are images without k-space; `adaptmr convert` makes NIfTI of them",
    Format.NIFTI: "This is an image without k-space; `adaptmr simulate --anatomy` can scan it",
    Format.HDF5_OTHER: "Rename the k-space dataset to 'kspace' (slices, coils, readout, phase)",
    Format.MATLAB: "Save the k-space as .npy (slices, coils, readout, phase)",
    Format.DICOM: "DICOM holds images without k-space; ask for the raw data of the scan",
    Format.TWIX: "Convert it with `siemens_to_ismrmrd`, then give the .h5",
    Format.GE: "Convert it with `ge_to_ismrmrd`, then give the .h5",
    Format.PHILIPS: "Convert it with `philips_to_ismrmrd`, then give the .h5",
    Format.UNKNOWN: "Convert it to fastMRI HDF5, ISMRMRD, .npy or BART .cfl",
}
_MARKS = (
    (0, b"\x93NUMPY", Format.NUMPY),
    (0, b"PK\x03\x04", Format.NUMPY),
    (0, b"MATLAB", Format.MATLAB),
    (4, b"n+2", Format.NIFTI),
    (4, b"ni2", Format.NIFTI),
    (128, b"DICM", Format.DICOM),
    (344, b"n+1", Format.NIFTI),
    (344, b"ni1", Format.NIFTI),
)
# These have no mark, or, compressed, none that can be seen.
_SUFFIXES = {
    ".cfl": Format.BART,
    ".hdr": Format.BART,
    ".gz": Format.NIFTI,
    ".7": Format.GE,
    ".raw": Format.PHILIPS,
    ".lab": Format.PHILIPS,
    ".sin": Format.PHILIPS,
}
_IMAGE_DATASETS = ("reconstruction", "reconstruction_rss", "reconstruction_esc")


def open_scan(path: Path) -> Scan:
    """Open a scan of any format that holds Cartesian k-space.

    Raises:
        BadInputError: there is no file, it is damaged, or of a format that is not read; then with
            what to do about it.
    """
    found = identify(path)
    if found not in _READERS:
        raise BadInputError(
            "no k-space can be read from this file",
            file=path,
            got=found.value,
            expected=", ".join(known.value for known in _READERS),
            hint=_HINTS[found],
        )
    return _READERS[found](path)


def identify(path: Path) -> Format:
    """What a file is, by its content; only formats without a mark of their own go by their name.

    Raises:
        BadInputError: there is no file, it is empty, or it is HDF5 that cannot be opened.
    """
    require_file(path)
    with path.open("rb") as stream:
        head = stream.read(352)
    if h5py.is_hdf5(path):
        return _identify_hdf5(path)
    for offset, mark, found in _MARKS:
        if head[offset:].startswith(mark):
            return found
    return Format.TWIX if _is_twix(head, path) else _SUFFIXES.get(path.suffix, Format.UNKNOWN)


def _identify_hdf5(path: Path) -> Format:
    with open_hdf5(path) as file:
        try:
            names = set(file)
            groups = [member for member in file.values() if isinstance(member, h5py.Group)]
            if names & {"kspace", "ismrmrd_header"}:  # the latter without the former is told
                return Format.FASTMRI
            if any("xml" in group and "data" in group for group in groups):
                return Format.MRD
        except DAMAGE as error:
            raise BadInputError(
                "the HDF5 file is truncated or damaged",
                file=path,
                got=error,
                hint="Copy the file again from where it came",
            ) from error
    return Format.HDF5_IMAGES if names & set(_IMAGE_DATASETS) else Format.HDF5_OTHER


def _is_twix(head: bytes, path: Path) -> bool:
    """Two numbers begin a VD/VE file: 0 and a count of measurements; VB has its header's length."""
    first, second = (int.from_bytes(head[at : at + 4], "little") for at in (0, 4))
    new = first < 10_000 and 0 < second <= 64
    return (path.suffix == ".dat" and new) or b"Config" in head[:32]
