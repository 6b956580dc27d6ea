"""Is anything forgotten? Five tasks one after another, by every strategy that there is.

The studies are those of ``continual_data.py``. A small VarNet is trained for the reconstruction of
T1-weighted heads; then it is fine-tuned for tissue segmentation (T1), tumour segmentation (FLAIR),
detection of a tumour (FLAIR) and the share of fluid (proton density), each judged by a frozen
network that saw fully sampled images of other subjects: U-Nets, and programs that measure with a
U-Net (the ResNets tried learn nothing from nine subjects). All numbers are of the test subjects. On
the *retained* scale zero-filled images have 0 and fully sampled ones 1, so that tasks of different
units can be averaged; forgetting, average and transfer are given on it.

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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from continual_tasks import MASK, NETWORK, SIZE, pretrained, tasks_of

from adaptmr.continual.config import BufferConfig, LearnerConfig, Selection
from adaptmr.continual.learner import ContinualLearner
from adaptmr.continual.strategies.base import Strategy
from adaptmr.continual.strategies.plain import Naive
from adaptmr.continual.strategies.registry import STRATEGIES
from adaptmr.continual.strategies.replaying import Mode, Most
from adaptmr.continual.study import Study
from adaptmr.continual.task import Task
from adaptmr.data.files import complete_file
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.sampling.generators import make_mask
from adaptmr.sampling.mask import Mask
from adaptmr.workflows.continual.summary import (
    Trained,
    means,
    measured,
    retained,
    stability_gap,
)
from adaptmr.workflows.environment import environment

BUFFERS = (4, 10)
RESULT = "result.json"
SCORES = {
    "reconstruction": "SSIM",
    "tissue": "Dice, tissue",
    "tumour": "Dice, tumour",
    "detection": "likelihood, detection",
    "fluid": "100 × negative error, fluid",
}
"""The metric of each task."""


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


def run(
    arm: Arm,
    seed: int,
    tasks: tuple[Task, ...],
    network: Path,
    mask: Mask,
    result: Path,
    steps: int,
    rate: float,
) -> Trained:
    """One training of a strategy, written to ``result`` when it is done."""
    config = LearnerConfig(
        steps=steps,
        batch_size=4,
        replay_batch_size=4,
        learning_rate=rate,
        every=max(1, steps // 2),
        selection=arm.selection,
        buffer=BufferConfig(capacity=arm.buffer or 4),
        seed=seed,
        accelerator="cpu",
    )
    stages = result.parent / "stages"
    learner = ContinualLearner(tasks, arm.strategy, config)
    trained = Trained.of(learner.run(checkpoint.load(network), mask, stages), tasks)
    with complete_file(result) as partial:
        partial.write_text(trained.model_dump_json() + "\n")
    shutil.rmtree(stages)
    return trained


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
    """The summaries as Markdown: mean ± deviation over seeds [interval over test subjects]."""
    names = " | ".join(SCORES.values())
    lines = [
        "| strategy | seeds | forgetting | average | backward transfer | stability gap"
        f" | {names} | s |",
        "|---" * (7 + len(SCORES)) + "|",
    ]
    for name, scores in references.items():
        cells = " | ".join(_score(task, scores[task]) for task in SCORES)
        lines.append(f"| *{name.replace('_', ' ')}* | | | | | | {cells} | |")
    for each in summaries:
        low, high = each.get("intervals", {}).get("forgetting", (None, None))
        cells = [
            each["method"],
            str(each["seeds"]),
            _number(each, "forgetting") + ("" if low is None else f" [{low:.2f}, {high:.2f}]"),
            _number(each, "average"),
            _number(each, "backward_transfer"),
            _number(each, "stability_gap"),
            *(_score(task, each["scores"][task]) for task in SCORES),
            f"{each['seconds']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _score(task: str, value: float) -> str:
    return f"{100 * value:.2f}" if task == "fluid" else f"{value:.3f}"


def _number(summary: dict[str, Any], name: str) -> str:
    if name not in summary:
        return ""
    deviation = summary[f"{name}_deviation"]
    return f"{summary[name]:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=Path, required=True, help="of continual_data.py")
    parser.add_argument("--work", type=Path, required=True, help="where trainings are kept")
    parser.add_argument("--methods", nargs="+", help="all of them when not given")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30, help="of a stage")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--epochs", type=int, default=12, help="of the first training")
    parser.add_argument("--only-prepare", action="store_true", help="first network and tasks")
    parser.add_argument("--only-show", action="store_true", help="of what was done before")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    studies, work = arguments.studies, arguments.work
    chosen = [arm for arm in arms() if not arguments.methods or arm.method in arguments.methods]
    if not arguments.only_show:
        tasks = tasks_of(studies, work)
        study = Study.open(studies / "t1")
        mask = make_mask(MASK, (SIZE, SIZE), seed=0)
        network = pretrained(study, mask, work / "network", arguments.epochs)
    done: dict[str, list[Trained]] = defaultdict(list)
    for seed in range(0 if arguments.only_prepare else arguments.seeds):
        for arm in chosen:
            result = work / "runs" / arm.folder / str(seed) / RESULT
            if result.exists():
                done[arm.method].append(Trained.model_validate_json(result.read_bytes()))
            elif not arguments.only_show:
                steps, rate = arguments.steps, arguments.learning_rate
                trained = run(arm, seed, tasks, network, mask, result, steps, rate)
                done[arm.method].append(trained)
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
                "learning_rate": arguments.learning_rate,
                "mask": MASK.model_dump(mode="json"),
                "network": NETWORK.model_dump(mode="json"),
                "matrix": [SIZE, SIZE],
            },
            "environment": environment(),
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
