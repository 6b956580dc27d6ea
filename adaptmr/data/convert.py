"""From one file format to another."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from adaptmr.data import fastmri, mrd, nifti
from adaptmr.data.doors import Format, identify, open_scan
from adaptmr.data.fastmri_contents import attribute
from adaptmr.data.hdf5 import open_hdf5
from adaptmr.data.target import with_target
from adaptmr.errors import BadInputError, UsageError


def convert(source: Path, destination: Path, *, overwrite: bool = False) -> None:
    """Convert a file; the name of the destination tells to what.

    ================================  ===================  ======================================
    source                            destination          what is made
    ================================  ===================  ======================================
    k-space of any format read        ``.h5``              fastMRI HDF5; a fully sampled scan
                                                           without reference gets its root sum of
                                                           squares
    k-space of any format read        ``.mrd``             ISMRMRD, without the reference
    HDF5 images (a submission)        ``.nii``/``.nii.gz``  NIfTI
    NIfTI                             ``.h5``              HDF5 images
    ================================  ===================  ======================================

    HDF5 images are (slices, rows, columns); in NIfTI they are (columns, rows, slices), with the
    affine of the NIfTI they came from, or the identity.

    Args:
        source: what to convert.
        destination: the new file.
        overwrite: whether an existing file may be replaced.

    Raises:
        UsageError: there is no such conversion.
        BadInputError: the source cannot be read, or the destination not written.
    """
    found = identify(source)
    suffix = ".nii" if destination.name.endswith(".nii.gz") else destination.suffix
    if found in (Format.HDF5_IMAGES, Format.NIFTI):
        step = _IMAGES.get((found, suffix))
    else:
        step = _KSPACE.get(suffix)
    if step is None:
        raise UsageError(
            f"there is no conversion from {found.value} to '{destination.name}'",
            file=source,
            expected="k-space to .h5 or .mrd, HDF5 images to .nii or .nii.gz, NIfTI to .h5",
            hint="Images of a scan are made by `adaptmr reconstruct`" if suffix == ".nii" else None,
        )
    step(source, destination, overwrite)


def _to_fastmri(source: Path, destination: Path, overwrite: bool) -> None:
    scan = open_scan(source)
    if scan.target is None and scan.fully_sampled:
        scan = with_target(scan)
    fastmri.write_scan(scan, destination, overwrite=overwrite)


def _to_mrd(source: Path, destination: Path, overwrite: bool) -> None:
    mrd.write_scan(open_scan(source), destination, overwrite=overwrite)


def _to_nifti(source: Path, destination: Path, overwrite: bool) -> None:
    images = fastmri.read_images(source, fastmri.image_dataset(source))
    affine = _affine(source)
    data = np.ascontiguousarray(images[:].numpy().T)
    nifti.write_image(nifti.Image(data, affine), destination, overwrite=overwrite)


def _affine(source: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    with open_hdf5(source) as file:
        told = attribute(file, "affine")
    if told is None:
        return np.eye(4)
    try:
        return np.asarray(json.loads(str(told)), dtype=np.float64).reshape(4, 4)
    except (ValueError, TypeError) as error:
        raise BadInputError(
            "the affine is not a 4 x 4 matrix",
            file=source,
            field="affine",
            got=told,
            expected="four lists of four numbers, as JSON",
        ) from error


def _to_images(source: Path, destination: Path, overwrite: bool) -> None:
    image = nifti.read_image(source)
    fastmri.write_submission(
        destination,
        torch.from_numpy(np.array(image.data.T, dtype=np.float32, order="C")),
        overwrite=overwrite,
        attributes={"affine": json.dumps(image.affine.tolist())},
    )


_Step = Callable[[Path, Path, bool], None]
_KSPACE: dict[str, _Step] = {".h5": _to_fastmri, ".mrd": _to_mrd}
_IMAGES: dict[tuple[Format, str], _Step] = {
    (Format.HDF5_IMAGES, ".nii"): _to_nifti,
    (Format.NIFTI, ".h5"): _to_images,
}
