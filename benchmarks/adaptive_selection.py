"""Does choosing the mask pay? Two cohorts, lines and points, 4x and 8x, several seeds.

Runs ``adaptmr benchmark`` for every setting and joins what they found in one table. The cohorts are
those of ``cohorts.py``; in the folder COHORTS there must be::

    python benchmarks/cohorts.py --data DATA --cohort homogeneous --seed 11 --poses 2 --slices 3 \
        --splits train calibration --out COHORTS/homogeneous
    python benchmarks/cohorts.py --data DATA --cohort homogeneous --seed 11 --slices 8 \
        --splits test --out COHORTS/homogeneous-test
    python benchmarks/cohorts.py --data DATA --cohort mixed --seed 11 --poses 1 --slices 3 \
        --splits train calibration --out COHORTS/mixed
    python benchmarks/cohorts.py --data DATA --cohort mixed --seed 11 --slices 2 \
        --splits test --out COHORTS/mixed-test

    python benchmarks/adaptive_selection.py COHORTS --out RUNS --json adaptive_selection.json

All settings get their first seed before any gets its second, and every step is kept: a run that is
stopped continues, and several processes may share the work. ``--collect`` only joins what is there.
"""

import argparse
import csv
import json
import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from adaptmr.reconstruction.statistics import paired_bootstrap
from adaptmr.sampling.frame import Positions
from adaptmr.workflows.benchmark.config import Baseline, BenchmarkConfig
from adaptmr.workflows.benchmark.examined import METRICS
from adaptmr.workflows.benchmark.results import BenchmarkResult, Row
from adaptmr.workflows.benchmark.run import RESULTS, SLICES, benchmark
from adaptmr.workflows.environment import environment

BASE = Path(__file__).with_suffix(".yaml")
KINDS = tuple(product((Positions.POINTS, Positions.LINES), (8, 4)))
# What the control is compared with; learned masks are for the cohort that has something to learn.
CONTROL_ROWS = (Baseline.VARIABLE_DENSITY, Baseline.PER_SCAN, Baseline.SEED_CONTROL)
CHOSEN, LEARNED = "loss-aware", ("loupe", "policy")
OWN, MEAN = (f"{whose} mask, surrogate trained further" for whose in ("own", "mean"))


@dataclass(frozen=True)
class Setting:
    """One table of the benchmark."""

    cohort: str
    positions: Positions
    acceleration: int
    masks: tuple[int, ...] = (1, 3)
    """Values of J."""
    seeds: int = 3

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.cohort}-{self.positions.value}-{self.acceleration}x-J{self.masks[-1]}"


SETTINGS = (
    *(Setting(cohort, *kind) for cohort in ("mixed", "homogeneous") for kind in KINDS),
    Setting("mixed", Positions.POINTS, 8, (1, 2, 3, 4, 8, 16), seeds=1),  # as long as all others
    Setting("mixed", Positions.POINTS, 8, (1, 2, 4)),  # of these with all seeds, but for 16
    Setting("mixed", Positions.POINTS, 8, (1, 8)),
)


def configured(setting: Setting, base: BenchmarkConfig, seeds: int) -> BenchmarkConfig:
    """The benchmark of a setting with the first seeds."""
    mixed = setting.cohort == "mixed"
    training = base.training.model_copy(
        update={
            "data": base.training.data.model_copy(update={"folder": Path(setting.cohort)}),
            "positions": setting.positions,
            "acceleration": float(setting.acceleration),
            "width": base.training.width if mixed else None,  # too few subjects to calibrate on
        }
    )
    changed = {
        "training": training,
        "test": Path(f"{setting.cohort}-test") / "test",
        "masks": setting.masks,
        "rows": None if mixed else CONTROL_ROWS,
        "seeds": base.seeds[:seeds],
    }
    return base.model_copy(update=changed)


Slices = dict[tuple[str, str], dict[str, list[tuple[str, float, float]]]]
"""(method, J) -> seed -> (subject, SSIM, PSNR) of each slice."""


