"""A benchmark from its configuration to its folder."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from adaptmr.data.files import complete_folder, require_absent
from adaptmr.reconstruction.training.run import run_folder
from adaptmr.workflows.bank_training.steps import Steps
from adaptmr.workflows.benchmark.config import Baseline, BenchmarkConfig
from adaptmr.workflows.benchmark.coverage import coverage
from adaptmr.workflows.benchmark.examined import METRICS, PROTOCOL
from adaptmr.workflows.benchmark.latency import latencies
from adaptmr.workflows.benchmark.methods import (
    Method,
    PolicyFound,
    baselines,
    label,
    of_bank,
    seed_controls,
    trained_bank,
)
from adaptmr.workflows.benchmark.report import report
from adaptmr.workflows.benchmark.results import BenchmarkResult, Coverage, Policy
from adaptmr.workflows.benchmark.summary import (
    Findings,
    cells,
    choices,
    confusions,
    head_rooms,
    rows,
)
from adaptmr.workflows.benchmark.trial import begin_trial, checked_test
from adaptmr.workflows.benchmark.verdict import notes, verdict
from adaptmr.workflows.environment import environment
from adaptmr.workflows.progress import stage
from adaptmr.workflows.report import write_report

RESULTS: Final = "results.json"
SLICES: Final = "slices.csv"
LATENCY: Final = "latency.json"
REPORT: Final = "report.html"
CONFIG: Final = "config.yaml"


@dataclass(frozen=True, eq=False)
class Seed:
    """What one seed gave."""

    methods: tuple[Method, ...]
    policy: PolicyFound | None
    coverage: Coverage | None = None
    why_no_coverage: str | None = None
    latency: Mapping[str, float] | None = None
    device: str = "cpu"


def benchmark(
    config: BenchmarkConfig, out: Path, *, run: Path | None = None, overwrite: bool = False
) -> BenchmarkResult:
    """Measure whether adaptive selection pays.

    All that is trained and measured is kept in ``run``, by what it depends on, as of
    `adaptmr.workflows.bank_training.run.train_bank`: a benchmark that was stopped continues, and
    one that is asked for again with other rows, seeds or values of J computes these alone. The same
    configuration and data give the same results (bit by bit on one CPU).

    Args:
        config: what to compare on what.
        out: folder for ``results.json``, ``slices.csv``, ``latency.json``, ``report.html`` and
            ``config.yaml``; appears complete at the end.
        run: folder of the steps; ``<out>.run`` beside ``out`` when not given.
        overwrite: whether an existing ``out`` may be replaced.

    Raises:
        BadInputError: the data cannot be used, a subject of the test was trained, selected or
            calibrated on, or ``out`` exists.
        UsageError: the parts of the configuration do not fit together.
    """
    require_absent(out, overwrite=overwrite)
    steps = Steps(run or run_folder(out))
    test = checked_test(config, steps)
    seeds = [
        one_seed(config, seed, steps, detailed=seed == config.seeds[0]) for seed in config.seeds
    ]
    found = Findings(config, test, [seed.methods for seed in seeds])
    result = _result(found, seeds)
    latency = dict(seeds[0].latency or {})
    with complete_folder(out, overwrite=overwrite) as folder:
        (folder / RESULTS).write_text(result.model_dump_json(indent=1) + "\n")
        (folder / LATENCY).write_text(json.dumps({"seconds_per_slice": latency}, indent=1) + "\n")
        _write_slices(found, folder / SLICES)
        described = config.model_dump(mode="json")
        (folder / CONFIG).write_text(yaml.safe_dump(described, sort_keys=False))
        write_report(report(result, found, latency), folder / REPORT)
    return result


def one_seed(config: BenchmarkConfig, seed: int, steps: Steps, *, detailed: bool) -> Seed:
    """All rows of a seed; with ``detailed`` also coverage and latency."""
    with stage(f"seed {seed}"):
        trial = begin_trial(config, seed, steps)
        single = trained_bank(trial, 1)
        methods, policy = baselines(trial, single)
        banks = {count: trained_bank(trial, count) for count in config.counts[1:]}
        for bank in banks.values():
            methods += of_bank(trial, bank)
        if Baseline.SEED_CONTROL in config.baselines:
            methods += seed_controls(trial, single)
        if not detailed:
            return Seed(tuple(methods), policy)
        covered, why = coverage(trial, banks[config.main].pairs)
        times = latencies(trial, banks[config.main])
        return Seed(tuple(methods), policy, covered, why, times, str(trial.course.device))


def _result(found: Findings, seeds: Sequence[Seed]) -> BenchmarkResult:
    config = found.config
    selector = label(config.training.selector)
    table, rooms = rows(found), head_rooms(found)
    sentences, pays = verdict(config, selector, table, rooms)
    first = seeds[0]
    return BenchmarkResult(
        verdict=sentences,
        pays=pays,
        metric=config.metric,
        protocol=PROTOCOL,
        subjects=len(set(found.subjects)),
        slices=len(found.subjects),
        seeds=config.seeds,
        J=config.main,
        selector=selector,
        rows=table,
        head_room=rooms,
        choices=choices(found),
        confusion=confusions(found),
        policy=tuple(
            Policy(
                seed=one.policy.seed,
                adaptivity=one.policy.adaptivity,
                collapsed=one.policy.collapsed,
                distinct_masks=one.policy.distinct,
            )
            for one in seeds
            if one.policy is not None
        ),
        cells=cells(found, selector),
        coverage=first.coverage,
        why_no_coverage=first.why_no_coverage,
        notes=notes(found),
        environment=environment(first.device),
    )


def _write_slices(found: Findings, path: Path) -> None:
    """One line per method, seed and slice."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["method", "J", "seed", "subject", "scan", "slice", *METRICS, "pair"])
        for seed, methods in zip(found.config.seeds, found.seeds, strict=True):
            for method in methods:
                writer.writerows(_lines(found, seed, method))


def _lines(found: Findings, seed: int, method: Method) -> list[list[Any]]:
    chosen = [""] * len(found.subjects) if method.chosen is None else (method.chosen + 1).tolist()
    count = "" if method.count is None else method.count
    return [
        [method.name, count, seed, subject, scan.name, index, *values, pair]
        for (scan, index), subject, values, pair in zip(
            found.test.slices, found.subjects, method.metrics.tolist(), chosen, strict=True
        )
    ]
