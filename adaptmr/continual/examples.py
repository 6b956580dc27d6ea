"""Folders of labelled scans, read as the examples of a task.

A folder has fastMRI HDF5 files, fully sampled, and ``participants.tsv``. Label maps are datasets of
the files; what is known of a subject is a column of the table.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import torch

from adaptmr.continual.task import Example, Judgement, Split
from adaptmr.data.annotations import Annotation, LabelMap, ParticipantClass, Presence, annotated
from adaptmr.data.participants import Part, read_participants
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


def read_examples(
    folder: Path,
    annotation: Annotation | None,
    parts: Mapping[Split, Part],
    *,
    volumes: bool = False,
) -> dict[Split, tuple[Example, ...]]:
    """Open the scans of some parts of a folder with their labels; k-space is read when asked for.

    Args:
        folder: of fastMRI files and ``participants.tsv``.
        annotation: what the labels are; None for the reconstruction.
        parts: which subjects are for what; scans of others are left out.
        volumes: whether a scan has one label for all its slices.

    Raises:
        BadInputError: there are no scans, one cannot be used, a scan's labels do not fit, or the
            table lacks a subject or has it in two parts.
    """
    participants = read_participants(folder)
    wanted = {part: split for split, part in parts.items()}
    found: dict[Split, list[Example]] = {split: [] for split in parts}
    for scan in open_scans(folder):
        subject = subject_of(scan)
        split = wanted.get(participants.part(subject))
        if split is None or scan.target is None:
            continue
        size = scan.target.shape[0], scan.target.shape[1], scan.target.shape[2]
        label = None
        if annotation is not None:
            path = folder / scan.name
            values = annotated(annotation, path, size, subject, participants, whole=volumes)
            label = torch.from_numpy(values)
        found[split].append(Example(scan, label))
    _require_some(folder, found, parts)
    return {split: tuple(examples) for split, examples in found.items()}


def _require_some(
    folder: Path, found: Mapping[Split, Collection[Example]], parts: Mapping[Split, Part]
) -> None:
    for split, examples in found.items():
        if not examples:
            raise BadInputError(
                "the folder has no scan of a part of the study",
                file=folder,
                field="split",
                got="none",
                expected=f"at least one subject with the split {parts[split]}",
                hint="Change the table of participants",
            )
