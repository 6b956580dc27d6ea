from dataclasses import replace

import numpy as np
import pytest
import torch
from made_tasks import MATRIX, made_scans, made_tasks
from skimage.metrics import structural_similarity
from sklearn.metrics import f1_score, jaccard_score
from torch import Tensor, nn

from adaptmr.continual.measures import (
    EXACT_DECIBELS,
    NotFiniteError,
    evaluate,
    image_loss,
    label_loss,
)
from adaptmr.continual.task import Example, Judgement, Loss, Metric, Split
from adaptmr.continual.task_network import Adapter, Scale, TaskNetwork


def exact(example: Example) -> Tensor:
    return example.target[:]


class Levels(nn.Module):
    """Classes of thresholds, as raw outputs with a gradient."""

    def forward(self, image: Tensor) -> Tensor:
        share = image / image.amax((1, 2, 3), keepdim=True)
        return torch.cat([0.3 - share, 0.1 - (share - 0.4).abs(), share - 0.5], 1) * 50


class Silent(nn.Module):
    """Says class 0 everywhere."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([image.square() + 1, image * 0, image * 0], 1)


def test_the_range_of_ssim_is_said() -> None:
    """The released code left it to a default that is 2 for floats: too high by far."""
    generator = torch.Generator().manual_seed(0)
    target = 1000 * torch.rand(2, 20, 20, generator=generator)
    image = target + 100 * torch.rand(2, 20, 20, generator=generator)
    ranges = torch.tensor([1500.0, 1100.0])
    expected = [
        1 - structural_similarity(x.numpy(), y.numpy(), data_range=float(most))
        for x, y, most in zip(image, target, ranges, strict=True)
    ]
    assert float(image_loss(image, target, ranges)) == pytest.approx(np.mean(expected), rel=1e-4)
    wider = torch.nn.functional.pad(image, (3, 3, 2, 2))
    assert float(image_loss(wider, target, ranges)) == float(image_loss(image, target, ranges))


@pytest.mark.parametrize(
    ("metric", "reference"), [(Metric.DICE, f1_score), (Metric.IOU, jaccard_score)]
)
def test_overlap_is_that_of_scikit_learn(metric: Metric, reference: object) -> None:
    task = made_tasks()[1]
    network = TaskNetwork(Levels(), Adapter(scale=Scale.NONE), 3, None, "levels")
    task = replace(task, network=network, metric=metric)
    scores = evaluate([task], Split.TEST, exact)["tissue"]
    for example in task.of(Split.TEST):
        found = network(example.target[:]).argmax(1).flatten()
        truth = example.label.flatten()
        expected = reference(truth, found, average=None, labels=[1, 2])  # type: ignore[operator]
        assert scores.subjects[example.subject] == pytest.approx(float(np.mean(expected)))
    assert scores.value == pytest.approx(np.mean(list(scores.subjects.values())))
    assert 0.2 < scores.value < 1
    assert not scores.labels


def test_absent_classes_do_not_count() -> None:
    task = made_tasks(made_scans())[1]
    network = TaskNetwork(Levels(), Adapter(scale=Scale.NONE), 3, None, "levels")
    first = task.of(Split.TEST)[0]
    nothing = Example(first.scan, torch.zeros_like(first.label))
    task = replace(task, network=network, examples={**task.examples, Split.TEST: (nothing,)})
    ones = torch.ones(2, *MATRIX)  # share 1: class 2 everywhere
    assert evaluate([task], Split.TEST, lambda _: ones)["tissue"].value == 0.0
    silent = replace(task, network=TaskNetwork(Silent(), Adapter(), 3, None, "silent"))
    assert evaluate([silent], Split.TEST, exact)["tissue"].value == 1.0
    assert evaluate([task], Split.TEST, exact)["tissue"].value == 0.0


def test_classes_and_numbers() -> None:
    tasks = made_tasks()
    scores = evaluate(tasks, Split.TEST, exact)
    assert scores["image"].value == pytest.approx(1)
    assert scores["image"].loss == pytest.approx(0, abs=1e-6)
    for example in tasks[2].of(Split.TEST):
        logits = tasks[2].network(example.target[:])
        right = float((logits.argmax(1) == example.label).double().mean())
        assert scores["class"].subjects[example.subject] == right
        assert scores["class"].labels[example.subject] == float(example.label[0])
        mean = logits.mean(0).tolist()
        assert scores["class"].outputs[example.subject] == pytest.approx(mean, rel=1e-5)
    for example in tasks[3].of(Split.TEST):
        said = float(tasks[3].network(example.target[:])[0, 0])
        error = abs(said - float(example.label))
        assert scores["number"].subjects[example.subject] == pytest.approx(-error, rel=1e-5)


def test_likelihood_and_psnr_of_exact_images() -> None:
    tasks = made_tasks()
    likely = replace(tasks[2], metric=Metric.LIKELIHOOD)
    decibels = replace(tasks[0], metric=Metric.PSNR)
    scores = evaluate([decibels, likely], Split.VALIDATION, exact)
    assert scores["image"].value == EXACT_DECIBELS
    example = likely.of(Split.VALIDATION)[0]
    share = likely.network(example.target[:]).double().softmax(1)[:, int(example.label[0])]
    assert scores["class"].value == pytest.approx(float(share.mean()))


def test_a_scan_of_several_tasks_is_reconstructed_once() -> None:
    tasks = made_tasks()
    seen = []

    def count(example: Example) -> Tensor:
        seen.append(example.scan.name)
        return exact(example)

    evaluate(tasks, Split.TEST, count)
    assert sorted(seen) == ["test-0.h5", "test-1.h5"]
    with pytest.raises(NotFiniteError, match="not finite"):
        evaluate(tasks, Split.TEST, lambda example: exact(example) * float("nan"))


def test_losses_by_hand() -> None:
    tasks = made_tasks()
    logits = torch.tensor([[1.0, 3.0], [0.0, -1.0]])
    loss = label_loss(tasks[2], logits, torch.tensor([0, 1]))
    expected = np.mean([np.log(1 + np.exp(2.0)), np.log(1 + np.exp(1.0))])
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(label_loss(tasks[3], torch.tensor([[3.0]]), torch.tensor(1.0))) == 2.0
    squared = replace(tasks[3], loss=Loss.SQUARED)
    assert float(label_loss(squared, torch.tensor([[3.0]]), torch.tensor(1.0))) == 4.0


def test_dice_loss_is_small_where_the_map_is_right() -> None:
    task = replace(made_tasks()[1], loss=Loss.DICE_CROSS_ENTROPY)
    assert task.kind is Judgement.SEGMENTATION
    label = task.of(Split.TEST)[0].label
    sure = 30 * torch.nn.functional.one_hot(label, 3).movedim(-1, 1).float()
    assert float(label_loss(task, sure, label)) < 0.01
    wrong = sure.roll(1, 1)
    assert float(label_loss(task, wrong, label)) > 1
