"""`Study`: a folder of labelled scans, the examples of tasks.

A folder has fastMRI HDF5 files, fully sampled, and ``participants.tsv``. Label maps are datasets of
the files; what is known of a subject is a column of the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

import torch
from torch import Tensor

from adaptmr.continual.task import Example, Judgement, Split
from adaptmr.data.annotations import Annotation, LabelMap, ParticipantClass, Presence, annotated
from adaptmr.data.participants import Part, Participants, read_participants
from adaptmr.data.scan import Scan
from adaptmr.data.target import image_size
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.training.cohort import open_scans, subject_of

LEARNER: Final[Mapping[Split, Part]] = MappingProxyType(
    {Split.TRAINING: Part.TRAINING, Split.VALIDATION: Part.VALIDATION, Split.TEST: Part.TEST}
)
"""The parts of a study that the continual training has."""
TASK_NETWORK: Final[Mapping[Split, Part]] = MappingProxyType(
    {Split.TRAINING: Part.TASK_TRAINING, Split.VALIDATION: Part.TASK_VALIDATION}
)
"""The parts that task networks are trained on: other subjects."""


def judgement(annotation: Annotation | None) -> Judgement:
    """What is asked of an image, by what is known of it; nothing is, of the reconstruction."""
    if annotation is None:
        return Judgement.RECONSTRUCTION
    if isinstance(annotation, LabelMap):
        return Judgement.SEGMENTATION
    if isinstance(annotation, Presence | ParticipantClass):
        return Judgement.CLASSIFICATION
    return Judgement.REGRESSION


def outputs(annotation: Annotation) -> int:
    """Outputs of a network that answers: classes, or 1 for a number."""
    if isinstance(annotation, LabelMap):
        return 1 + len(annotation.classes)
    if isinstance(annotation, ParticipantClass):
        return len(annotation.classes)
    return 2 if isinstance(annotation, Presence) else 1


@dataclass(frozen=True, eq=False)
class Study:
    """A folder of labelled scans; k-space is read when it is asked for.

    Attributes:
        folder: where it is.
        participants: the table.
        scans: all scans; tasks of one study share them.
    """

    folder: Path
    participants: Participants
    scans: tuple[Scan, ...]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the scans and read the table.

        Raises:
            BadInputError: there are no scans, one cannot be used, or the table is wrong.
        """
        return cls(folder, read_participants(folder), open_scans(folder))

    def examples(
        self, annotation: Annotation | None, parts: Mapping[Split, Part], *, volumes: bool = False
    ) -> dict[Split, tuple[Example, ...]]:
        """The scans of some parts with their labels.

        Args:
            annotation: what the labels are; None for the reconstruction.
            parts: which subjects are for what; scans of others are left out.
            volumes: whether a scan has one label for all its slices.

        Raises:
            BadInputError: labels do not fit, the table lacks a subject, or a part has none.
        """
        wanted = {part: split for split, part in parts.items()}
        found: dict[Split, list[Example]] = {split: [] for split in parts}
        for scan in self.scans:
            split = wanted.get(self.participants.part(subject_of(scan)))
            if split is not None:
                found[split].append(Example(scan, self._label(scan, annotation, volumes)))
        for split, some in found.items():
            if not some:
                raise BadInputError(
                    "the folder has no scan of a part of the study",
                    file=self.folder,
                    field="split",
                    got="none",
                    expected=f"at least one subject with the split {parts[split]}",
                    hint="Change the table of participants",
                )
        return {split: tuple(some) for split, some in found.items()}

    def _label(self, scan: Scan, annotation: Annotation | None, volumes: bool) -> Tensor | None:
        if annotation is None:
            return None
        rows, columns = image_size(scan)
        values = annotated(
            annotation,
            self.folder / scan.name,
            (scan.slices, rows, columns),
            subject_of(scan),
            self.participants,
            whole=volumes,
        )
        return torch.from_numpy(values)
