"""Is anything forgotten? Five tasks one after another, by every strategy that there is.

The studies are those of ``continual_data.py``. A small VarNet is trained for the reconstruction of
T1-weighted heads; then it is fine-tuned for tissue segmentation (T1), tumour segmentation (FLAIR),
detection of a tumour (FLAIR) and the share of fluid (proton density), each
judged by a frozen network that saw fully sampled images of other subjects: U-Nets, and programs
that measure with a U-Net (the ResNets tried learn nothing from nine subjects). All numbers are of
the test subjects. On the *retained* scale zero-filled images have 0 and fully sampled ones 1, so
that tasks of different units can be averaged; forgetting, average and transfer are given on it.

Finished trainings are not run again: the script may be stopped, and called with more strategies.

    python benchmarks/continual_data.py --data DATA --out STUDIES
    python benchmarks/continual.py --studies STUDIES --work WORK --json continual.json
"""

import argparse
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import Tensor, nn

from adaptmr.continual.config import BufferConfig, LearnerConfig, Selection
from adaptmr.continual.learner import ContinualLearner
from adaptmr.continual.strategies.base import Strategy
from adaptmr.continual.strategies.plain import Naive
from adaptmr.continual.strategies.registry import STRATEGIES
from adaptmr.continual.strategies.replaying import Mode, Most
from adaptmr.continual.study import LEARNER, Study
from adaptmr.continual.task import LOSSES, METRICS, Judgement, Loss, Metric, Split, Task
from adaptmr.continual.task_files import load_task
from adaptmr.continual.task_network_files import UNetJudge
from adaptmr.continual.task_training import TaskNetworkTraining
from adaptmr.data.annotations import LabelMap, Presence, Share
from adaptmr.data.participants import Part
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.varnet import VarNetConfig
from adaptmr.reconstruction.training.cohort import Cohort, fingerprint
from adaptmr.reconstruction.training.config import SeededSchedule
from adaptmr.reconstruction.training.data import Material
from adaptmr.reconstruction.training.run import run_folder, train_network
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.sources import FixedMask
from adaptmr.workflows.continual.config import GivenJudge, LabelledScans, TaskConfig, TrainedJudge
from adaptmr.workflows.continual.summary import (
    Trained,
    means,
    measured,
    retained,
    stability_gap,
)
from adaptmr.workflows.continual.tasks import train_task
from adaptmr.workflows.environment import environment

NETWORK = VarNetConfig(cascades=2, channels=8, pools=1, map_channels=4, map_pools=1)
MASK = MaskSpec(kind=MaskKind.EQUISPACED_FRACTION, acceleration=4, center_fraction=0.08)
BUFFERS = (4, 10)
SIZE = 48
RESULT = "result.json"


class SoftShare(nn.Module):
    """How much of the tissue is of class 1, by the probabilities of a segmentation.

    Args:
        segmentation: images to raw outputs of classes; 0 is the background.
    """

    def __init__(self, segmentation: nn.Module) -> None:
        super().__init__()
        self.segmentation = segmentation
        self.slope, self.offset = 1.0, 0.0

    def measure(self, image: Tensor) -> Tensor:
        """(slices,) shares, as the segmentation has them."""
        areas = self.segmentation(image).softmax(1).sum((-2, -1))
        share: Tensor = areas[:, 1] / (areas[:, 1:].sum(1) + 1e-3)
        return share

    def forward(self, image: Tensor) -> Tensor:
        """(slices, 1) shares."""
        return (self.slope * self.measure(image) + self.offset)[:, None]


class SoftPresence(nn.Module):
    """Whether there is any of class 1, by the pixels that a segmentation gives it.

    Args:
        segmentation: as of `SoftShare`.
    """

    def __init__(self, segmentation: nn.Module) -> None:
        super().__init__()
        self.segmentation = segmentation
        self.slope, self.offset = 1.0, 0.0

    def measure(self, image: Tensor) -> Tensor:
        """(slices,) pixels of class 1."""
        area: Tensor = self.segmentation(image).softmax(1)[:, 1].sum((-2, -1))
        return area

    def forward(self, image: Tensor) -> Tensor:
        """(slices, 2) raw outputs."""
        present = self.slope * self.measure(image) + self.offset
        return torch.stack((torch.zeros_like(present), present), 1)


def unet(outputs: int, epochs: int) -> TrainedJudge:
    return TrainedJudge(
        architecture=UNetJudge(channels=(16, 32, 64), outputs=outputs),
        training=TaskNetworkTraining(epochs=epochs, learning_rate=3e-3, accelerator="cpu"),
    )


