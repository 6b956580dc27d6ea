"""Reconstruct files: each scan in, one submission file out."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from adaptmr.data.crop import center_crop
from adaptmr.data.doors import open_scan
from adaptmr.data.fastmri import write_submission
from adaptmr.data.scan import Scan, Stack
from adaptmr.data.target import image_size
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.reconstructor import Reconstructor
from adaptmr.sampling.generators import MaskSpec, make_mask
from adaptmr.sampling.mask import Mask

CPU = torch.device("cpu")
SCAN_SUFFIXES = frozenset({".h5", ".hdf5", ".mrd", ".npy", ".npz", ".cfl"})


@dataclass(frozen=True)
class Settings:
    """How files are reconstructed.

    Attributes:
        reconstructor: makes images of k-space.
        masks: mask that hides part of a fully sampled scan; None for a scan that came
            undersampled, or to reconstruct everything there is.
        seed: seed of the mask; None seeds by file name, as fastMRI's evaluation does.
        batch_size: slices reconstructed at once.
        device: where to compute.
    """

    reconstructor: Reconstructor
    masks: MaskSpec | None = None
    seed: int | None = None
    batch_size: int = 4
    device: torch.device = CPU


class Reconstruction(BaseModel):
    """What was done with one file."""

    model_config = ConfigDict(frozen=True)

    source: Path
    output: Path
    slices: int
    acceleration: float
    """Measured: positions that exist over positions used."""
    mask: str
    """Fingerprint of the mask."""
    seconds: float
    warnings: tuple[str, ...] = ()


def mask_of(scan: Scan, masks: MaskSpec | None, seed: int | None = None) -> Mask:
    """The mask a scan is reconstructed with.

    Raises:
        BadInputError: a mask is asked for, but the scan came undersampled already.
    """
    if masks is None:
        return Mask.of_acquired(scan.acquired & scan.encoded, scan.encoded)
    if not scan.fully_sampled:
        raise BadInputError(
            "the scan came undersampled; no further mask can be laid over it",
            file=scan.name,
            field="mask",
            got=f"{scan.acceleration:.2f} times undersampled k-space",
            expected="fully sampled k-space",
            hint="Leave out --mask to reconstruct what was acquired",
        )
    return make_mask(
        masks, scan.matrix, seed=scan.name if seed is None else seed, padding=scan.padding
    )


def _read_images(scan: Scan, mask: Mask, settings: Settings, start: int, stop: int) -> Tensor:
    batches = []
    for first in range(start, stop, settings.batch_size):
        kspace = scan.kspace[first : min(stop, first + settings.batch_size)].to(settings.device)
        batches.append(settings.reconstructor(kspace, mask).cpu())
    return center_crop(torch.cat(batches), image_size(scan))


def load_reconstructor(network: Path, device: torch.device) -> Reconstructor:
    """A trained network: a folder that training wrote, or fastMRI weights as ``.safetensors``.

    Raises:
        BadInputError: it is missing, damaged, or of another network.
    """
    from adaptmr.reconstruction.networks import checkpoint

    loaded = checkpoint.load(network) if network.is_dir() else checkpoint.load_fastmri(network)
    return loaded.to(device)


def reconstructed(scan: Scan, mask: Mask, settings: Settings) -> Stack:
    """The images of a scan, (slices, rows, columns) float32, computed as they are read."""
    return Stack((scan.slices, *image_size(scan)), partial(_read_images, scan, mask, settings))


def reconstruct_file(
    source: Path, folder: Path, settings: Settings, *, overwrite: bool = False
) -> Reconstruction:
    """Reconstruct one scan into ``folder`` as fastMRI submission HDF5 of the same name.

    Raises:
        BadInputError: the scan cannot be read or does not fit the settings, or the output exists.
    """
    begun = time.perf_counter()
    scan = open_scan(source)
    mask = mask_of(scan, settings.masks, settings.seed)
    warnings = []
    if settings.masks is not None and mask.axes == 2 and scan.header.phase_axes == 1:
        warnings.append("points were left out along the readout: possible only in retrospect")
    output = folder / f"{Path(scan.name).stem}.h5"
    with torch.inference_mode():
        write_submission(output, reconstructed(scan, mask, settings), overwrite=overwrite)
    return Reconstruction(
        source=source,
        output=output,
        slices=scan.slices,
        acceleration=mask.acceleration,
        mask=mask.fingerprint,
        seconds=time.perf_counter() - begun,
        warnings=tuple(warnings),
    )


def scan_files(paths: Sequence[Path]) -> list[Path]:
    """The scans among files and folders, folders opened one level deep.

    Raises:
        UsageError: nothing is there, or two files would have outputs of the same name.
    """
    files = [file for path in paths for file in _files_of(path)]
    if not files:
        raise UsageError("no scan found", got=", ".join(map(str, paths)) or "nothing")
    stems = [file.stem for file in files]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        raise UsageError(
            f"two scans are named '{twice}', so their outputs would be one file",
            hint="Give them in two calls with different output folders",
        )
    return files


def _files_of(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(f for f in path.iterdir() if f.suffix.lower() in SCAN_SUFFIXES)
    else:
        yield path
