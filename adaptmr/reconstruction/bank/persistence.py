"""Banks as folders: JSON and safetensors, and one manifest of the sha256 of every file.

``bank.json``, ``masks/``, ``networks/0`` to ``J - 1``, ``selector/``, and where there are such
``sampler/``, ``width/`` and ``calibration.json``. The parts are the folders that their own modules
write. All files are checked when a bank is opened; the weights of a network are read when it is
first asked for.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, overload

import torch
from pydantic import BaseModel, ConfigDict, JsonValue

from adaptmr.data.files import complete_folder
from adaptmr.data.manifest import (
    MANIFEST,
    check_manifest,
    read_description,
    sha256,
    write_manifest,
)
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.calibration import intervals
from adaptmr.reconstruction.calibration.intervals import Calibration
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks import width as widths
from adaptmr.reconstruction.networks.checkpoint import Network
from adaptmr.sampling import bank as banks
from adaptmr.sampling import persistence as samplers
from adaptmr.sampling import selector_files
from adaptmr.sampling.bank import MaskBank
from adaptmr.sampling.selection import UncertaintyConfig
from adaptmr.sampling.selector import Selector

SCHEMA: Final = 1
_DESCRIPTION = "bank.json"
_MASKS = "masks"
_NETWORKS = "networks"
_SELECTOR = "selector"
_SAMPLER = "sampler"
_WIDTH = "width"
_CALIBRATION = "calibration.json"


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = SCHEMA
    kind: Literal["reconstruction-bank"] = "reconstruction-bank"
    uncertainty: UncertaintyConfig
    sampler: bool
    width: bool
    calibration: bool
    provenance: dict[str, JsonValue]


class StoredNetworks(Sequence[Network]):
    """Networks on disk, each read when it is first asked for and kept from then on.

    Args:
        folders: what `checkpoint.save` wrote.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._read: dict[int, Network] = {}

    def __len__(self) -> int:
        return len(self._folders)

    @overload
    def __getitem__(self, index: int) -> Network: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Network]: ...
    def __getitem__(self, index: int | slice) -> Network | Sequence[Network]:
        """The network, on the CPU and in evaluation mode.

        Raises:
            BadInputError: its folder was damaged since the bank was opened.
        """
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        if position not in self._read:
            # Weights that are read in inference mode could never be trained.
            with torch.inference_mode(False):
                self._read[position] = checkpoint.load(self._folders[position])
        return self._read[position]


def assemble(
    out: Path,
    *,
    masks: MaskBank,
    networks: Sequence[Path],
    sampler: Path | None,
    selector: Selector,
    uncertainty: UncertaintyConfig,
    width: Path | None,
    calibration: Calibration | None,
    provenance: Mapping[str, JsonValue],
    overwrite: bool = False,
) -> None:
    """Write a bank of its parts; the parts that lie in folders are copied.

    Args:
        out: folder for the bank; it appears complete or not at all.
        masks: the masks.
        networks: (J,) folders that `checkpoint.save` wrote, one for each mask.
        sampler: folder that `adaptmr.sampling.persistence.save` wrote; None for a selector that
            needs none.
        selector: scores the masks for a slice.
        uncertainty: how the uncertainty of a slice is found.
        width: folder that `adaptmr.reconstruction.networks.width.save` wrote; None for a bank
            without intervals.
        calibration: makes intervals of widths.
        provenance: how the bank came to be.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: a part is damaged, the parts do not fit together, or the output exists.
        UsageError: the selector cannot be stored.
    """
    if len(networks) != len(masks):
        raise BadInputError(
            "there is not one network for each mask",
            field="networks",
            got=len(networks),
            expected=len(masks),
        )
    description = _Description(
        uncertainty=uncertainty,
        sampler=sampler is not None,
        width=width is not None,
        calibration=calibration is not None,
        provenance=dict(provenance),
    )
    with complete_folder(out, overwrite=overwrite) as partial:
        text = description.model_dump_json(indent=1) + "\n"
        (partial / _DESCRIPTION).write_text(text, encoding="utf-8")
        banks.save(masks, partial / _MASKS)
        for index, folder in enumerate(networks):
            _copy(folder, partial / _network(index))
        if sampler is not None:
            _copy(sampler, partial / _SAMPLER)
        if width is not None:
            _copy(width, partial / _WIDTH)
        (partial / _SELECTOR).mkdir()
        selector_files.save(selector, partial / _SELECTOR)
        if calibration is not None:
            intervals.save(calibration, partial / _CALIBRATION)
        write_manifest(partial)
        load(partial)  # fits together, or says what does not


def load(folder: Path) -> ReconstructionBank:
    """Open a bank that `assemble` wrote, on the CPU.

    Raises:
        BadInputError: the folder is missing, incomplete, altered by as little as a byte, or of a
            newer version; the message names the file.
    """
    check_manifest(folder)
    description = read_description(folder / _DESCRIPTION, _Description, "a reconstruction bank")
    masks = banks.load(folder / _MASKS)
    networks = [folder / _network(index) for index in range(len(masks))]
    for each in networks:
        if not (each / MANIFEST).is_file():
            raise BadInputError(
                "the bank lacks a network", file=each, expected=f"{len(masks)} of them"
            )
    sampler = folder / _SAMPLER if description.sampler else None
    return ReconstructionBank(
        masks,
        StoredNetworks(networks),
        selector_files.load(folder / _SELECTOR),
        None if sampler is None else samplers.load(sampler),
        None if sampler is None else sha256(sampler / MANIFEST),
        description.uncertainty,
        widths.load(folder / _WIDTH) if description.width else None,
        intervals.load(folder / _CALIBRATION) if description.calibration else None,
        description.provenance,
    )


def fingerprint(folder: Path) -> str:
    """Identity of a bank: sha256 of its manifest. Banks of equal content have equal ones.

    Raises:
        BadInputError: there is no manifest.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise BadInputError("the manifest is missing", file=file)
    return sha256(file)


def is_bank(folder: Path) -> bool:
    """Whether a folder calls itself a reconstruction bank, be it damaged or of a newer version."""
    try:
        described = json.loads((folder / _DESCRIPTION).read_bytes())
    except (OSError, ValueError):
        return (folder / _NETWORKS).is_dir()
    kind = described.get("kind") if isinstance(described, dict) else None
    return kind == "reconstruction-bank" or (folder / _NETWORKS).is_dir()


def _network(index: int) -> str:
    return f"{_NETWORKS}/{index}"


def _copy(part: Path, to: Path) -> None:
    """Copy an artefact, checked against its manifest."""
    check_manifest(part)
    shutil.copytree(part, to, copy_function=shutil.copyfile)
