"""`Mask`: which positions of k-space are acquired, as an immutable value."""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from adaptmr.data.positions import centred_block, largest_block
from adaptmr.errors import BadInputError, UsageError


@dataclass(frozen=True, eq=False)
class Mask:
    """Positions of k-space to acquire: lines (1-D, along the last axis) or points (2-D).

    Attributes:
        positions: bool, (phase,) for lines or (readout, phase) for points; read-only.
        low_frequency: size of the fully acquired centred block, one number per position axis;
            all zero when there is none.
        encoded: bool like ``positions``: positions that exist in the scan (zero padding excluded).
        nominal_acceleration: the acceleration that was asked for.
        provenance: how the mask was made: name of the generator, its arguments and seed.
    """

    positions: NDArray[np.bool_]
    low_frequency: tuple[int, ...]
    encoded: NDArray[np.bool_] | None = None
    nominal_acceleration: float | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        positions = np.array(self.positions, dtype=np.bool_)
        encoded = (
            np.ones_like(positions) if self.encoded is None else np.array(self.encoded, np.bool_)
        )
        if positions.ndim not in (1, 2) or positions.size == 0:
            raise BadInputError(
                "a mask has one axis (lines) or two (points)", field="mask", got=positions.shape
            )
        if encoded.shape != positions.shape:
            raise BadInputError(
                "the encoded positions do not fit the mask",
                field="encoded",
                got=encoded.shape,
                expected=positions.shape,
            )
        if bool((positions & ~encoded).any()):
            raise BadInputError(
                "the mask acquires positions that do not exist in the scan",
                field="mask",
                got=f"{int((positions & ~encoded).sum())} positions in the padding",
                expected="none",
            )
        if len(self.low_frequency) != positions.ndim or not all(
            0 <= length <= size
            for length, size in zip(self.low_frequency, positions.shape, strict=True)
        ):
            raise BadInputError(
                "the low-frequency block needs one size per axis of the mask",
                field="low_frequency",
                got=self.low_frequency,
                expected=f"{positions.ndim} numbers, at most {positions.shape}",
            )
        positions.flags.writeable = False
        encoded.flags.writeable = False
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "encoded", encoded)
        block = positions[self.block]
        if not bool(block.all()):
            raise BadInputError(
                "the low-frequency block is not fully acquired",
                field="low_frequency",
                got=f"{int(block.sum())} of {block.size} positions",
                expected="all of them",
            )

    @property
    def block(self) -> tuple[slice, ...]:
        """Index of the low-frequency block within ``positions``."""
        return tuple(
            centred_block(size, length)
            for size, length in zip(self.positions.shape, self.low_frequency, strict=True)
        )

    @property
    def axes(self) -> int:
        """1 for lines, 2 for points."""
        return self.positions.ndim

    @property
    def budget(self) -> int:
        """Number of positions acquired, the low-frequency block included."""
        return int(self.positions.sum())

    @property
    def acceleration(self) -> float:
        """Measured acceleration: positions that exist over positions acquired."""
        assert self.encoded is not None  # noqa: S101 - set by __post_init__
        return float(self.encoded.sum()) / max(1, self.budget)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of what the mask acquires: equal masks have equal fingerprints."""
        assert self.encoded is not None  # noqa: S101 - set by __post_init__
        head = json.dumps([list(self.positions.shape), list(self.low_frequency)]).encode()
        packed = np.packbits(self.positions).tobytes() + np.packbits(self.encoded).tobytes()
        return hashlib.sha256(head + packed).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def tensor(self, device: torch.device | str | None = None) -> Tensor:
        """The positions as a bool tensor that broadcasts over (..., readout, phase)."""
        positions = torch.from_numpy(self.positions.copy()).to(device)
        return positions[None, :] if self.axes == 1 else positions

    def fits(self, matrix: tuple[int, ...]) -> bool:
        """Whether the mask belongs to k-space of size (readout, phase)."""
        return self.positions.shape == (matrix[-1:] if self.axes == 1 else matrix[-2:])

    def apply(self, kspace: Tensor) -> Tensor:
        """K-space with everything outside the mask set to (positive) zero.

        A product would leave ``-0.0`` where a negative value was, and with it its sign.

        Args:
            kspace: (..., readout, phase).

        Raises:
            BadInputError: the mask is of another size.
        """
        if not self.fits(tuple(kspace.shape)):
            raise BadInputError(
                "the mask does not fit the k-space",
                field="mask",
                got=self.positions.shape,
                expected=tuple(kspace.shape[-1:] if self.axes == 1 else kspace.shape[-2:]),
                hint="Make the mask for this matrix size",
            )
        zero = torch.zeros((), dtype=kspace.dtype, device=kspace.device)
        return torch.where(self.tensor(kspace.device), kspace, zero)

    def low_frequency_only(self) -> Self:
        """The mask of the low-frequency block alone."""
        positions = np.zeros_like(self.positions)
        positions[self.block] = True
        return type(self)(positions, self.low_frequency, self.encoded)

    @classmethod
    def of_acquired(cls, acquired: Tensor, encoded: Tensor | None = None) -> Self:
        """The mask of a scan that came undersampled, its low-frequency block found.

        The block is the largest centred one that is fully acquired; for points the largest such
        square, then widened along each axis.

        Args:
            acquired: bool, (phase,) or (readout, phase).
            encoded: bool of the same shape, positions that exist; all when not given.
        """
        positions = acquired.cpu().numpy()
        return cls(
            positions,
            largest_block(positions),
            None if encoded is None else encoded.cpu().numpy(),
            provenance={"generator": "acquired"},
        )

    @classmethod
    def from_array(cls, array: NDArray[Any], matrix: tuple[int, int] | None = None) -> Self:
        """A mask that came from elsewhere, checked; its low-frequency block is found.

        Args:
            array: (phase,) or (readout, phase), bool or numbers that are all 0 or 1.
            matrix: size of the k-space it is meant for, (readout, phase); not checked when not
                given.

        Raises:
            BadInputError: the array is no mask, acquires nothing or is of another size.
        """
        if array.dtype.kind not in "biuf" or not bool(np.isin(array, (0, 1)).all()):
            raise BadInputError(
                "a mask holds only 0 and 1", field="mask", got=_described(array), expected="bool"
            )
        if not array.any():
            raise BadInputError("the mask acquires nothing", field="mask", got=_described(array))
        positions = torch.from_numpy(array.astype(np.bool_))
        if positions.ndim not in (1, 2) or (
            matrix is not None and tuple(positions.shape) not in {matrix, matrix[1:]}
        ):
            raise BadInputError(
                "the mask does not fit the k-space",
                field="mask",
                got=array.shape,
                expected=f"{matrix[1:]} for lines or {matrix} for points"
                if matrix
                else "(phase,) for lines or (readout, phase) for points",
                hint="Make the mask for this matrix size",
            )
        return cls.of_acquired(positions)

    def lines(self) -> list[int]:
        """The columns to acquire, ascending from 0: the line list a scanner is given.

        Raises:
            UsageError: the mask is of points.
        """
        if self.axes != 1:
            raise UsageError(
                "a mask of points has no line list",
                field="mask",
                got=self.positions.shape,
                hint="Use a mask of lines for a scan with one phase-encode axis",
            )
        return [int(line) for line in np.flatnonzero(self.positions)]

    def to_json(self) -> str:
        """The whole mask as one JSON object; `from_json` gives an equal mask back."""
        assert self.encoded is not None  # noqa: S101 - set by __post_init__
        return _MaskRecord(
            format="adaptmr-mask-1",
            shape=self.positions.shape,
            positions=_packed(self.positions),
            encoded=_packed(self.encoded),
            low_frequency=self.low_frequency,
            nominal_acceleration=self.nominal_acceleration,
            provenance=self.provenance,
            fingerprint=self.fingerprint,
        ).model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The mask that `to_json` wrote.

        Raises:
            BadInputError: the text is no such object, or was changed since.
        """
        try:
            record = _MaskRecord.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise BadInputError(
                "this is no mask written by adaptmr",
                field=".".join(map(str, first["loc"])) or "mask",
                got=first["msg"],
            ) from error
        mask = cls(
            _unpacked(record.positions, record.shape),
            record.low_frequency,
            _unpacked(record.encoded, record.shape),
            record.nominal_acceleration,
            record.provenance,
        )
        if mask.fingerprint != record.fingerprint:
            raise BadInputError(
                "the mask was changed since it was written",
                field="fingerprint",
                got=mask.fingerprint,
                expected=record.fingerprint,
            )
        return mask


class _MaskRecord(BaseModel):
    """A mask on disk; positions are bits in C order, eight a byte, base64."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal["adaptmr-mask-1"]
    shape: tuple[int, ...]
    positions: str
    encoded: str
    low_frequency: tuple[int, ...]
    nominal_acceleration: float | None
    provenance: dict[str, Any]
    fingerprint: str


def _packed(array: NDArray[np.bool_]) -> str:
    return base64.b64encode(np.packbits(array).tobytes()).decode()


def _unpacked(text: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    size = int(np.prod(shape, dtype=object))
    try:
        packed = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except (binascii.Error, ValueError) as error:
        raise BadInputError("the mask is not base64", field="positions", got=str(error)) from error
    if min(shape, default=0) < 1 or packed.size != -(-size // 8):
        raise BadInputError(
            "the mask holds another number of positions than it says",
            field="positions",
            got=f"{packed.size} bytes",
            expected=f"{shape}",
        )
    return np.unpackbits(packed, count=size).astype(np.bool_).reshape(shape)


def _described(array: NDArray[Any]) -> str:
    return f"{array.dtype} of shape {array.shape}"