def slices_of(folder: Path) -> Slices:
    """All slices of a setting."""
    found: Slices = {}
    with (folder / SLICES).open(newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            seeds = found.setdefault((line["method"], line["J"]), {})
            values = (line["subject"], float(line["ssim"]), float(line["psnr"]))
            seeds.setdefault(line["seed"], []).append(values)
    return found


def difference(
    slices: Slices, one: tuple[str, str], other: tuple[str, str], metric: int
) -> dict[str, Any] | None:
    """One method minus another, the mean over seeds, in SSIM (1) or PSNR (2)."""
    if one not in slices or other not in slices:
        return None
    means = [
        np.mean([[each[metric] for each in lines] for lines in slices[key].values()], axis=0)
        for key in (one, other)
    ]
    subjects = [subject for subject, *_ in next(iter(slices[one].values()))]
    found = paired_bootstrap(means[0] - means[1], subjects, seed=0)
    return {"mean": found.mean, "interval": [found.low, found.high]}


def by_subject(out: Path) -> list[list[Any]]:
    """Setting, method, J, seed, subject, slices and mean metrics of all that is done."""
    lines: list[list[Any]] = []
    for setting in SETTINGS:
        path = out / setting.name / SLICES
        found: dict[tuple[str, ...], list[list[float]]] = {}
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as stream:
                for line in csv.DictReader(stream):
                    key = tuple(line[name] for name in ("method", "J", "seed", "subject"))
                    values = [float(line[name]) for name in METRICS]
                    found.setdefault(key, []).append(values)
        for key, values in found.items():
            means = [f"{mean:.5f}" for mean in np.mean(values, axis=0)]
            lines.append([setting.name, *key, len(values), *means])
    return lines


def joined(out: Path) -> list[dict[str, Any]]:
    """The rows of all settings that are done."""
    rows: list[dict[str, Any]] = []
    for setting in SETTINGS:
        folder = out / setting.name
        if not folder.is_dir():
            continue
        result = BenchmarkResult.model_validate_json((folder / RESULTS).read_text())
        slices = slices_of(folder)
        rooms = {room.J: room.model_dump(mode="json") for room in result.head_room}
        for row in result.rows:
            entry = {"setting": setting.name, **row.model_dump(mode="json")}
            if row.method == "oracle":
                entry["head_room"] = rooms.get(row.J)
            if row.method == OWN:
                entry["psnr_over_mean_mask"] = difference(slices, (OWN, ""), (MEAN, ""), 2)
            if row.method == CHOSEN:
                for learned in LEARNED:
                    found = difference(slices, (CHOSEN, str(row.J)), (learned, ""), 1)
                    if found is not None:
                        entry["differences"][learned] = found
            rows.append(entry)
        print(f"\n{setting.name}: {result.verdict}")
        for row in result.rows:
            print(line(row))
    return rows


def line(row: Row) -> str:
    """A row of the printed table."""
    low, high = row.interval
    return (
        f"  {row.method:34s} {row.J or '':>2} {row.ssim:.4f} [{low:.4f}, {high:.4f}]"
        f" {row.psnr:6.2f} dB  {row.nmse:.4f}  worst 5 % {row.worst_5:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohorts", type=Path, help="folder of the four cohorts")
    parser.add_argument("--out", type=Path, required=True, help="a folder for each setting")
    parser.add_argument("--json", type=Path, help="where to write the joined rows")
    parser.add_argument("--csv", type=Path, help="where to write the means by subject")
    parser.add_argument("--settings", nargs="+", choices=[one.name for one in SETTINGS])
    parser.add_argument("--seeds", type=int, default=3, help="no more than these")
    parser.add_argument("--collect", action="store_true", help="join what is there, run nothing")
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    report = None if arguments.json is None else arguments.json.absolute()
    subjects = None if arguments.csv is None else arguments.csv.absolute()
    os.chdir(arguments.cohorts)  # results name the cohorts and no folder of this machine
    base = BenchmarkConfig.model_validate(yaml.safe_load(BASE.read_text()))
    wanted = [one for one in SETTINGS if one.name in (arguments.settings or [one.name])]
    if not arguments.collect:
        for seeds, setting in product(range(1, arguments.seeds + 1), wanted):
            if seeds <= setting.seeds:
                print(f"{setting.name}, {seeds} seeds", flush=True)
                benchmark(configured(setting, base, seeds), out / setting.name, overwrite=True)
    rows = joined(out)
    if report is not None:
        document = {
            "benchmark": "adaptive_selection",
            "rows": rows,
            "environment": environment("cpu"),
        }
        report.write_text(json.dumps(document, indent=1) + "\n")
    if subjects is not None:
        with subjects.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["setting", "method", "J", "seed", "subject", "slices", *METRICS])
            writer.writerows(by_subject(out))


if __name__ == "__main__":
    main()
