"""From a configuration to its stages."""

from pathlib import Path
from typing import Final

import yaml

from adaptmr.data.files import complete_file
from adaptmr.errors import UsageError
from adaptmr.workflows.bank_training.steps import NotDoneError, Step, Steps
from adaptmr.workflows.stages.bank import BankStages
from adaptmr.workflows.stages.benchmark import BenchmarkStages
from adaptmr.workflows.stages.config import Benchmark, Retrain, WorkflowConfig, load_workflow
from adaptmr.workflows.stages.gathering import Gathering, Stage
from adaptmr.workflows.stages.retrain import RetrainStages

WORKFLOW: Final = "workflow.yaml"
_STEPS: Final = "steps"


def write_workflow(config: WorkflowConfig, out: Path) -> None:
    """Keep the configuration in the folder of a workflow, for all processes that work there.

    Raises:
        BadInputError: the folder cannot be written.
    """
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    if not (out / WORKFLOW).exists() or (out / WORKFLOW).read_text(encoding="utf-8") != text:
        with complete_file(out / WORKFLOW, overwrite=True) as partial:
            partial.write_text(text, encoding="utf-8")


def opened(out: Path, *, look_only: bool = False) -> Gathering:
    """The workflow of a folder.

    Args:
        out: the folder.
        look_only: whether stages only look whether they are done.

    Raises:
        BadInputError: there is none, or it cannot be read.
    """
    config, out = load_workflow(out / WORKFLOW), out.absolute()
    steps = Steps(out / _STEPS, look_only)
    if isinstance(config, Benchmark):
        return BenchmarkStages(config, out, steps)
    if isinstance(config, Retrain):
        return RetrainStages(config, out, steps)
    return BankStages(config, out, steps)


def stage_of(work: Gathering, name: str) -> Stage:
    """The stage of that name.

    Raises:
        UsageError: there is none.
    """
    for stage in work.stages:
        if stage.name == name:
            return stage
    raise UsageError(
        "the workflow has no such stage",
        field="stage",
        got=name,
        expected=", ".join(stage.name for stage in work.stages),
    )


def results(out: Path) -> dict[str, Step] | None:
    """The step of each stage when all are done; None when one is not.

    Raises:
        AdaptMRError: what a stage raises that is done, but not good enough for those after it.
    """
    found = {}
    for stage in opened(out, look_only=True).stages:
        try:
            found[stage.name] = stage.run()
        except NotDoneError:
            return None
        if stage.check is not None:
            stage.check()
    return found
