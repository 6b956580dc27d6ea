"""Configurations of tasks and sequences: what fits, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adaptmr.continual.strategies.replaying import Most
from adaptmr.continual.task import Loss, Metric
from adaptmr.data.participants import Part
from adaptmr.workflows.config import load_config
from adaptmr.workflows.continual.config import (
    SequenceConfig,
    SimulatedStudy,
    TaskConfig,
    TrainedJudge,
)

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def _values(**changes: Any) -> dict[str, Any]:
    return {
        "name": "tissue",
        "study": {"kind": "scans", "folder": "scans"},
        "annotation": {"kind": "map", "classes": [[1], [2]]},
        "network": {"kind": "trained", "architecture": {"kind": "unet", "outputs": 3}},
    } | changes


def test_usual_loss_and_metric() -> None:
    config = TaskConfig.model_validate(_values())
    assert (config.chosen_loss, config.chosen_metric) == (Loss.CROSS_ENTROPY, Metric.DICE)
    assert not config.volumes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotation": {"kind": "map", "classes": [[1]]}}, "asks for 2 outputs, not 3"),
        ({"adapter": {"layout": "volumes"}}, "2 dimensions do not judge volumes"),
        ({"loss": "absolute"}, "a segmentation has the loss"),
        ({"metric": "accuracy"}, "a segmentation has the metric"),
        ({"name": "a/b"}, "pattern"),
        ({"annotation": {"kind": "map", "classes": [[]]}}, "at least 1 item"),
        ({"epochs": 3}, "Extra inputs"),
    ],
)
def test_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TaskConfig.model_validate(_values(**changes))


def test_examples_are_configurations_of_one_study() -> None:
    task = load_config(EXAMPLES / "task-small.yaml", TaskConfig)
    sequence = load_config(EXAMPLES / "continual-small.yaml", SequenceConfig)
    assert isinstance(task.network, TrainedJudge)
    assert isinstance(task.study, SimulatedStudy)
    assert task.study == sequence.reconstruction.study == sequence.tasks[0].study
    assert set(task.study.parts) == set(Part)
    assert isinstance(sequence.strategy, Most)
