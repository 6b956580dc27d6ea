"""Evidence and gates made of numbers, for tests of the gates and the registry."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from adaptmr.workflows.gates.config import GateConfig
from adaptmr.workflows.gates.evidence import Better, CaseValue, Evidence, Intervals, Measurement

SUBJECTS = 24
CONTRASTS = ("T1", "T2")


def cases(values: Any) -> tuple[CaseValue, ...]:
    """One value a subject; the subjects are of two strata in turn."""
    return tuple(
        CaseValue(
            case=f"case-{index}",
            subject=f"subject-{index}",
            strata=(CONTRASTS[index % 2],),
            value=None if value is None or not np.isfinite(value) else float(value),
        )
        for index, value in enumerate(values)
    )


def scores(seed: int = 0, mean: float = 0.9, spread: float = 0.02) -> Any:
    """SSIM-like numbers of the subjects."""
    return mean + spread * np.random.default_rng(seed).standard_normal(SUBJECTS)


def measurement(task: str, values: Any, metric: str = "ssim", **changes: Any) -> Measurement:
    """A metric of a task."""
    told = {"task": task, "metric": metric, "better": Better.HIGHER, "values": cases(values)}
    return Measurement.model_validate(told | changes)


def evidence(tasks: Mapping[str, Any], bank: str = "candidate", **changes: Any) -> Evidence:
    """A bank with these scores by task."""
    told = {
        "bank": bank,
        "data": {task: f"data of {task}" for task in tasks},
        "measurements": tuple(measurement(task, values) for task, values in tasks.items()),
    }
    return Evidence.model_validate(told | changes)


def covering(task: str, coverage: Any, width: float = 0.1, nominal: float = 0.9) -> Intervals:
    """Intervals with this coverage of every subject."""
    return Intervals(
        task=task,
        nominal=nominal,
        coverage=cases(coverage),
        width=cases(np.full(len(coverage), width)),
    )


def gates(**changes: Any) -> GateConfig:
    """Gates on SSIM alone."""
    told = {"metrics": {"ssim": {"margin": 0.005}}, "minimum_subjects": 8}
    return GateConfig.model_validate(told | changes)
