"""A candidate bank before the gates: measured beside the one that serves, then judged."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from adaptmr.continual.task import Task
from adaptmr.workflows.gates.config import GateConfig
from adaptmr.workflows.gates.evidence import Evidence
from adaptmr.workflows.gates.judge import judge
from adaptmr.workflows.gates.measure import check_tests, measure
from adaptmr.workflows.gates.result import GateReport
from adaptmr.workflows.registry.registry import Registry


class JudgeConfig(BaseModel):
    """What a candidate is judged on, and by what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tests: dict[str, Path] = Field(min_length=1)
    """Task -> folder of fully sampled scans of subjects that no bank has seen."""
    gates: GateConfig
    batch_size: int = Field(default=4, ge=1)
    device: str = "cpu"


def judge_bank(
    bank: Path, registry: Registry, config: JudgeConfig, tasks: Sequence[Task] = ()
) -> tuple[Evidence, GateReport]:
    """Measure a candidate, and the champion where its numbers are of other data, and compare.

    What the champion was measured on and the candidate is not stays in what they are compared by:
    the gates ask for it, so that nothing is forgotten by not looking.

    Args:
        bank: the candidate.
        registry: of the champion.
        config: tests and gates.
        tasks: that are scored on the images of both, beside the images themselves.

    Raises:
        BadInputError: the bank or the registry is damaged, or the tests are.
    """
    check_tests(config.tests)

    def measured(folder: Path) -> Evidence:
        size, device = config.batch_size, config.device
        return measure(folder, config.tests, tasks, batch_size=size, device=device)

    serving = registry.champion()
    candidate = measured(bank)
    champion = registry.champion_evidence()
    if serving is not None and champion is not None and champion.data != candidate.data:
        known, champion = champion, measured(serving)
        left_out = tuple(one for one in known.measurements if one.task not in candidate.data)
        measurements = (*champion.measurements, *left_out)
        champion = champion.model_copy(update={"measurements": measurements})
    return candidate, judge(config.gates, candidate, champion, registry.history())
