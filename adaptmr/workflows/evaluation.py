"""Compare a folder of reconstructions with a folder of targets."""

from pathlib import Path

import h5py
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from adaptmr.data.fastmri import read_images, target_dataset
from adaptmr.data.hdf5 import damage_named, open_hdf5
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.metrics import PROTOCOLS, Metrics, ProtocolName
from adaptmr.workflows.device import usable_device

_SUFFIXES = frozenset({".h5", ".hdf5"})


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VolumeMetrics(Metrics):
    """The metrics of one file."""

    name: str


class Summary(_Value):
    """One number per metric; None where it is infinite or there are too few volumes for it."""

    nmse: float | None
    psnr: float | None
    ssim: float | None


class LeftOut(_Value):
    """A file that no mean counts, and why."""

    name: str
    reason: str


class Evaluation(_Value):
    """What `evaluate` found; its JSON is what scripts rely on."""

    protocol: ProtocolName
    volumes: tuple[VolumeMetrics, ...]
    mean: Summary
    two_std: Summary
    """Twice the sample standard deviation over volumes (n - 1), as fastMRI prints it."""
    excluded: tuple[LeftOut, ...]
    """Bad files; the caller exits with 3 when there are any."""
    filtered: tuple[LeftOut, ...]
    """Good files that were not asked for."""


def evaluate(
    predictions: Path,
    targets: Path,
    protocol: ProtocolName = ProtocolName.FASTMRI_VOLUME,
    *,
    acquisition: str | None = None,
    acceleration: int | None = None,
    region: str | None = None,
    device: str = "cpu",
) -> Evaluation:
    """Measure every target file against the prediction of the same name, one volume at a time.

    Args:
        predictions: folder of fastMRI submissions (dataset ``reconstruction``).
        targets: folder of fastMRI files (``reconstruction_rss``, or ``reconstruction_esc`` where
            the k-space has no coil axis).
        protocol: definition of the metrics.
        acquisition: only targets whose attribute ``acquisition`` is this.
        acceleration: only targets whose attribute ``acceleration`` is this.
        region: for the protocol ``region-volume``, dataset of the target file, of the target's
            shape; voxels where it is not zero count.
        device: where to compute.

    Raises:
        BadInputError: a folder is missing, or the targets' has no HDF5 file.
        UsageError: the region does not suit the protocol, or there is no such device.
    """
    if (region is None) == (protocol is ProtocolName.REGION_VOLUME):
        raise UsageError(
            f"a region and the protocol {ProtocolName.REGION_VOLUME} go together",
            field="region",
            got=f"region {region}, protocol {protocol}",
        )
    place = usable_device(device)
    predicted, wanted = _files(predictions), _files(targets)
    if not wanted:
        raise BadInputError("there are no targets", file=targets, expected="files named *.h5")
    volumes: list[VolumeMetrics] = []
    excluded: list[LeftOut] = []
    filtered: list[LeftOut] = []
    for path in wanted:
        try:
            reason = _unwanted(path, acquisition, acceleration)
            if reason is not None:
                filtered.append(LeftOut(name=path.name, reason=reason))
                continue
            metrics = _measured(predictions / path.name, path, protocol, region, place)
        except BadInputError as error:
            excluded.append(LeftOut(name=path.name, reason=str(error)))
        else:
            volumes.append(VolumeMetrics(name=path.name, **metrics.model_dump()))
    known = {path.name for path in wanted}
    excluded += [
        LeftOut(name=path.name, reason=f"there is no target of this name in {targets}")
        for path in predicted
        if path.name not in known
    ]
    return Evaluation(
        protocol=protocol,
        volumes=tuple(volumes),
        mean=Summary(**{name: _mean(_column(volumes, name)) for name in Summary.model_fields}),
        two_std=Summary(
            **{name: _two_std(_column(volumes, name)) for name in Summary.model_fields}
        ),
        excluded=tuple(excluded),
        filtered=tuple(filtered),
    )


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise BadInputError("the folder does not exist", file=folder, hint="Check the path")
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in _SUFFIXES and not path.name.startswith(".")
    )


def _unwanted(path: Path, acquisition: str | None, acceleration: int | None) -> str | None:
    """Why the filters leave this file out; None when they do not."""
    for name, wanted in (("acquisition", acquisition), ("acceleration", acceleration)):
        if wanted is None:
            continue
        with open_hdf5(path) as file:
            found = _attribute(path, file, name)
        if found is None:
            return f"the file does not say its {name}"
        if found != wanted:
            return f"its {name} is {found}"
    return None


def _attribute(path: Path, file: h5py.File, name: str) -> str | float | None:
    with damage_named(path, name):
        value = file.attrs.get(name)
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, np.generic | np.ndarray) and value.size == 1:
        value = value.item()
    return value if isinstance(value, str | int | float) else None


def _measured(
    prediction: Path,
    target: Path,
    protocol: ProtocolName,
    region: str | None,
    device: torch.device,
) -> Metrics:
    reference = read_images(target, target_dataset(target))
    images = read_images(prediction, "reconstruction")
    chosen = None if region is None else read_images(target, region)[:].to(device) != 0
    return PROTOCOLS[protocol](images[:].to(device), reference[:].to(device), chosen)


def _column(volumes: list[VolumeMetrics], name: str) -> list[float | None]:
    return [getattr(volume, name) for volume in volumes]


def _finite(values: list[float | None]) -> list[float]:
    """The values, none of them when one is infinite: then so is their mean."""
    finite = [value for value in values if value is not None]
    return finite if len(finite) == len(values) else []


def _mean(values: list[float | None]) -> float | None:
    finite = _finite(values)
    return float(np.mean(finite)) if finite else None


def _two_std(values: list[float | None]) -> float | None:
    finite = _finite(values)
    return 2 * float(np.std(finite, ddof=1)) if len(finite) > 1 else None