TISSUE = LabelMap(classes=((1,), (2,), (3,), (4,)))
TUMOUR = LabelMap(dataset="lesions", classes=((2, 3, 4),))


def segmentations(studies: Path) -> dict[str, TaskConfig]:
    """The segmentation networks, by name; the last two only serve to measure."""
    settings = (
        ("tissue", "t1", TISSUE, Loss.CROSS_ENTROPY, unet(5, 20)),
        ("tumour", "flair", TUMOUR, Loss.DICE_CROSS_ENTROPY, unet(2, 20)),
        ("detection-map", "detection", TUMOUR, Loss.DICE_CROSS_ENTROPY, unet(2, 12)),
        ("fluid-map", "pd", TISSUE, Loss.CROSS_ENTROPY, unet(5, 20)),
    )
    return {
        name: TaskConfig(
            name=name,
            study=LabelledScans(folder=studies / study),
            annotation=annotation,
            loss=loss,
            network=network,
        )
        for name, study, annotation, loss, network in settings
    }


def measurements(studies: Path, work: Path) -> dict[str, TaskConfig]:
    """A class and a number by what a segmentation measures: exported programs, taken over."""
    presence = TaskConfig(
        name="detection",
        study=LabelledScans(folder=studies / "detection"),
        annotation=Presence(dataset="lesions", numbers=(2, 3, 4), pixels=4),
        metric=Metric.LIKELIHOOD,
        margin=0.02,
        network=GivenJudge(file=work / "programs" / "detection.pt2"),
    )
    share = TaskConfig(
        name="fluid",
        study=LabelledScans(folder=studies / "pd"),
        annotation=Share(numbers=(1,), among=(1, 2, 3, 4)),
        margin=0.002,
        network=GivenJudge(file=work / "programs" / "fluid.pt2"),
    )
    return {"detection": presence, "fluid": share}


def folder_of(config: TaskConfig) -> Path:
    if not isinstance(config.study, LabelledScans):
        raise TypeError("the studies of the benchmark are folders")
    return config.study.folder


def program(config: TaskConfig, work: Path) -> nn.Module:
    """What measures, from a trained segmentation; fitted on those that trained it."""
    maps = load_task(work / "tasks" / f"{config.name}-map").network.network
    parts = {Split.TRAINING: Part.TASK_TRAINING}
    examples = Study.open(folder_of(config)).examples(config.annotation, parts)[Split.TRAINING]
    found = SoftShare(maps) if config.name == "fluid" else SoftPresence(maps)
    with torch.no_grad():
        measured_by = [found.measure(config.adapter(example.target[:])) for example in examples]
    measured_as = torch.cat(measured_by)[:, None].numpy()
    labels = torch.cat([example.label for example in examples if example.label is not None])
    law = LinearRegression() if config.name == "fluid" else LogisticRegression()
    law.fit(measured_as, labels.numpy())
    found.slope, found.offset = float(np.ravel(law.coef_)[0]), float(np.ravel(law.intercept_)[0])
    return found


def prepare(studies: Path, work: Path) -> dict[str, TaskConfig]:
    """The tasks in the order they are learned, their networks trained unless they were before."""
    found = segmentations(studies)
    given = measurements(studies, work)
    for name, config in (*found.items(), *given.items()):
        if (work / "tasks" / name).exists():
            continue
        if isinstance(config.network, GivenJudge):
            config.network.file.parent.mkdir(exist_ok=True)
            slices = {0: torch.export.Dim("slices", min=1, max=1024)}
            some = torch.rand(2, 1, SIZE, SIZE)
            exported = torch.export.export(program(config, work), (some,), dynamic_shapes=(slices,))
            torch.export.save(exported, config.network.file)
        trained = train_task(config, work / "tasks" / name)
        print(f"{name}: {trained.metric} {trained.score:.3f} of full images", flush=True)
    return {name: config for name, config in (found | given).items() if "map" not in name}


def pretrained(study: Study, mask: Mask, out: Path, epochs: int) -> Path:
    """The network of stage 0, trained for the reconstruction of the training subjects."""
    if not out.exists():
        found = study.examples(None, LEARNER)
        training, validation = (
            tuple(example.scan for example in found[split])
            for split in (Split.TRAINING, Split.VALIDATION)
        )
        cohort = Cohort(training, validation, fingerprint(study.folder, study.scans))
        schedule = SeededSchedule(
            epochs=epochs,
            batch_size=4,
            learning_rate=2e-3,
            learning_rate_step=8,
            accelerator="cpu",
        )
        material = Material(cohort, (FixedMask(mask),))
        train_network(NETWORK, schedule, material, out, run_folder(out))
    return out


