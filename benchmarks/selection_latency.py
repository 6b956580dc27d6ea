"""How long a choice of mask takes: low-frequency data of one slice in, decision out.

The steps are those of `adaptmr.sampling.selection.select`, clocked apart: the block is cut out and
made an image (acquire), the sampler draws (sample), the samples' variance is taken in k-space
(variance), the masks are scored (select), and fingerprints and what other rules would have chosen
are written down (record); the mask is known before the last. Samplers are prepared on a few
simulated slices and not trained: time does not depend on the weights.

The cases take turns; slow ones take fewer, as many as fit into ``--seconds``.

    python benchmarks/selection_latency.py --json FILE
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from adaptmr.data.simulation import SimulationConfig, simulate_scan
from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.sampling import bank as banks
from adaptmr.sampling.bank import BankConfig, MaskBank
from adaptmr.sampling.ensemble import EnsembleConfig
from adaptmr.sampling.flow.config import HONG2024, FlowConfig
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.low_frequency import LowFrequency, acquire
from adaptmr.sampling.mixture import MixtureConfig
from adaptmr.sampling.pairs import Pairs
from adaptmr.sampling.persistence import Sampler, SamplerConfig, build
from adaptmr.sampling.selection import Adaptation, UncertaintyConfig, decide, with_uncertainty
from adaptmr.sampling.selector import Evidence, NearestCentroid
from adaptmr.sampling.uncertainty import UncertaintyMap, unit_norm
from adaptmr.workflows.environment import environment

SAMPLERS: dict[str, SamplerConfig] = {
    "mixture": MixtureConfig(),
    "ensemble": EnsembleConfig(),
    "flow": FlowConfig(),
    "flow of hong2024": HONG2024,
}
STEPS = ("acquire", "sample", "variance", "select", "record")
MASKS = 3
ACCELERATION = 8

Result = TypeVar("Result")


@dataclass
class Clock:
    """Seconds of each step of one choice; waits for the device before it looks at the time."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    def time(self, step: str, work: Callable[[], Result]) -> Result:
        """Do some work and note its seconds."""
        start = self.now()
        done = work()
        self.seconds[step] = self.seconds.get(step, 0.0) + self.now() - start
        return done

    def now(self) -> float:
        """Seconds, when all that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


@dataclass(frozen=True)
class TimedSampler:
    """A sampler whose time is taken."""

    sampler: Sampler
    clock: Clock

    def sample(self, low_frequency: LowFrequency, n: int, generator: torch.Generator) -> Tensor:
        """As of the sampler."""
        return self.clock.time("sample", lambda: self.sampler.sample(low_frequency, n, generator))


@dataclass(frozen=True)
class TimedSelector:
    """A selector whose time is taken."""

    clock: Clock
    name: ClassVar[str] = NearestCentroid().name
    needs_uncertainty: ClassVar[bool] = True

    def scores(self, evidence: Evidence, bank: MaskBank) -> Tensor:
        """As of the nearest centroid."""
        return self.clock.time("select", lambda: NearestCentroid().scores(evidence, bank))


@dataclass(frozen=True)
class Case:
    """One sampler with masks of lines or of points, on one device."""

    name: str
    kspace: Tensor
    bank: MaskBank
    sampler: Sampler
    device: torch.device
    samples: int

    def choose(self) -> dict[str, float]:
        """Seconds of each step of the choice for one slice."""
        clock = Clock(self.device)
        adaptation = Adaptation(
            self.bank,
            TimedSelector(clock),
            TimedSampler(self.sampler, clock),
            config=UncertaintyConfig(samples=self.samples),
        )
        low = clock.time("acquire", lambda: acquire(self.kspace.to(self.device), self.bank.block))
        evidence = clock.time("variance", lambda: with_uncertainty(Evidence(low), adaptation))
        decisions = clock.time("record", lambda: decide(evidence, adaptation))
        if decisions[0].fallback or decisions[0].rejected:
            raise SystemExit(f"{self.name}: {decisions[0].reason or 'samples were drawn anew'}")
        # The steps that were clocked within others.
        clock.seconds["variance"] -= clock.seconds["sample"]
        clock.seconds["record"] -= clock.seconds["select"]
        return clock.seconds


def simulated(arguments: argparse.Namespace) -> Tensor:
    """(slices, coil, rows, columns) k-space of one subject."""
    config = SimulationConfig(
        seed=arguments.seed,
        matrix=(arguments.size, arguments.size),
        slices=4,
        coils=arguments.coils,
    )
    return torch.stack(list(simulate_scan(config, 0)[0].kspace))


def made_bank(block: tuple[int, int], size: int, seed: int) -> MaskBank:
    """Masks of uncertainties that were drawn at random: lines where the block spans the rows."""
    values = torch.rand(4 * MASKS, size, size, generator=torch.Generator().manual_seed(seed))
    number = torch.full((len(values),), 10)
    known = torch.ones(len(values), dtype=torch.bool)
    found = UncertaintyMap(unit_norm(values, block), known, number, torch.zeros_like(number))
    low_frequency = block[1:] if block[0] == size else block
    frame = Frame.of((size, size), low_frequency, ACCELERATION)
    return banks.build(found, frame, BankConfig(masks=MASKS))[0]


def made_cases(arguments: argparse.Namespace, devices: list[torch.device]) -> list[Case]:
    kspace, size = simulated(arguments), arguments.size
    target = torch.linalg.vector_norm(inverse_fourier(kspace), dim=1)
    cases = []
    for kind, block in (("points", (size // 8, size // 8)), ("lines", (size, size // 16))):
        low = acquire(kspace, block)
        pairs = Pairs(low.image, target / low.scale[:, None, None], block)
        bank = made_bank(block, size, arguments.seed)
        for name, config in SAMPLERS.items():
            for device in devices:
                sampler = build(config, (size, size), block, arguments.seed)
                sampler.prepare(pairs, torch.Generator().manual_seed(arguments.seed))
                cases.append(
                    Case(
                        f"{name}, {kind} {ACCELERATION}x, block {block[0]}x{block[1]}",
                        kspace[1:2],
                        bank,
                        sampler.eval().to(device),
                        device,
                        arguments.samples,
                    )
                )
    return cases


def measured(cases: list[Case], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per case: median, least and most seconds, and the median of each step.

    Beside them the processor time, which other processes on the machine disturb less.
    """
    runs: list[list[dict[str, float]]] = [[] for _ in cases]
    processor: list[list[float]] = [[] for _ in cases]
    wanted = []
    for case in cases:
        warm = sum(case.choose().values())
        wanted.append(int(np.clip(arguments.seconds / warm, arguments.least, arguments.repeats)))
    for turn in range(max(wanted)):
        for case, found, busy, count in zip(cases, runs, processor, wanted, strict=True):
            if turn < count:
                start = time.process_time()
                found.append(case.choose())
                busy.append(time.process_time() - start)
    rows = []
    for case, found, busy in zip(cases, runs, processor, strict=True):
        totals = [sum(one.values()) for one in found]
        steps = {step: float(np.median([one[step] for one in found])) for step in STEPS}
        rows.append(
            {
                "case": case.name,
                "size": f"{case.kspace.shape[1]}x{arguments.size}x{arguments.size}",
                "device": str(case.device),
                "n": len(found),
                "seconds": float(np.median(totals)),
                "least_seconds": min(totals),
                "most_seconds": max(totals),
                "processor_seconds": float(np.median(busy)),
                "steps": steps,
                "shares": {step: value / sum(steps.values()) for step, value in steps.items()},
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| case | size | device | n | median ms | least, most ms | processor ms"
        f" | {' | '.join(STEPS)} |",
        f"|---|---|---|---|---|---|---|{'---|' * len(STEPS)}",
    ]
    for row in rows:
        start = f"| {row['case']} | {row['size']} | {row['device']} | {row['n']} |"
        if row["seconds"] is None:
            lines.append(f"{start} not measured |  |  |{'  |' * len(STEPS)}")
            continue
        median, least, most, busy = (
            1000 * row[f"{key}seconds"] for key in ("", "least_", "most_", "processor_")
        )
        shares = " | ".join(f"{100 * row['shares'][step]:.1f} %" for step in STEPS)
        lines.append(f"{start} {median:.0f} | {least:.0f}, {most:.0f} | {busy:.0f} | {shares} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=320, help="rows and columns")
    parser.add_argument("--coils", type=int, default=16)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=20, help="of each case, at most")
    parser.add_argument("--least", type=int, default=3, help="repeats of each case")
    parser.add_argument("--seconds", type=float, default=60.0, help="for the repeats of a case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.append(torch.device("cuda"))
    rows = measured(made_cases(arguments, devices), arguments)
    if len(devices) == 1:
        nothing = {"n": 0, "seconds": None, "steps": None, "shares": None}
        rows.append({"case": "all", "size": rows[0]["size"], "device": "cuda", **nothing})
    print(table(rows))
    described = environment(devices[-1]) | {
        "threads": str(arguments.threads),
        "seed": str(arguments.seed),
        "samples": str(arguments.samples),
        "masks": str(MASKS),
    }
    print(f"\n{described['processor']}, {described['threads']} thread(s)")
    if arguments.json:
        document = {"benchmark": "selection_latency", "rows": rows, "environment": described}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
