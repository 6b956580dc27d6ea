"""From a configuration to a task in a folder."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from adaptmr.continual import task_network_files
from adaptmr.continual.study import TASK_NETWORK, outputs
from adaptmr.continual.task import Example, Judgement, Metric, Split, Task
from adaptmr.continual.task_files import TaskDescription, save_task
from adaptmr.continual.task_network import TaskNetwork
from adaptmr.continual.task_training import intensity, require_one_size, scores_on_full, train
from adaptmr.data.files import require_absent
from adaptmr.reconstruction.training.run import run_folder
from adaptmr.workflows.bank_training.steps import Steps
from adaptmr.workflows.continual.config import GivenJudge, TaskConfig, TrainedJudge
from adaptmr.workflows.continual.studies import Studies
from adaptmr.workflows.environment import environment


class TrainedTask(BaseModel):
    """What became of a task network."""

    model_config = ConfigDict(frozen=True)

    task: Path
    """Folder of the task."""
    judgement: Judgement
    metric: Metric
    score: float
    """Mean over the subjects of ``val_task``, on fully sampled images; higher is better."""
    subjects: int
    """Number of these."""


def train_task(
    config: TaskConfig, out: Path, *, overwrite: bool = False, resume: bool = True
) -> TrainedTask:
    """Train, or take over, the network of a task.

    A training that was stopped continues; its state is in ``<out>.run`` meanwhile.

    Args:
        config: the task.
        out: folder of the task; appears complete at the end.
        overwrite: whether an existing folder may be replaced.
        resume: whether to continue a training that was stopped; otherwise it is thrown away.

    Raises:
        BadInputError: the data or the network cannot be used, or the folder exists.
        UsageError: the stopped training was of another configuration.
    """
    require_absent(out, overwrite=overwrite)
    run = run_folder(out)
    given = isinstance(config.network, GivenJudge)
    parts = {s: p for s, p in TASK_NETWORK.items() if not given or s is Split.VALIDATION}
    study = Studies(Steps(run / "data"), parts.values())(config.study)
    examples = study.examples(config.annotation, parts, volumes=config.volumes)
    with tempfile.TemporaryDirectory(prefix="adaptmr-") as temporary:
        folder = Path(temporary) / "network"
        if isinstance(config.network, GivenJudge):
            _adopted(config, config.network, folder)
        else:
            _trained(config, config.network, examples, folder, run / "training", resume)
        task = _task(config, task_network_files.load(folder), examples)
        task.check_network()
        scores = scores_on_full(task, Split.VALIDATION)
        description = TaskDescription(
            name=config.name,
            annotation=config.annotation,
            loss=config.chosen_loss,
            metric=config.chosen_metric,
            margin=config.margin,
            subjects=tuple(sorted({example.subject for example in task})),
            provenance={"score": scores.value, "environment": dict(environment())},
        )
        save_task(description, folder, out, overwrite=overwrite)
    return TrainedTask(
        task=out,
        judgement=config.judgement,
        metric=config.chosen_metric,
        score=scores.value,
        subjects=len(scores.subjects),
    )


def _adopted(config: TaskConfig, network: GivenJudge, folder: Path) -> None:
    task_network_files.adopt(
        network.file,
        outputs(config.annotation),
        config.adapter,
        folder,
        intensity=network.intensity,
    )


def _trained(
    config: TaskConfig,
    network: TrainedJudge,
    examples: Mapping[Split, tuple[Example, ...]],
    folder: Path,
    run: Path,
    resume: bool,
) -> None:
    module = task_network_files.build(network.architecture, network.seed)
    new = TaskNetwork(module, config.adapter, outputs(config.annotation), None, str(network.seed))
    task = _task(config, new, examples)
    require_one_size(task)
    record = train(task, network.training, run, resume=resume)
    provenance = {
        "network": network.model_dump(mode="json"),
        "curve": list(record.curve),
        "epoch": record.epoch,
    }
    task_network_files.save(
        module, network.architecture, config.adapter, intensity(task), folder, provenance
    )


def _task(
    config: TaskConfig, network: TaskNetwork, examples: Mapping[Split, tuple[Example, ...]]
) -> Task:
    return Task(
        config.name,
        config.judgement,
        network,
        config.chosen_loss,
        config.chosen_metric,
        config.margin,
        examples,
    )
