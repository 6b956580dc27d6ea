"""`Scan`: one Cartesian multi-coil volume, read slice by slice."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from adaptmr.errors import BadInputError


def _read_from(tensor: Tensor, start: int, stop: int) -> Tensor:
    return tensor[start:stop].clone()


@dataclass(frozen=True)
class Stack:
    """A stack of slices that is read one range at a time, so that a volume need not fit in memory.

    Attributes:
        shape: shape of the whole stack, slices first.
        read: ``read(start, stop)`` returns slices ``start`` to ``stop - 1`` as a new tensor.
    """

    shape: tuple[int, ...]
    read: Callable[[int, int], Tensor]

    @classmethod
    def of(cls, tensor: Tensor) -> Self:
        """A stack over a tensor that is in memory; reading copies, so the tensor stays as it is."""
        return cls(tuple(tensor.shape), partial(_read_from, tensor))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> Tensor:
        """One slice (without the slice axis) for an int, a contiguous range for a slice."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise IndexError(f"slices of a stack are contiguous, got step {step}")
            return self.read(start, max(start, stop))
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"slice {index} of a stack of {len(self)}")
        return self.read(position, position + 1)[0]

    def __iter__(self) -> Iterator[Tensor]:
        """The slices one after another, each without the slice axis."""
        return (self[index] for index in range(len(self)))


class Orientation(StrEnum):
    """Orientation of the slices."""

    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"


class Header(BaseModel):
    """What a scan says about itself: an allow-list, nothing that identifies a person.

    Sizes are ordered (readout, phase, slice); lengths in mm, times in ms, field in tesla,
    angles in degrees.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    acquisition: str | None = None
    """Contrast or protocol name in fastMRI's vocabulary, for example ``AXT2``."""
    subject: str | None = None
    """A pseudonymous key: what belongs to one subject has one key."""
    encoded_matrix: tuple[int, int, int] | None = None
    recon_matrix: tuple[int, int, int] | None = None
    encoded_field_of_view: tuple[float, float, float] | None = None
    recon_field_of_view: tuple[float, float, float] | None = None
    phase_limits: tuple[int, int, int] | None = None
    """First, central and last encoded step of the phase axis (ISMRMRD minimum, center, maximum)."""
    phase_axes: int = 1
    """2 when both axes of a slice are phase encodes of a 3-D scan (its readout has been inverse
    transformed into slices), so that a 2-D mask can really be acquired; 1 otherwise."""
    field_strength: float | None = None
    repetition_time: float | None = None
    echo_time: float | None = None
    inversion_time: float | None = None
    flip_angle: float | None = None
    orientation: str | None = None
    """``axial``, ``sagittal`` or ``coronal`` where it is known."""


@dataclass(frozen=True, eq=False)
class Scan:
    """One Cartesian multi-coil volume; read-only.

    Attributes:
        name: file name the scan was read from or is to be written to, without folder.
        kspace: (slices, coils, readout, phase) complex64, centre at ``n // 2``.
        acquired: positions that were measured, bool, (phase,) for lines or (readout, phase) for
            points; positions outside are zero in ``kspace``.
        padding: columns ``padding[0] <= column < padding[1]`` exist in the scan; the others are
            zero padding that no mask, acceleration or data consistency counts.
        header: what the scan says about itself.
        target: (slices, rows, columns) float32 reference magnitude, where the file has one.
        maximum: largest value of the target volume, where there is one.
        noise: (coils, samples) complex64 noise-only samples for prewhitening, where there are any.
    """

    name: str
    kspace: Stack
    acquired: Tensor
    padding: tuple[int, int]
    header: Header
    target: Stack | None = None
    maximum: float | None = None
    noise: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.kspace.shape) != 4:
            raise BadInputError(
                "k-space has the wrong number of axes",
                file=self.name,
                field="kspace",
                got=self.kspace.shape,
                expected="(slices, coils, readout, phase)",
            )
        if tuple(self.acquired.shape) not in {self.matrix, self.matrix[1:]}:
            raise BadInputError(
                "the acquired positions do not fit the k-space",
                file=self.name,
                field="acquired",
                got=tuple(self.acquired.shape),
                expected=f"{self.matrix[1:]} for lines or {self.matrix} for points",
            )
        if self.acquired.dtype is not torch.bool:
            raise BadInputError(
                "the acquired positions are not boolean",
                file=self.name,
                field="acquired",
                got=self.acquired.dtype,
                expected="torch.bool",
            )

    @property
    def slices(self) -> int:
        """Number of slices."""
        return self.kspace.shape[0]

    @property
    def coils(self) -> int:
        """Number of receive coils."""
        return self.kspace.shape[1]

    @property
    def matrix(self) -> tuple[int, int]:
        """Size of one slice's k-space: (readout, phase)."""
        return self.kspace.shape[2], self.kspace.shape[3]

    @property
    def encoded(self) -> Tensor:
        """Positions that exist in the scan, bool, shape of ``acquired``: all but the padding."""
        columns = torch.zeros(self.matrix[1], dtype=torch.bool)
        columns[self.padding[0] : self.padding[1]] = True
        return columns.expand(self.acquired.shape).clone()

    @property
    def fully_sampled(self) -> bool:
        """Whether every position that exists was measured."""
        return bool(torch.equal(self.acquired & self.encoded, self.encoded))

    @property
    def acceleration(self) -> float:
        """Measured acceleration: positions that exist over positions acquired."""
        return float(self.encoded.sum()) / max(1.0, float((self.acquired & self.encoded).sum()))
