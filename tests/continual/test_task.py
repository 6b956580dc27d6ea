from dataclasses import replace

import pytest
import torch
from made_tasks import (
    MATRIX,
    judge,
    made_scan,
    made_scans,
    made_task,
    made_tasks,
    parity,
    threshold,
)

from adaptmr.continual.task import Example, Judgement, Loss, Metric, Split, require_disjoint
from adaptmr.continual.task_network import Layout
from adaptmr.errors import BadInputError


def test_subjects_and_fingerprints() -> None:
    scans = made_scans()
    first, second = made_tasks(scans)[1], made_tasks(scans)[1]
    assert first.subjects(Split.TEST) == ["test-0", "test-1"]
    assert first.fingerprint == second.fingerprint
    gone = replace(second, examples={**second.examples, Split.TRAINING: ()})
    assert gone.training_fingerprint is None
    assert gone.definition == first.definition
    assert gone.fingerprint != first.fingerprint


def test_same_subject_in_two_splits_is_refused() -> None:
    scans = made_scans()
    scans[Split.TEST].append(made_scan("training-1", 50))
    with pytest.raises(BadInputError, match=r"two splits .*training-1"):
        made_task("image", Judgement.RECONSTRUCTION, scans)


def test_same_subject_in_two_splits_of_two_tasks_is_refused() -> None:
    scans = made_scans()
    swapped = {
        Split.TRAINING: scans[Split.TEST],
        Split.VALIDATION: scans[Split.VALIDATION],
        Split.TEST: scans[Split.TRAINING],
    }
    tasks = [
        made_task("image", Judgement.RECONSTRUCTION, scans),
        made_task("tissue", Judgement.SEGMENTATION, swapped, threshold, judge(3, dense=True)),
    ]
    with pytest.raises(BadInputError, match="two splits"):
        require_disjoint(tasks)


@pytest.mark.parametrize(
    ("label", "complaint"),
    [
        (torch.zeros(2, *MATRIX, dtype=torch.long)[:, 1:], "another size"),
        (torch.zeros(2, *MATRIX), "another type"),
        (torch.full((2, *MATRIX), 3), "classes that the network"),
        (torch.full((2, *MATRIX), -1), "classes that the network"),
    ],
    ids=["size", "type", "class 3 of 3", "negative"],
)
def test_labels_that_do_not_fit_are_refused(label: torch.Tensor, complaint: str) -> None:
    network = judge(3, dense=True)
    with pytest.raises(BadInputError, match=complaint):
        made_task("tissue", Judgement.SEGMENTATION, made_scans(), lambda _: label, network)


def test_a_volume_has_one_label_and_slices_have_many() -> None:
    volumes = judge(2, dense=False, layout=Layout.VOLUMES)
    with pytest.raises(BadInputError, match="another size"):
        made_task("class", Judgement.CLASSIFICATION, made_scans(), parity, volumes)
    with pytest.raises(BadInputError, match="another size"):
        made_task(
            "class",
            Judgement.CLASSIFICATION,
            made_scans(),
            lambda scan: parity(scan)[0],
            judge(2, dense=False),
        )


def test_losses_and_metrics_have_to_fit() -> None:
    task = made_tasks()[2]
    with pytest.raises(BadInputError, match="loss does not fit"):
        replace(task, loss=Loss.ABSOLUTE)
    with pytest.raises(BadInputError, match="metric does not fit"):
        replace(task, metric=Metric.DICE)
    with pytest.raises(BadInputError, match="unless it is the reconstruction"):
        replace(task, network=None)


def test_missing_label_and_missing_data() -> None:
    task = made_tasks()[1]
    bare = (Example(task.of(Split.TEST)[0].scan, None),)
    with pytest.raises(BadInputError, match="lacks a label"):
        replace(task, examples={**task.examples, Split.TEST: bare})
    with pytest.raises(BadInputError, match="has no data"):
        replace(task, examples={**task.examples, Split.TEST: ()}).check()
