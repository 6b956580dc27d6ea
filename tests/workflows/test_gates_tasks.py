"""Scores of tasks as evidence: those counted by hand, and missed where they are missing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_evidence import evidence, gates, scores
from made_registry import made_bank, serving
from made_tasks import made_tasks

from adaptmr.continual.task import Split
from adaptmr.data.scan import Scan
from adaptmr.reconstruction.bank.persistence import fingerprint
from adaptmr.workflows.gates.config import MetricGate, Verdict
from adaptmr.workflows.gates.evidence import Better, Evidence
from adaptmr.workflows.gates.tasks import measure_tasks
from adaptmr.workflows.registry import judging
from adaptmr.workflows.registry.registry import Registry


def noisy(scan: Scan) -> torch.Tensor:
    """A poor reconstruction."""
    assert scan.target is not None
    target = scan.target[:]
    return target + 0.2 * torch.rand(target.shape, generator=torch.Generator().manual_seed(1))


def test_scores_are_those_counted_by_hand() -> None:
    tissue = made_tasks()[1]
    found = measure_tasks([tissue], noisy)
    assert tissue.network is not None
    (one,) = found.measurements
    assert (one.task, one.metric, one.better) == ("tissue", "dice", Better.HIGHER)
    for example, case in zip(tissue.of(Split.TEST), one.values, strict=True):
        assert example.label is not None
        truth = example.label.numpy()
        said = tissue.network(noisy(example.scan)).argmax(1).numpy()
        shares = [
            2 * np.sum((truth == label) & (said == label)) / total
            for label in (1, 2)
            if (total := np.sum(truth == label) + np.sum(said == label))
        ]
        assert case.value == pytest.approx(np.mean(shares))
        assert example.subject not in case.subject
    assert found.subjects == set(tissue.subjects(Split.TEST))


def test_scans_of_several_tasks_are_reconstructed_once() -> None:
    seen: list[str] = []

    def counted(scan: Scan) -> torch.Tensor:
        seen.append(scan.name)
        return noisy(scan)

    found = measure_tasks(made_tasks()[1:], counted)
    assert sorted(seen) == ["test-0.h5", "test-1.h5"]
    assert {one.metric for one in found.measurements} == {"dice", "accuracy", "negative-error"}


def test_what_is_not_finite_has_no_score() -> None:
    found = measure_tasks(made_tasks()[1:2], lambda _: None)
    assert [case.value for case in found.measurements[0].values] == [None, None]


def test_other_labels_are_other_data() -> None:
    from made_tasks import made_scans, made_task, threshold

    scans, tissue = made_scans(), made_tasks()[1]
    other = made_task(
        "tissue", tissue.kind, scans, lambda scan: (threshold(scan) > 0).long(), tissue.network
    )
    same = measure_tasks([tissue], noisy).data
    assert same == measure_tasks([made_tasks()[1]], noisy).data
    assert same != measure_tasks([other], noisy).data


def test_metrics_that_the_gates_say_nothing_of_have_the_margin_of_the_task() -> None:
    asked = gates(metrics={"ssim": {"margin": 0.5}}).with_margins(
        [("dice", 0.02), ("dice", 0.01), ("ssim", 0.001)]
    )
    assert asked.metrics == {
        "ssim": MetricGate(margin=0.5),
        "dice": MetricGate(margin=0.01, forgetting=0.01),
    }
    assert gates().with_margins([]).fingerprint == gates().fingerprint


def test_a_task_that_is_no_longer_looked_at_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(tmp_path / "registry", by="tester")
    serving(registry, tmp_path, ("a",))  # measured on knees

    def measured(folder: Path, *_: object, **__: object) -> Evidence:
        return evidence({"hip": scores()}, fingerprint(folder))

    monkeypatch.setattr(judging, "measure", measured)
    config = judging.JudgeConfig(tests={"hip": tmp_path}, gates=gates())
    _, report = judging.judge_bank(made_bank(tmp_path / "b", "b"), registry, config)
    assert report.verdict is Verdict.FAIL
    assert any("knee" in r and "was not measured by ssim" in r for r in report.reasons)
