"""Kill a process at every named moment, and at random ones, of each change of a registry.

After each kill the bank that serves has to be complete, and the same call has to finish with the
very files that an undisturbed one leaves. Run it as ``python benchmarks/soak_registry.py``.
"""

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from adaptmr.data.manifest import check_manifest, write_manifest
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.bank.persistence import fingerprint, load
from adaptmr.workflows.banks import default_bank
from adaptmr.workflows.environment import environment
from adaptmr.workflows.gates.config import GateConfig, MetricGate
from adaptmr.workflows.gates.evidence import Better, CaseValue, Evidence, Measurement
from adaptmr.workflows.gates.judge import judge
from adaptmr.workflows.registry.log import Event
from adaptmr.workflows.registry.points import VARIABLE, Point
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.registry.verification import verify
from adaptmr.workflows.registry.version import Candidate

GATES = GateConfig(metrics={"ssim": MetricGate(margin=0.01)}, resamples=1000)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Change:
    """A change of the registry: what was there before, and what is called."""

    name: str
    before: Path
    call: Callable[[Registry], object]


def bank(folder: Path, number: int) -> Path:
    """The shipped bank, with a provenance of its own."""
    shutil.copytree(default_bank(), folder)
    described = json.loads((folder / "bank.json").read_text())
    described["provenance"]["number"] = number
    (folder / "bank.json").write_text(json.dumps(described, indent=1) + "\n")
    write_manifest(folder)
    load(folder)
    return folder


def judged(folder: Path, registry: Registry) -> Candidate:
    """A candidate with scores that pass."""
    values = tuple(
        CaseValue(case=f"c{i}", subject=f"s{i}", strata=(), value=float(value))
        for i, value in enumerate(0.9 + 0.02 * np.random.default_rng(0).standard_normal(20))
    )
    ssim = Measurement(task="brain", metric="ssim", better=Better.HIGHER, values=values)
    evidence = Evidence(bank=fingerprint(folder), data={"brain": "d"}, measurements=(ssim,))
    return Candidate(folder, evidence, judge(GATES, evidence, registry.champion_evidence()))


def changes(folder: Path) -> list[Change]:
    """Registering, promoting, withdrawing and pruning, each from the state it is called in."""
    banks = [bank(folder / f"bank-{number}", number) for number in range(3)]
    registry = Registry(folder / "registry", "soak", NOW)
    registry.freeze_gates(GATES)
    for one in banks[:2]:
        registry.promote(registry.register(judged(one, registry)))
    candidate = judged(banks[2], registry)

    def kept(name: str) -> Path:
        return Path(shutil.copytree(registry.folder, folder / f"before-{name}"))

    found = [Change("register", kept("register"), lambda r: r.register(candidate))]
    version = registry.register(candidate)
    found.append(Change("promote", kept("promote"), lambda r: r.promote(version)))
    registry.promote(version)
    found.append(Change("rollback", kept("rollback"), lambda r: r.rollback(version, "soak")))
    found.append(Change("prune", kept("prune"), lambda r: r.prune(0)))
    return found


def files(folder: Path) -> dict[str, bytes]:
    """All files of a registry but the lock, which holds the number of a process."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "lock"
    }


def named() -> list[str]:
    """All named moments; those about the log once for each event."""
    logged = (Point.HALF_LOGGED, Point.LOGGED, Point.ALIASED)
    return [
        *(point for point in Point if point not in logged),
        *(f"{point} {event}" for point in logged for event in Event),
    ]


def whole(registry: Registry) -> bool:
    """Whether a bank serves whose files are those that were registered."""
    champion = registry.champion()
    try:
        check_manifest(champion or registry.folder)
    except BadInputError as error:
        print(error)
        return False
    return True


def killed(call: Callable[[], object], point: str | None, delay: float) -> bool:
    """Call in a child that dies at a named moment, or after a delay; whether it was killed."""
    child = os.fork()
    if child == 0:
        if point is not None:
            os.environ[VARIABLE] = point
        call()
        os._exit(0)
    if point is None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def soak(change: Change, folder: Path, randoms: int, seed: int) -> list[dict[str, Any]]:
    """Kill at all moments of a change; one row for the named ones and one for the random ones."""
    shutil.copytree(change.before, folder / "undisturbed")
    begun = time.monotonic()
    change.call(Registry(folder / "undisturbed", "soak", NOW))
    took = time.monotonic() - begun
    expected = files(folder / "undisturbed")
    generator = random.Random(seed)  # noqa: S311 - moments, not secrets
    moments: list[tuple[str | None, float]] = [(point, 0.0) for point in named()]
    moments += [(None, generator.uniform(0, took)) for _ in range(randoms)]
    none = {"killed": 0, "champion": 0, "same_files": 0}
    rows = {
        kind: {"change": change.name, "seconds": round(took, 3), "kills": kind, **none}
        for kind in ("named", "random")
    }
    for number, (point, delay) in enumerate(moments):
        place = Path(shutil.copytree(change.before, folder / f"{number}"))
        registry = Registry(place, "soak", NOW)
        if not killed(lambda r=registry: change.call(r), point, delay):  # type: ignore[misc]
            continue  # a moment that this change does not have, or it was done before
        row = rows["random" if point is None else "named"]
        row["killed"] += 1
        row["champion"] += whole(registry)
        change.call(registry)
        row["same_files"] += files(place) == expected and not verify(registry).problems
        shutil.rmtree(place)
    return list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=50, help="random moments of each change")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for change in changes(Path(folder)):
            place = Path(folder) / f"soak-{change.name}"
            rows += soak(change, place, arguments.random, arguments.seed)
    print(
        f"{'change':10}{'seconds':>8}  {'kills':8}{'killed':>7}{'champion whole':>16}"
        f"{'same files after':>18}"
    )
    for row in rows:
        print(
            f"{row['change']:10}{row['seconds']:8}  {row['kills']:8}{row['killed']:7}"
            f"{row['champion']:16}{row['same_files']:18}"
        )
    if arguments.json:
        told = {"benchmark": "soak_registry", "rows": rows, "environment": environment()}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")
    if any(not row["killed"] == row["champion"] == row["same_files"] for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
