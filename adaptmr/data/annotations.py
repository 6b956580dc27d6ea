"""What is known of the slices of a scan beside its k-space: label maps, and numbers from them."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from adaptmr.data.hdf5 import damage_named, dataset, open_hdf5, read_slice
from adaptmr.data.participants import Participants
from adaptmr.errors import BadInputError

Numbers = Annotated[tuple[int, ...], Field(min_length=1)]


class _Annotation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelMap(_Annotation):
    """A class for each pixel, from a dataset of the scan's file."""

    kind: Literal["map"] = "map"
    dataset: str = "labels"
    """(slices, rows, columns) whole numbers, of the size of the reference images."""
    classes: tuple[Numbers, ...] = Field(min_length=1)
    """Numbers that make up class 1, class 2, ...; all others are class 0."""


class Presence(_Annotation):
    """Whether a slice holds any of some labels: class 1, else 0."""

    kind: Literal["presence"] = "presence"
    dataset: str = "labels"
    numbers: Numbers
    pixels: PositiveInt = 1
    """Fewer pixels than these do not count."""


class Share(_Annotation):
    """How much of a slice some labels take, from 0 to 1."""

    kind: Literal["share"] = "share"
    dataset: str = "labels"
    numbers: Numbers
    among: Numbers
    """Labels that are the whole."""


class ParticipantClass(_Annotation):
    """A class of the subject, from a column of the table of participants."""

    kind: Literal["participant-class"] = "participant-class"
    column: str
    classes: tuple[str, ...] = ("0", "1")
    """Entries of the column, class 0 first."""


class ParticipantNumber(_Annotation):
    """A number of the subject, from a column of the table of participants."""

    kind: Literal["participant-number"] = "participant-number"
    column: str


Annotation = Annotated[
    LabelMap | Presence | Share | ParticipantClass | ParticipantNumber, Field(discriminator="kind")
]


def annotated(
    annotation: Annotation,
    path: Path,
    size: tuple[int, int, int],
    subject: str,
    participants: Participants,
    *,
    whole: bool = False,
) -> NDArray[np.int64] | NDArray[np.float32]:
    """What the slices of one scan are, or what the scan is as a whole.

    Args:
        annotation: what is asked.
        path: the scan's file.
        size: (slices, rows, columns) of its reference images.
        subject: the scan's subject.
        participants: the table of the folder.
        whole: whether one answer is wanted for all slices together; not of a `LabelMap`.

    Returns:
        int64 classes, (slices, rows, columns) for a `LabelMap`, else (slices,), or () of the whole;
        float32 (slices,) or () for numbers.

    Raises:
        BadInputError: the labels are missing, of another size, or not whole numbers; the table does
            not know the subject; its entry is no known class or number.
    """
    if isinstance(annotation, ParticipantClass | ParticipantNumber):
        entry = _of_participant(annotation, subject, participants)
        return entry if whole else np.full(size[0], entry)
    labels = read_labels(path, annotation.dataset, size)
    if isinstance(annotation, LabelMap):
        found = np.zeros(labels.shape, dtype=np.int64)
        for number, group in enumerate(annotation.classes, start=1):
            found[np.isin(labels, group)] = number
        return found
    axes = (0, 1, 2) if whole else (1, 2)
    counts = np.asarray(np.isin(labels, annotation.numbers).sum(axes))
    if isinstance(annotation, Presence):
        return np.asarray(counts >= annotation.pixels, dtype=np.int64)
    everything = np.isin(labels, annotation.among).sum(axes)
    return np.asarray(counts / np.maximum(everything, 1), dtype=np.float32)


def _of_participant(
    annotation: ParticipantClass | ParticipantNumber, subject: str, participants: Participants
) -> NDArray[np.int64] | NDArray[np.float32]:
    """() class or number of a subject."""
    entry = participants.value(annotation.column, subject)
    try:
        if isinstance(annotation, ParticipantClass):
            return np.asarray(annotation.classes.index(entry), dtype=np.int64)
        return np.asarray(float(entry), dtype=np.float32)
    except ValueError as error:
        raise BadInputError(
            "the table of participants has an entry of another kind",
            file=participants.file,
            field=annotation.column,
            got=f"{entry!r} for {subject}",
            expected=(
                ", ".join(annotation.classes)
                if isinstance(annotation, ParticipantClass)
                else "a number"
            ),
        ) from error


def read_labels(path: Path, name: str, size: tuple[int, int, int]) -> NDArray[np.int64]:
    """A label map of a scan's file.

    Args:
        path: HDF5 file.
        name: of the dataset.
        size: (slices, rows, columns) that it must have.

    Raises:
        BadInputError: it is missing, damaged, of another size, or no whole numbers.
    """
    with open_hdf5(path) as file:
        data = dataset(file, path, name)
        with damage_named(path, name):
            shape, kind = data.shape, data.dtype.kind
        if shape != size or kind not in "iu":
            raise BadInputError(
                "the labels do not fit the images",
                file=path,
                field=name,
                got=f"{data.dtype} of shape {shape}",
                expected=f"whole numbers of shape {size}",
                hint="Label the images that the file holds, slice by slice and pixel by pixel",
            )
        return np.stack([read_slice(path, data, index, np.int64) for index in range(size[0])])
