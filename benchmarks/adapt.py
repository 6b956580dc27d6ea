"""A network of one site is given 4, 16 or 64 scans of another: which change of weights pays?

A small VarNet is trained on T1-weighted heads under one fixed mask of lines, 4x. It then meets

* ``site``: twice the coils elsewhere, a third of the SNR, another field strength (phase);
* ``contrast``: T2 of the same kind of brains, simulated from tissue labels, without skulls;
* ``acceleration``: a mask of 8x;
* ``new mask``: equispaced lines, 4x, where the trained mask has variable density;

and is adapted by every strategy from scans of subjects that neither its training nor the test saw.
The epoch is chosen on a quarter of their subjects. ``target`` is the gain in PSNR on test subjects
under the shift, ``source`` what the adapted network loses (negative) where it came from. Intervals:
paired bootstrap over test subjects of the mean over seeds, 95 %. ``self-supervised`` rows adapt
from the same scans as they would be acquired, without what the mask leaves out. Seconds are CPU
time of one core.

    python benchmarks/adapt.py --data ../shared/data --work adapt-run --json adapt.json

What is done is kept in ``--work``: called again, or by several processes with other ``--shifts``,
the script continues.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapt_scans import SIZE, SLICES, Kind, simulated
from torch import nn

from adaptmr.continual.adapt import adapter as adapters
from adaptmr.continual.adapt.family import FAMILY, Strategy
from adaptmr.continual.adapt.network import AdaptationConfig, adapt_network, adapted
from adaptmr.data.files import complete_file
from adaptmr.data.scan import Scan
from adaptmr.reconstruction.metrics import PROTOCOLS, ProtocolName
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.varnet import VarNet, VarNetConfig
from adaptmr.reconstruction.statistics import paired_bootstrap
from adaptmr.reconstruction.training.cohort import Cohort, split_by_subject, subject_of
from adaptmr.reconstruction.training.config import SeededSchedule
from adaptmr.reconstruction.training.data import Material
from adaptmr.reconstruction.training.run import train_network
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.sources import FixedMask
from adaptmr.workflows.environment import environment

PROTOCOL = ProtocolName.FASTMRI_VOLUME
NETWORK = VarNetConfig(cascades=2, channels=8, pools=2, map_channels=4, map_pools=2)
BATCH = 2
SCANS = (4, 16, 64)
STEPS = 50
DEFAULTS = (Strategy.FULL, Strategy.SCALE_SHIFT)
"""What the others have to beat."""
COSTS = ("numbers", "bytes", "seconds", "epoch")
UNSUPERVISED = (Strategy.LOW_RANK,)


@cache
def mask(kind: MaskKind, acceleration: float) -> Mask:
    spec = MaskSpec(kind=kind, acceleration=acceleration, center_fraction=0.08)
    return make_mask(spec, (SIZE, SIZE), seed=3)


TRAINED = mask(MaskKind.VARIABLE_DENSITY_1D, 4)
SHIFTS: dict[str, tuple[Kind, Mask]] = {
    "site": (Kind.SITE, TRAINED),
    "contrast": (Kind.CONTRAST, TRAINED),
    "acceleration": (Kind.SOURCE, mask(MaskKind.VARIABLE_DENSITY_1D, 8)),
    "new mask": (Kind.SOURCE, mask(MaskKind.EQUISPACED_FRACTION, 4)),
}


@dataclass(frozen=True)
class Case:
    """One adaptation."""

    shift: str
    scans: int
    strategy: Strategy
    self_supervised: bool = False
    seed: int = 0

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.strategy}{', self-supervised' if self.self_supervised else ''}"


def cases(shift: str) -> Iterator[Case]:
    """All of a shift, with the first seed."""
    for scans in SCANS:
        yield from (Case(shift, scans, strategy) for strategy in Strategy)
    yield from (Case(shift, 16, strategy, True) for strategy in UNSUPERVISED)


def cohort_of(scans: Sequence[Scan], name: str, fraction: float, seed: int) -> Cohort:
    return Cohort(*split_by_subject(scans, fraction, seed), name)


def turned(scans: Sequence[Scan], seed: int) -> list[Scan]:
    """The scans in another order for each seed: few scans are then of other subjects."""
    start = 5 * seed % len(scans)
    return [*scans[start:], *scans[:start]]


def begun(data: Path, work: Path, steps: int, seed: int) -> VarNet:
    """The network of the source, trained when it is first asked for."""
    folder = work / f"base-{seed}"
    if not folder.exists():
        cohort = cohort_of(simulated(data, work, Kind.SOURCE, "source", 54), "source", 0.2, seed)
        batches = -(-len(cohort.training) * SLICES // (2 * BATCH))
        epochs = max(1, round(steps / batches))
        schedule = SeededSchedule(
            epochs=epochs,
            batch_size=2 * BATCH,
            learning_rate=3e-3,
            learning_rate_step=max(1, round(0.8 * epochs)),
            accelerator="cpu",
            seed=seed,
        )
        material = Material(cohort, (FixedMask(TRAINED),))
        train_network(NETWORK, schedule, material, folder, folder.with_suffix(".run"))
    network = checkpoint.load(folder)
    assert isinstance(network, VarNet)  # noqa: S101 - as trained above
    return network


@torch.no_grad()
def measured(network: nn.Module, under: Mask, scans: Sequence[Scan]) -> list[list[float]]:
    """PSNR, SSIM and NMSE of each scan."""
    found = []
    for scan in scans:
        assert scan.target is not None  # noqa: S101 - the simulator writes one
        metrics = PROTOCOLS[PROTOCOL](network(scan.kspace[:], under), scan.target[:])
        found.append([metrics.psnr, metrics.ssim, metrics.nmse])
    return found


def schedule_of(case: Case, training: int, rate: float) -> AdaptationConfig:
    """About as many steps for every number of scans, but no more than 40 epochs."""
    epochs = min(40, max(1, round(STEPS / -(-training * SLICES // BATCH))))
    return AdaptationConfig(
        strategy=case.strategy,
        epochs=epochs,
        batch_size=BATCH,
        probe_epochs=max(1, epochs // 2),
        learning_rate=rate,
        learning_rate_step=max(1, round(epochs * 2 / 3)),
        accelerator="cpu",
        seed=case.seed,
    )


def run(
    data: Path, work: Path, case: Case, network: VarNet, rate: float | None = None
) -> dict[str, Any]:
    """Adapt and measure, unless it was done before."""
    rate = rate or FAMILY[case.strategy].learning_rate
    name = f"{case.shift}-{case.scans}-{case.name}-{rate:g}-{case.seed}".replace(" ", "_")
    kept = work / "cases" / f"{name}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    kind, under = SHIFTS[case.shift]
    scans = turned(simulated(data, work, kind, "target", max(SCANS)), case.seed)[: case.scans]
    cohort = cohort_of(scans, f"{kind}-{case.scans}", 0.25, case.seed)
    config = schedule_of(case, len(cohort.training), rate)
    print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr)
    folder = work / "adapters" / name
    begin = time.process_time()
    adapt_network(
        network,
        cohort,
        under,
        config,
        folder,
        work / "runs" / name,
        acquired=case.self_supervised,
        overwrite=True,
        resume=False,
    )
    seconds = time.process_time() - begin
    change, history = adapters.load(folder), adapters.provenance(folder)
    own = adapted(network, change)
    values = {
        "target": measured(own, under, simulated(data, work, kind, "test", None)),
        "source": measured(own, TRAINED, simulated(data, work, Kind.SOURCE, "test", None)),
        "numbers": history["trained_numbers"],
        "bytes": sum(file.stat().st_size for file in folder.iterdir()),
        "seconds": seconds,
        "epoch": history["epoch"],
    }
    with complete_file(kept, overwrite=True) as partial:
        partial.write_text(json.dumps(values))
    return values


def estimate(values: np.ndarray, subjects: Sequence[str]) -> list[float]:
    """Mean, lower and upper bound."""
    if not values.any():
        return [0.0, 0.0, 0.0]
    return list(paired_bootstrap(values, subjects, seed=0))


@dataclass(frozen=True)
class Found:
    """What was measured, the mean over seeds, and how the seeds deviate."""

    target: np.ndarray
    """(scans, 3): PSNR, SSIM, NMSE."""
    source: np.ndarray
    deviation: float
    """Of the gain in SSIM over seeds; 0 of one."""
    costs: dict[str, float]


def joined(
    data: Path, work: Path, networks: Sequence[VarNet], case: Case, before: Sequence[np.ndarray]
) -> Found:
    """A case with all seeds, each from the network of its seed."""
    values = [
        run(data, work, replace(case, seed=seed), network) for seed, network in enumerate(networks)
    ]
    targets = np.array([one["target"] for one in values])
    gains = (targets - np.array(before)).mean(1)[:, 1]
    return Found(
        targets.mean(0),
        np.array([one["source"] for one in values]).mean(0),
        float(gains.std(ddof=1)) if len(gains) > 1 else 0.0,
        {name: float(np.mean([one[name] for one in values])) for name in COSTS},
    )


def rows_of(data: Path, work: Path, networks: Sequence[VarNet], shift: str) -> list[dict[str, Any]]:
    """The cases of a shift, each against the network as it came, and against the defaults."""
    kind, under = SHIFTS[shift]
    tests = simulated(data, work, kind, "test", None)
    subjects = [subject_of(scan) for scan in tests]
    sources = simulated(data, work, Kind.SOURCE, "test", None)
    unadapted = [np.array(measured(network, under, tests)) for network in networks]
    source = np.mean([measured(network, TRAINED, sources) for network in networks], 0)
    before = np.mean(unadapted, 0)
    found = {case: joined(data, work, networks, case, unadapted) for case in cases(shift)}
    rows = [quality(shift, "none", before) | {"source_before": source.mean(0).tolist()}]
    for case, one in found.items():
        rivals = [replace(case, strategy=each, self_supervised=False) for each in DEFAULTS]
        rival = max((each for each in rivals if each != case), key=lambda each: ssim(found[each]))
        same = [each for each in found if each.scans == case.scans and not each.self_supervised]
        lost, gained = one.source - source, one.target - before
        rows.append(
            quality(shift, case.name, one.target)
            | {
                "scans": case.scans,
                "seeds": len(networks),
                "gain_psnr": estimate(gained[:, 0], subjects),
                "gain_ssim": estimate(gained[:, 1], subjects),
                "gain_ssim_deviation": one.deviation,
                "source_psnr": estimate(lost[:, 0], subjects),
                "source_ssim": estimate(lost[:, 1], subjects),
                "rival": rival.name,
                "against_rival": estimate(one.target[:, 1] - found[rival].target[:, 1], subjects),
                "best": case == max(same, key=lambda each: ssim(found[each])),
            }
            | one.costs
        )
    return rows


def ssim(found: Found) -> float:
    """The mean over scans, of what is trained for."""
    return float(found.target[:, 1].mean())


def quality(shift: str, method: str, values: np.ndarray) -> dict[str, Any]:
    """A quality row of the benchmark contract."""
    psnr, ssim, nmse = values.mean(0).tolist()
    return {
        "method": method,
        "shift": shift,
        "scans": 0,
        "protocol": PROTOCOL.value,
        "n": len(values),
        "acceleration": SHIFTS[shift][1].acceleration,
        "psnr": psnr,
        "ssim": ssim,
        "nmse": nmse,
    }


def report(rows: Sequence[dict[str, Any]]) -> None:
    head = "shift, scans | strategy | SSIM gain | PSNR gain, dB | source SSIM | source PSNR, dB"
    print(f"| {head} | numbers | kB | s | SSIM against the better default |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for one in rows:
        if "best" not in one:
            print(f"| {one['shift']} | none | {one['ssim']:.3f} | {one['psnr']:.2f} ||||||")
            continue
        cells = [f"{one['shift']}, {one['scans']}", one["method"]]
        for name, places in (("gain", 3), ("source", 3)):
            cells += [shown(one[f"{name}_ssim"], places), shown(one[f"{name}_psnr"], 2)]
        cells += [f"{one['numbers']:,.0f}", f"{one['bytes'] / 1000:.0f}", f"{one['seconds']:.0f}"]
        cells += [shown(one["against_rival"], 3) + (" **best**" if one["best"] else "")]
        print(f"| {' | '.join(cells)} |")
    print()
    for strategy in Strategy:
        own = [one for one in rows if one["method"] == strategy]
        best = sum(one["best"] for one in own)
        beyond = sum(one["against_rival"][1] > 0 for one in own)
        print(
            f"{strategy}: best in {best} of {len(own)} cells, above the better default beyond doubt"
            f" in {beyond}{'' if best else '; never wins'}"
        )


def shown(interval: Sequence[float], places: int) -> str:
    middle, low, high = (f"{value:+.{places}f}" for value in interval)
    return f"{middle} [{low}, {high}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds brains")
    parser.add_argument("--work", type=Path, required=True, help="where what is done is kept")
    parser.add_argument("--shifts", nargs="*", choices=SHIFTS, default=list(SHIFTS))
    parser.add_argument("--steps", type=int, default=400, help="of the first training")
    parser.add_argument("--seeds", type=int, default=3, help="of the trainings, subjects' order")
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    arguments = parser.parse_args()
    data, work = arguments.data, arguments.work
    networks = [begun(data, work, arguments.steps, seed) for seed in range(arguments.seeds)]
    rows = [row for shift in arguments.shifts for row in rows_of(data, work, networks, shift)]
    report(rows)
    if arguments.json:
        found = {"benchmark": "adapt", "rows": rows, "environment": environment()}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
