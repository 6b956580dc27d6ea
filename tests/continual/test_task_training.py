"""Training of task networks: it learns, keeps to its seed, continues, and ends frozen."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_studies import FLUID, LESION, TISSUE
from torch import Tensor

from adaptmr.continual import task_network_files
from adaptmr.continual.measures import evaluate
from adaptmr.continual.study import TASK_NETWORK, Study, judgement, outputs
from adaptmr.continual.task import LOSSES, METRICS, Split, Task
from adaptmr.continual.task_files import StoredTask, TaskDescription, load_task, save_task
from adaptmr.continual.task_network import Adapter, Intensity, Layout, TaskNetwork
from adaptmr.continual.task_network_files import ResNetJudge, UNetJudge, build
from adaptmr.continual.task_training import (
    TaskNetworkTraining,
    intensity,
    require_one_size,
    scores_on_full,
    train,
)
from adaptmr.continual.task_training_module import varied
from adaptmr.data.annotations import Annotation
from adaptmr.errors import BadInputError, UsageError

CONFIG = TaskNetworkTraining(epochs=4, batch_size=4, learning_rate=3e-3, accelerator="cpu")


def _task(study: Path, annotation: Annotation, layout: Layout = Layout.SLICES) -> Task:
    volumes = layout is Layout.VOLUMES
    dimensions, number = (3 if volumes else 2), outputs(annotation)
    architecture: UNetJudge | ResNetJudge = (
        UNetJudge(channels=(4, 8), outputs=number)
        if annotation is TISSUE
        else ResNetJudge(channels=(4, 4, 8, 8), dimensions=dimensions, outputs=number)
    )
    network = TaskNetwork(build(architecture, 0), Adapter(layout=layout), number, None, "untrained")
    kind = judgement(annotation)
    examples = Study.open(study).examples(annotation, TASK_NETWORK, volumes=volumes)
    return Task("task", kind, network, LOSSES[kind][0], METRICS[kind][0], 0.01, examples)


def _weights(task: Task) -> dict[str, Tensor]:
    assert task.network is not None
    return {name: value.clone() for name, value in task.network.network.state_dict().items()}


def test_segmentation_is_learned_and_frozen(study: Path, tmp_path: Path) -> None:
    task = _task(study, TISSUE)
    before = scores_on_full(task, Split.VALIDATION).value
    record = train(task, CONFIG.model_copy(update={"epochs": 12}), tmp_path / "run")
    losses = [epoch["validation_loss"] for epoch in record.curve]
    assert min(losses) == losses[record.epoch]
    assert min(losses) < 0.7 * losses[0]
    assert scores_on_full(task, Split.VALIDATION).value > before + 0.05
    assert task.network is not None
    assert not task.network.network.training
    assert not any(p.requires_grad for p in task.network.network.parameters())


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("annotation", [LESION, FLUID])
def test_classes_and_numbers_of_slices_and_volumes(
    study: Path, tmp_path: Path, annotation: Annotation, layout: Layout
) -> None:
    task = _task(study, annotation, layout)
    record = train(task, CONFIG, tmp_path / "run")
    assert record.curve[-1]["loss"] < record.curve[0]["loss"]
    assert set(scores_on_full(task, Split.VALIDATION).subjects) == set(
        task.subjects(Split.VALIDATION)
    )


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """While the list holds an epoch, a training breaks down in it."""
    from adaptmr.continual.task_training_module import Batch, JudgeModule

    at: list[int] = []
    whole = JudgeModule.training_step

    def breaking(self: JudgeModule, batch: Batch, index: int) -> Tensor:
        if self.current_epoch in at:
            raise RuntimeError("breakdown")
        return whole(self, batch, index)

    monkeypatch.setattr(JudgeModule, "training_step", breaking)
    yield at


def test_a_stopped_training_ends_with_the_same_weights(
    study: Path, tmp_path: Path, stopped: list[int]
) -> None:
    whole, continued = _task(study, TISSUE), _task(study, TISSUE)
    train(whole, CONFIG, tmp_path / "whole")
    stopped.append(2)
    with pytest.raises(RuntimeError, match="breakdown"):
        train(continued, CONFIG, tmp_path / "run")
    stopped.clear()
    other = CONFIG.model_copy(update={"seed": 1})
    with pytest.raises(UsageError, match="not the one asked for"):
        train(_task(study, TISSUE), other, tmp_path / "run")
    again = _task(study, TISSUE)
    train(again, CONFIG, tmp_path / "run")
    expected, found = _weights(whole), _weights(again)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_images_are_varied_with_their_labels() -> None:
    inputs = torch.arange(4.0).expand(6, 1, 3, 4)
    labels = torch.arange(4).expand(6, 3, 4)
    generator = torch.Generator().manual_seed(0)
    found, classes = varied((inputs, labels), 0.0, generator)
    assert torch.equal(found[:, 0].long(), classes)
    turned = classes[:, 0, 0] == 3
    assert 0 < int(turned.sum()) < 6
    noisy, numbers = varied((inputs, torch.arange(6.0)), 0.5, generator)
    assert torch.equal(numbers, torch.arange(6.0))
    assert not torch.equal(noisy, inputs)


def test_images_of_two_sizes(study: Path) -> None:
    task = _task(study, TISSUE)
    first, *rest = task.of(Split.TRAINING)
    assert first.scan.target is not None and first.label is not None
    from adaptmr.data.scan import Stack

    smaller = replace(
        first,
        scan=replace(first.scan, target=Stack.of(first.scan.target[:][:, 4:-4])),
        label=first.label[:, 4:-4],
    )
    mixed = replace(task, examples={**task.examples, Split.TRAINING: (smaller, *rest)})
    with pytest.raises(BadInputError, match=r"differ in size.*Give the adapter a size"):
        require_one_size(mixed)
    require_one_size(task)


def test_a_task_is_stored_with_whom_it_knows(study: Path, tmp_path: Path) -> None:
    task = _task(study, TISSUE)
    assert task.network is not None
    found = intensity(task)
    assert found.mean == pytest.approx(0, abs=1e-3)  # standardised slices
    assert found.deviation == pytest.approx(1, abs=1e-2)
    architecture = UNetJudge(channels=(4, 8), outputs=4)
    network = tmp_path / "network"
    task_network_files.save(task.network.network, architecture, Adapter(), found, network, {})
    description = TaskDescription(
        name="tissue",
        annotation=TISSUE,
        loss=task.loss,
        metric=task.metric,
        margin=0.02,
        subjects=tuple(task.subjects(Split.TRAINING)),
        provenance={},
    )
    save_task(description, network, tmp_path / "task")
    stored = load_task(tmp_path / "task")
    assert isinstance(stored, StoredTask)
    assert stored.description == description
    again = stored.on({Split.VALIDATION: task.of(Split.VALIDATION)})
    both = [evaluate([each], Split.VALIDATION, lambda e: e.target[:]) for each in (task, again)]
    assert both[0]["task"].subjects == both[1]["tissue"].subjects
    with pytest.raises(BadInputError, match="was trained on a subject"):
        stored.on({Split.TEST: task.of(Split.TRAINING)})
    more = description.model_copy(update={"annotation": LESION})
    with pytest.raises(BadInputError, match="another number of outputs"):
        save_task(more, network, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_unknown_intensities_are_known_after_training(study: Path) -> None:
    assert isinstance(intensity(_task(study, LESION, Layout.VOLUMES)), Intensity)
