"""The stages of a workflow as Dagster's assets: one for each, networks side by side.

An asset does nothing but call its stage, which finds in the folder of the steps what was done
before: Dagster orders, retries, distributes and shows; it keeps no result. What gates decide is a
blocking check of the asset: what comes after it is not run when it does not pass.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adaptmr.errors import AdaptMRError
from adaptmr.workflows.orchestration.journal import examine, perform
from adaptmr.workflows.stages.config import Dask, Processes, WorkflowConfig
from adaptmr.workflows.stages.gathering import Stage
from adaptmr.workflows.stages.plan import opened, stage_of

if TYPE_CHECKING:
    from dagster import AssetChecksDefinition, AssetsDefinition, Definitions, JobDefinition

JOB: Final = "workflow"
FOLDER: Final = "ADAPTMR_WORKFLOW"
"""Environment variable that names the folder of the workflow that a server shows."""
_RETRIES: Final = 1
"""Of stages that fail for another reason than their input; what they had finished is kept."""


def definitions(out: Path) -> "Definitions":
    """The workflow of a folder as Dagster sees it.

    Raises:
        BadInputError: there is none, or it cannot be read.
    """
    import dagster

    work = opened(out)
    assets = {stage.name: _asset(stage) for stage in work.stages}
    checks = [_check(stage, assets[stage.name]) for stage in work.stages if stage.check is not None]
    every = dagster.AssetSelection.assets(*assets.values())
    job = dagster.define_asset_job(JOB, selection=every, executor_def=_executor(work.config))
    return dagster.Definitions(
        assets=list(assets.values()),
        asset_checks=checks,
        jobs=[job],
        resources={"folder": dagster.ResourceDefinition.hardcoded_resource(str(work.out))},
    )


def job(out: str) -> "JobDefinition":
    """The job of a folder's workflow; called by name in other processes too."""
    return definitions(Path(out)).resolve_job_def(JOB)


def served() -> "Definitions":
    """The workflow of the folder that the environment names."""
    return definitions(Path(os.environ[FOLDER]))


def run_config(config: WorkflowConfig) -> dict[str, Any]:
    """What Dagster is told of a run: where stages run, and to keep its debugging to itself."""
    execution: dict[str, Any] = {}
    if isinstance(config.executor, Processes):
        server = {"preload_modules": [__name__, "lightning.pytorch"]}
        execution = {
            "config": {
                "max_concurrent": config.executor.workers,
                "start_method": {"forkserver": server},  # loaded once, not by each stage
            }
        }
    elif isinstance(config.executor, Dask):
        execution = {"config": {"cluster": {"existing": {"address": config.executor.scheduler}}}}
    logs = {"console": {"config": {"log_level": "CRITICAL"}}}
    return {"loggers": logs, **({"execution": execution} if execution else {})}


def _executor(config: WorkflowConfig) -> Any:
    import dagster

    if isinstance(config.executor, Dask):
        from dagster_dask import dask_executor

        return dask_executor
    if isinstance(config.executor, Processes):
        return dagster.multiprocess_executor
    return dagster.in_process_executor


def _asset(stage: Stage) -> "AssetsDefinition":
    import dagster

    @dagster.asset(
        name=_key(stage.name),
        deps=[_key(name) for name in stage.needs],
        description=stage.name,
        group_name=_key(stage.name.split("-")[0]),
        required_resource_keys={"folder"},
        retry_policy=dagster.RetryPolicy(max_retries=_RETRIES, delay=1),
    )
    def compute(context: dagster.AssetExecutionContext) -> Any:
        work = opened(Path(context.resources.folder))
        try:
            step = perform(work, stage_of(work, stage.name))
        except AdaptMRError as error:
            raise dagster.Failure(str(error), allow_retries=False) from error
        except Exception:
            raise
        except BaseException as stopped:  # Dagster would try again what a person has stopped
            raise dagster.Failure("stopped", allow_retries=False) from stopped
        told: dict[str, Any] = {
            "key": step.key,
            "folder": dagster.MetadataValue.path(str(step.folder)),
        }
        return dagster.MaterializeResult(metadata=told, data_version=dagster.DataVersion(step.key))

    return compute


def _check(stage: Stage, asset: "AssetsDefinition") -> "AssetChecksDefinition":
    import dagster

    @dagster.asset_check(
        asset=asset, name="gates", blocking=True, required_resource_keys={"folder"}
    )
    def check(context: dagster.AssetCheckExecutionContext) -> Any:
        work = opened(Path(context.resources.folder))
        try:
            examine(work, stage_of(work, stage.name))
        except AdaptMRError as error:
            return dagster.AssetCheckResult(passed=False, metadata={"why": str(error)})
        return dagster.AssetCheckResult(passed=True)

    return check


def _key(name: str) -> str:
    """Dagster's names have no hyphens."""
    return name.replace("-", "_")
