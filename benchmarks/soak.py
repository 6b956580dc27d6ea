"""A retraining that is killed, over and over: does the same command always end the same?

A first bank is trained and serves; then new scans come, and a retraining makes, judges, registers
and promotes a second one. That retraining is killed with SIGKILL, at random moments and at every
named moment of the registry, each time from the same start. After each kill the bank that serves
has to be complete, byte by byte, and the same command has to end with the hashes that it has
without a kill: of every file of every step, of the bank, and of the version that serves.

    OMP_NUM_THREADS=1 python benchmarks/soak.py --kills 50 --json FILE
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptmr.data.manifest import check_manifest, sha256
from adaptmr.data.simulation import SimulationConfig, simulate
from adaptmr.workflows.bank_training.steps import MANIFEST
from adaptmr.workflows.environment import environment
from adaptmr.workflows.orchestration.run import run_workflow
from adaptmr.workflows.registry.log import Event
from adaptmr.workflows.registry.points import VARIABLE, Point
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.registry.verification import verify
from adaptmr.workflows.stages.config import Retrain

SMALL = {"matrix": (24, 24), "slices": 2, "coils": 2}
LOGGED = (Event.JUDGED, Event.REGISTERED, Event.PROMOTED)
MOMENTS = (
    Point.LOCKED,
    Point.COPIED,
    Point.COMPLETE,
    *(
        f"{point} {event}"
        for event in LOGGED
        for point in (Point.HALF_LOGGED, Point.LOGGED, Point.ALIASED)
    ),
)
"""Every named moment of a registration and a promotion."""
PLACES = {"hashes", "prepare", "register"}
"""Steps whose keys hold where files lie; each kill has a folder of its own."""
TIMED = {MANIFEST, "evidence.json", "gates.html"}
"""Files that tell how long something took."""


@dataclass(frozen=True)
class Site:
    """A folder with everything of one trial."""

    folder: Path
    incoming: Path

    @property
    def out(self) -> Path:
        """Where the workflow works."""
        return self.folder / "out"

    @property
    def registry(self) -> Registry:
        """The versions."""
        return Registry(self.folder / "registry")

    def config(self) -> Retrain:
        """The retraining."""
        schedule = {"epochs": 2, "batch_size": 4, "accelerator": "cpu"}
        return Retrain.model_validate(
            {
                "workflow": "retrain",
                "registry": self.folder / "registry",
                "ingest": {
                    "incoming": {"kind": "folders", "folders": [self.incoming]},
                    "store": self.folder / "store",
                },
                "split": {"calibration": 0.3, "test": 0.3},
                "gates": {"metrics": {"ssim": {"margin": 0.5}}, "minimum_subjects": 2},
                "training": {
                    "selection_fraction": 0.3,
                    "center_fraction": 0.2,
                    "acceleration": 2.5,
                    "sampler": {"kind": "mixture", "components": 2, "factors": 2, "iterations": 3},
                    "uncertainty": {"samples": 3},
                    "masks": {"masks": 2, "seeds": [1, 2]},
                    "architecture": {"kind": "unet", "channels": 4, "pools": 1},
                    "pairs": schedule,
                    "width": {**schedule, "epochs": 1},
                },
                "further": schedule,
            }
        )

    def copy(self, folder: Path) -> "Site":
        """The same before the retraining, elsewhere; what comes in stays where it is."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Site(folder, self.incoming)

    def hashes(self) -> dict[str, str]:
        """sha256 of what the retraining made."""
        steps = self.out / "steps"
        found = {
            str(file.relative_to(steps)): sha256(file)
            for file in sorted(steps.rglob("*"))
            if file.is_file()
            and file.name not in TIMED
            and file.suffix != ".lock"
            and file.relative_to(steps).parts[0] not in PLACES
        }
        aliases = self.registry.state().aliases
        return {**found, "champion": str(aliases.champion), "previous": str(aliases.previous)}

    def serving(self) -> str:
        """The version that serves, after every one of its files was hashed."""
        bank = self.registry.champion()
        if bank is None:
            sys.exit("no bank serves")
        check_manifest(bank)
        check_manifest(bank.parent)
        return bank.parent.name


