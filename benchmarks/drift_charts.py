"""How soon control charts tell of a drift, and how often of none.

Each trial draws a reference and new scans of one kind with eight statistics, shifts all scans of
the new ones in one statistic by some of its standard deviations, and asks after how many scans the
first chart gives alarm. The tails of two of the statistics are heavy (Student's t, 5 degrees).

    python benchmarks/drift_charts.py --json FILE
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from adaptmr.workflows.environment import environment
from adaptmr.workflows.scheduling.drift import DriftConfig, Observation, drift

STATISTICS = 8
HEAVY = 2
SCANS = 300
REFERENCES = (30, 100)
SHIFTS = (0.0, 1.0, 2.0, 4.0)


def scans(generator: Generator, count: int, shift: float) -> list[Observation]:
    """Scans of one kind, the first statistic shifted."""
    values = np.concatenate(
        [
            generator.standard_normal((count, STATISTICS - HEAVY)),
            generator.standard_t(5, (count, HEAVY)) / np.sqrt(5 / 3),
        ],
        axis=1,
    )
    values[:, 0] += shift
    return [
        Observation(
            file=f"{index}",
            subject=f"{index}",
            stratum="AXT2",
            statistics={f"statistic {number}": float(v) for number, v in enumerate(row)},
        )
        for index, row in enumerate(values)
    ]


def measured(reference: int, shift: float, trials: int) -> dict[str, Any]:
    """One row of the table."""
    generator, config, first = np.random.default_rng(0), DriftConfig(), []
    for _ in range(trials):
        before, new = scans(generator, reference, 0.0), scans(generator, SCANS, shift)
        alarms = drift(config, before, new)
        if shift:
            alarms = tuple(one for one in alarms if one.statistic == "statistic 0")
        first.append(min((one.scans for one in alarms), default=SCANS + 1))
    found = np.array(first)
    return {
        "reference": reference,
        "shift": shift,
        "trials": trials,
        "alarm": float((found <= SCANS).mean()),
        "median_scans": float(np.median(found)) if np.median(found) <= SCANS else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [measured(n, shift, arguments.trials) for n in REFERENCES for shift in SHIFTS]
    print("| scans in the reference | shift (sd) | alarm within 300 scans | median scans |")
    print("|---|---|---|---|")
    for row in rows:
        scans_until = "-" if row["median_scans"] is None else f"{row['median_scans']:.0f}"
        print(f"| {row['reference']} | {row['shift']:g} | {row['alarm']:.1%} | {scans_until} |")
    if arguments.json:
        told = {"benchmark": "drift_charts", "rows": rows, "environment": environment()}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