@dataclass(frozen=True)
class Arm:
    """A strategy with its buffer.

    Attributes:
        method: name in the table.
        strategy: what is done.
        buffer: subjects; None for a strategy that keeps none.
        selection: of the weights that a stage ends with. A rule that refuses to lose on old tasks
            hides what a strategy forgets: step 0 is among what it may choose.
    """

    method: str
    strategy: Strategy
    buffer: int | None
    selection: Selection = Selection.LAST

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return self.method.replace(" ", "-").replace(",", "")


def arms() -> Iterator[Arm]:
    """All strategies as they come, those that replay with each buffer, and MOST as published."""
    for kind, strategy in STRATEGIES.items():
        if not strategy.replays:
            yield Arm(kind, strategy(), None)
    for buffer in BUFFERS:
        for kind, strategy in STRATEGIES.items():
            if strategy.replays:
                yield Arm(f"{kind}, buffer {buffer}", strategy(), buffer)
        yield Arm(f"most as published, buffer {buffer}", Most(mode=Mode.PAPER), buffer)
    for strategy in (Naive(), Most()):
        buffer = BUFFERS[0] if strategy.replays else None
        name = f"{strategy.kind}, chosen by all tasks"
        yield Arm(name, strategy, buffer, Selection.ALL_TASKS)


def tasks_of(studies: Path, work: Path) -> tuple[Task, ...]:
    """The tasks with their data; those of one study share its scans."""
    opened = cache(Study.open)
    first = Task(
        "reconstruction",
        Judgement.RECONSTRUCTION,
        None,
        LOSSES[Judgement.RECONSTRUCTION][0],
        METRICS[Judgement.RECONSTRUCTION][0],
        0.005,
        opened(studies / "t1").examples(None, LEARNER),
    )
    found = [first]
    for name, config in prepare(studies, work).items():
        study = opened(folder_of(config))
        stored = load_task(work / "tasks" / name)
        found.append(stored.on(study.examples(config.annotation, LEARNER)))
    return tuple(found)