def require(holds: bool, otherwise: str) -> None:
    """End the soak when something does not hold before the first kill."""
    if not holds:
        sys.exit(otherwise)


def begin(site: Site, moment: str | None = None) -> int:
    """Run the retraining in a process that has everything loaded already; its number."""
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        with (site.folder / "log.txt").open("a") as log:
            os.dup2(log.fileno(), sys.stderr.fileno())
            if moment is not None:
                os.environ[VARIABLE] = moment
            run_workflow(site.config(), site.out)
        code = 0
    finally:
        os._exit(code)


def ended(process: int) -> int:
    """Wait for a process: its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def retrained(site: Site, moment: str | None = None, after: float | None = None) -> int:
    """Run the retraining, killed at a moment or after some seconds when asked for."""
    process = begin(site, moment)
    if after is not None:
        time.sleep(after)
        os.kill(process, signal.SIGKILL)
    return ended(process)


def trial(base: Site, folder: Path, wanted: dict[str, str], **kill: Any) -> dict[str, Any]:
    """Kill the retraining once, let it end, and compare."""
    site = base.copy(folder)
    before = base.serving()
    code = retrained(site, **kill)
    serving = site.serving()
    again = retrained(site)
    found = site.hashes() if again == 0 else {}
    different = sorted(
        name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)
    )
    problems = list(verify(site.registry).problems)
    row = {
        "kill": kill.get("moment") or f"after {kill['after']:.2f} s",
        "killed": code == -signal.SIGKILL,
        "serving_after_kill": "first" if serving == before else "second",
        "exit_code_of_the_next_run": again,
        "different_hashes": different,
        "problems": problems,
        "good": again == 0 and not different and not problems,
    }
    if row["good"]:
        shutil.rmtree(folder)
    return row


def started(folder: Path) -> tuple[Site, Site, float]:
    """A bank that serves with new scans waiting; the same retrained without a kill; seconds."""
    base = Site(folder / "base", folder / "incoming")
    list(simulate(SimulationConfig(subjects=12, seed=1, **SMALL), base.incoming))
    base.folder.mkdir()
    require(retrained(base) == 0, (base.folder / "log.txt").read_text())
    list(simulate(SimulationConfig(subjects=5, seed=2, **SMALL), base.incoming))
    whole = base.copy(folder / "whole")
    begun = time.monotonic()
    require(retrained(whole) == 0, (whole.folder / "log.txt").read_text())
    seconds = time.monotonic() - begun
    require(whole.serving() != base.serving(), "the retraining was not promoted")
    return base, whole, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="at random moments")
    parser.add_argument("--moments", nargs="*", default=MOMENTS, help="named ones; all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import dagster  # noqa: F401 - loaded once for all runs
    import lightning.pytorch  # noqa: F401

    draws = random.Random(options.seed)  # noqa: S311 - no secret
    rows = []
    with tempfile.TemporaryDirectory(prefix="soak.") as name:
        folder = Path(name)
        base, whole, seconds = started(folder)
        wanted = whole.hashes()
        kills: list[dict[str, Any]] = [{"moment": str(moment)} for moment in options.moments]
        kills += [{"after": draws.uniform(0, seconds)} for _ in range(options.kills)]
        for number, kill in enumerate(kills):
            rows.append(trial(base, folder / f"trial-{number}", wanted, **kill))
            row = rows[-1]
            print(f"{'good' if row['good'] else 'BAD'}  {row['kill']}: {row}", flush=True)
    good = sum(row["good"] for row in rows)
    killed = sum(row["killed"] for row in rows)
    print(f"{good} of {len(rows)} ended the same; {killed} were killed before their end")
    if options.json:
        found = {"benchmark": "soak", "rows": rows, "environment": environment()}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(good != len(rows))


if __name__ == "__main__":
    main()
