"""What a fastMRI file says about itself, also when its scan would be refused."""

from pathlib import Path

import h5py
import numpy as np

from adaptmr.data.hdf5 import DAMAGE, dataset, open_hdf5
from adaptmr.data.header_xml import ParsedXML, parse_xml
from adaptmr.data.scan import Header, Scan
from adaptmr.errors import BadInputError


def attribute(file: h5py.File, name: str) -> object:
    """An attribute of a file; None where there is none that can be read."""
    try:
        return file.attrs.get(name)
    except DAMAGE:
        return None


def _parse(path: Path, file: h5py.File) -> ParsedXML:
    """The XML header.

    Raises:
        BadInputError: there is none, or it cannot be read.
    """
    data = dataset(file, path, "ismrmrd_header")
    try:
        text = data[()]
    except DAMAGE as error:
        raise BadInputError("the header is damaged", field="ismrmrd_header") from error
    if not isinstance(text, bytes | str):
        raise BadInputError("the header is no text", field="ismrmrd_header", got=type(text))
    return parse_xml(text)


def read_header(path: Path, file: h5py.File) -> tuple[Header, str | None]:
    """The allow-listed header of XML and attributes, and why the XML could not be used, if so."""
    try:
        header, unusable = _parse(path, file).header, None
    except BadInputError as error:
        header, unusable = Header(), str(error)
    updates: dict[str, str] = {}
    for field, name in (("acquisition", "acquisition"), ("subject", "patient_id")):
        value = attribute(file, name)
        if isinstance(value, bytes):
            value = value.decode("utf-8", errors="replace")
        if isinstance(value, str) and value:
            updates[field] = value
    return header.model_copy(update=updates), unusable


def stored_kspace(path: Path) -> tuple[tuple[int, ...] | None, str | None]:
    """Shape and type of ``kspace`` as they stand in the file; None where they cannot be read."""
    with open_hdf5(path) as file:
        try:
            found = file["kspace"]
            return tuple(found.shape), str(found.dtype)
        except DAMAGE:
            return None, None


def stored_header(path: Path) -> Header:
    """The allow-listed header as far as it can be read."""
    with open_hdf5(path) as file:
        return read_header(path, file)[0]


def oddities(path: Path, scan: Scan) -> list[str]:
    """What a `Scan` read from the file does not show any more, one sentence each."""
    found = []
    with open_hdf5(path) as file:
        try:
            parallel = _parse(path, file).parallel
        except BadInputError as error:
            found.append(f"no usable header, nothing but the matrix is known: {error}")
            parallel = 1.0
        if parallel > 1 and scan.fully_sampled:
            found.append(
                f"the header tells of parallel imaging ({parallel:g}x) but k-space is full: filled"
                " in by GRAPPA or the like, which flatters results"
            )
        if scan.target is not None and attribute(file, "max") is None:
            found.append("no attribute 'max': the largest target value stands in for it")
        kspace = file["kspace"]
        if kspace.dtype != np.complex64:
            found.append(f"k-space is {kspace.dtype}: read as complex64")
        hidden = ~scan.acquired.numpy()
        if hidden.any() and any(_any_at(kspace, index, hidden) for index in range(scan.slices)):
            found.append("k-space has values outside the mask or in the padding: ignored")
    return found


def _any_at(kspace: h5py.Dataset, index: int, hidden: np.ndarray) -> bool:
    try:
        return bool(kspace[index][..., hidden].any())
    except DAMAGE:
        return False