def run(
    arm: Arm, seed: int, tasks: tuple[Task, ...], network: Path, mask: Mask, work: Path, steps: int
) -> Trained:
    """One training of a strategy; read from where it was left when it was done before."""
    folder = work / "runs" / arm.folder / str(seed)
    result = folder / RESULT
    if not result.exists():
        config = LearnerConfig(
            steps=steps,
            batch_size=4,
            replay_batch_size=4,
            learning_rate=2e-3,
            every=max(1, steps // 2),
            selection=arm.selection,
            buffer=BufferConfig(capacity=arm.buffer or 4),
            seed=seed,
            accelerator="cpu",
        )
        learner = ContinualLearner(tasks, arm.strategy, config)
        learned = learner.run(checkpoint.load(network), mask, folder / "stages")
        folder.mkdir(parents=True, exist_ok=True)
        result.write_text(Trained.of(learned).model_dump_json() + "\n")
        shutil.rmtree(folder / "stages")
    return Trained.model_validate_json(result.read_bytes())


def row_of(arm: Arm, seed: int, trained: Trained) -> dict[str, Any]:
    """The measures of one training; those of a matrix only where there is a stage for each task."""
    found = means([trained])
    last = found.matrix.diagonal() if arm.method == "per-task" else found.matrix[-1]
    kept = found.retained.diagonal() if arm.method == "per-task" else found.retained[-1]
    row = {
        "method": arm.method,
        "buffer": arm.buffer,
        "seed": seed,
        "n": len(next(iter(trained.stages[0].scores.values())).subjects),
        "protocol": "mean over test subjects",
        "average": float(kept.mean()),
        "scores": dict(zip(trained.tasks, last.tolist(), strict=True)),
        "retained": dict(zip(trained.tasks, kept.tolist(), strict=True)),
        "seconds": sum(stage.processor_seconds for stage in trained.stages),
        "buffer_bytes": max(stage.buffer_bytes for stage in trained.stages),
        "matrix": found.matrix.tolist(),
    }
    if trained.one_by_one and arm.method != "per-task":
        everything = measured([retained([trained])])
        row |= {name: value.mean for name, value in everything.items()}
        row["stability_gap"] = stability_gap([trained])
    return row


def summary_of(arm: Arm, runs: Sequence[Trained]) -> dict[str, Any]:
    """Mean over seeds, standard deviation over seeds, and intervals over test subjects."""
    rows = [row_of(arm, seed, trained) for seed, trained in enumerate(runs)]
    summary: dict[str, Any] = {"method": arm.method, "buffer": arm.buffer, "seeds": len(runs)}
    for name in ("average", "forgetting", "backward_transfer", "stability_gap", "seconds"):
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            summary[name] = float(np.mean(values))
            summary[f"{name}_deviation"] = (
                float(np.std(values, ddof=1)) if len(values) > 1 else None
            )
    summary["scores"] = {
        task: float(np.mean([row["scores"][task] for row in rows])) for task in rows[0]["scores"]
    }
    summary["retained"] = {
        task: float(np.mean([row["retained"][task] for row in rows])) for task in rows[0]["scores"]
    }
    summary["buffer_bytes"] = rows[0]["buffer_bytes"]
    if all(trained.one_by_one for trained in runs) and arm.method != "per-task":
        everything = measured([retained([trained]) for trained in runs])
        summary["intervals"] = {name: [value.low, value.high] for name, value in everything.items()}
    return summary


def table(summaries: Sequence[dict[str, Any]], references: dict[str, dict[str, float]]) -> str:
    """The summaries as Markdown."""
    tasks = list(references["zero_filled"])
    lines = [
        "| strategy | seeds | forgetting | average | backward transfer | stability gap |"
        + "".join(f" {task} |" for task in tasks)
        + " s |",
        "|---" * (7 + len(tasks)) + "|",
    ]
    for name, scores in references.items():
        cells = "".join(f" {scores[task]:.3f} |" for task in tasks)
        lines.append(f"| *{name.replace('_', ' ')}* | | | | | |{cells} |")
    for each in summaries:
        of = each.get("intervals", {})
        cells = [
            each["method"],
            str(each["seeds"]),
            _number(each, "forgetting", of.get("forgetting")),
            _number(each, "average", of.get("average")),
            _number(each, "backward_transfer", of.get("backward_transfer")),
            _number(each, "stability_gap", None),
            *(f"{each['scores'][task]:.3f}" for task in tasks),
            f"{each['seconds']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(summary: dict[str, Any], name: str, interval: list[float] | None) -> str:
    if name not in summary:
        return ""
    deviation = summary[f"{name}_deviation"]
    spread = "" if deviation is None else f" ± {deviation:.3f}"
    between = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    return f"{summary[name]:.3f}{spread}{between}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=Path, required=True, help="of continual_data.py")
    parser.add_argument("--work", type=Path, required=True, help="where trainings are kept")
    parser.add_argument("--methods", nargs="+", help="all of them when not given")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30, help="of a stage")
    parser.add_argument("--epochs", type=int, default=12, help="of the first training")
    parser.add_argument("--only-prepare", action="store_true", help="first network and tasks")
    parser.add_argument("--only-show", action="store_true", help="of what was done before")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    studies, work = arguments.studies, arguments.work
    tasks = tasks_of(studies, work)
    first = Study.open(studies / "t1")
    mask = make_mask(MASK, first.scans[0].matrix, seed=0)
    network = pretrained(first, mask, work / "network", arguments.epochs)
    chosen = [arm for arm in arms() if not arguments.methods or arm.method in arguments.methods]
    done: dict[str, list[Trained]] = defaultdict(list)
    for seed in range(0 if arguments.only_prepare else arguments.seeds):
        for arm in chosen:
            there = (work / "runs" / arm.folder / str(seed) / RESULT).exists()
            if arguments.only_show and not there:
                continue
            trained = run(arm, seed, tasks, network, mask, work, arguments.steps)
            done[arm.method].append(trained)
            if not there:
                row = row_of(arm, seed, trained)
                text = ", ".join(
                    f"{name} {row[name]:.3f}"
                    for name in ("forgetting", "average", "backward_transfer", "seconds")
                    if name in row
                )
                print(f"seed {seed}, {arm.method}: {text}", flush=True)
    if not done:
        return
    finished = [arm for arm in chosen if arm.method in done]
    some = done[finished[0].method][0]
    references = {
        name: {task: scores[task].value for task in some.tasks}
        for name, scores in (("zero_filled", some.zero_filled), ("full", some.full))
    }
    before = some.stages[0].scores
    references["before"] = {task: before[task].value for task in some.tasks}
    summaries = [summary_of(arm, done[arm.method]) for arm in finished]
    print(table(summaries, references))
    if arguments.json:
        rows = [
            row_of(arm, seed, trained)
            for arm in finished
            for seed, trained in enumerate(done[arm.method])
        ]
        result = {
            "benchmark": "continual",
            "rows": rows,
            "summaries": summaries,
            "references": references,
            "settings": {
                "steps": arguments.steps,
                "mask": MASK.model_dump(mode="json"),
                "network": NETWORK.model_dump(mode="json"),
                "matrix": list(first.scans[0].matrix),
            },
            "environment": environment(),
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
