"""Folders of labelled scans as examples of a task."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_studies import FLUID, LESION, MATRIX, TISSUE

from adaptmr.continual.study import LEARNER, TASK_NETWORK, Study, judgement, outputs
from adaptmr.continual.task import Judgement, Split
from adaptmr.data.annotations import LabelMap, ParticipantClass, ParticipantNumber
from adaptmr.data.hdf5 import open_hdf5
from adaptmr.data.participants import PARTICIPANTS
from adaptmr.errors import BadInputError


def test_parts_are_other_subjects(study: Path) -> None:
    learner = Study.open(study).examples(TISSUE, LEARNER)
    network = Study.open(study).examples(TISSUE, TASK_NETWORK)
    subjects = [
        {example.subject for example in some}
        for found in (learner, network)
        for some in found.values()
    ]
    assert [len(each) for each in subjects] == [3, 1, 2, 3, 2]
    assert len(set.union(*subjects)) == 11


def test_a_label_map_is_that_of_the_file(study: Path) -> None:
    example = Study.open(study).examples(TISSUE, LEARNER)[Split.TEST][0]
    with open_hdf5(study / example.scan.name) as file:
        stored = file["labels"][()]
    assert example.label is not None
    assert example.label.dtype == torch.int64
    assert tuple(example.label.shape) == (2, *MATRIX)
    assert np.array_equal(example.label.numpy() == 2, np.isin(stored, (2, 4)))


def test_labels_of_slices_and_of_scans(study: Path) -> None:
    for annotation, dtype in ((LESION, torch.int64), (FLUID, torch.float32)):
        of = Study.open(study)
        slices = of.examples(annotation, LEARNER)[Split.TRAINING][0].label
        whole = (
            Study.open(study).examples(annotation, LEARNER, volumes=True)[Split.TRAINING][0].label
        )
        assert slices is not None and whole is not None
        assert slices.dtype == whole.dtype == dtype
        assert (tuple(slices.shape), tuple(whole.shape)) == ((2,), ())
        assert float(slices.min()) <= float(whole) <= float(slices.max())


def test_the_reconstruction_has_no_labels(study: Path) -> None:
    assert all(e.label is None for e in Study.open(study).examples(None, LEARNER)[Split.TRAINING])


def test_columns_of_the_table(study: Path) -> None:
    sides = Study.open(study).examples(ParticipantClass(column="side", classes=("L", "R")), LEARNER)
    assert [e.label.tolist() for e in sides[Split.TRAINING] if e.label is not None] == [
        [1, 1],
        [0, 0],
        [1, 1],
    ]
    ages = Study.open(study).examples(ParticipantNumber(column="age"), LEARNER, volumes=True)
    assert [float(e.label) for e in ages[Split.TEST] if e.label is not None] == [49, 50]


def test_a_part_that_is_missing(study: Path, tmp_path: Path) -> None:
    (tmp_path / PARTICIPANTS).write_text(
        (study / PARTICIPANTS).read_text().replace("\tval\t", "\ttrain\t")
    )
    for file in study.glob("*.h5"):
        (tmp_path / file.name).symlink_to(file)
    with pytest.raises(BadInputError, match="at least one subject with the split val"):
        Study.open(tmp_path).examples(None, LEARNER)


def test_what_annotations_ask() -> None:
    assert judgement(None) is Judgement.RECONSTRUCTION
    asked = {TISSUE: 4, LESION: 2, FLUID: 1, ParticipantClass(column="a", classes=("x",) * 5): 5}
    assert [outputs(annotation) for annotation in asked] == list(asked.values())
    assert [judgement(annotation) for annotation in asked] == [
        Judgement.SEGMENTATION,
        Judgement.CLASSIFICATION,
        Judgement.REGRESSION,
        Judgement.CLASSIFICATION,
    ]
    assert judgement(LabelMap(classes=((1,),))) is Judgement.SEGMENTATION
