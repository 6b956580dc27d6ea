"""Masks learned jointly with a network beside variable density: does either pay?

Multi-coil scans are simulated from the T1-weighted volumes of a folder with ``participants.tsv``,
one per subject. The same small VarNet is trained for equally many steps with each kind of 4x line
mask, and measured on subjects that no training saw:

* ``vd-1d``: drawn anew for each batch and each test volume; ``vd-1d fixed``: one draw for all;
* ``centre``: the low frequencies alone, of the same budget;
* ``loupe``: one learned mask (H1); ``policy``: a mask for each slice (H2);
* ``policy, others' masks``: the policy's network under the masks of other subjects' slices; it
  falls behind only in so far as adapting to the slice pays.

Intervals are of the SSIM difference to ``vd-1d``: paired bootstrap over test subjects, 95 %. One
training per row: differences of trainings that differ by their seed alone are not in the interval.

    python benchmarks/learned_masks.py --data ../shared/data/brains --out pictures --json masks.json
"""

import argparse
import csv
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from adaptmr.data.fastmri import read_scan
from adaptmr.data.positions import centred_block
from adaptmr.data.scan import Scan
from adaptmr.data.simulation import SimulationConfig, simulate
from adaptmr.reconstruction.learned import joint
from adaptmr.reconstruction.learned.diagnostics import adaptivity, collapsed, variation
from adaptmr.reconstruction.learned.joint import LearnedReconstruction
from adaptmr.reconstruction.learned.loupe import LoupeConfig
from adaptmr.reconstruction.learned.policy import PolicyConfig
from adaptmr.reconstruction.learned.training import LearnConfig, train_jointly
from adaptmr.reconstruction.metrics import PROTOCOLS, Metrics, ProtocolName
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.varnet import VarNetConfig
from adaptmr.reconstruction.statistics import paired_bootstrap
from adaptmr.reconstruction.training.cohort import open_cohort
from adaptmr.reconstruction.training.config import TrainConfig
from adaptmr.reconstruction.training.data import Material
from adaptmr.reconstruction.training.run import run_folder, train, train_network
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.sources import FixedMask
from adaptmr.workflows.environment import environment

PROTOCOL = ProtocolName.FASTMRI_VOLUME
LINES = MaskSpec(kind=MaskKind.VARIABLE_DENSITY_1D, acceleration=4, center_fraction=0.08)
NETWORK = VarNetConfig(cascades=3, channels=8, pools=2, map_channels=4, map_pools=2)
POLICY = PolicyConfig(channels=8, pools=3)
REFERENCE = "vd-1d"
SLICES, COILS, BATCH = 6, 4, 4
MasksOf = Callable[[Scan], Sequence[Mask]]


def simulated(volumes: Path, size: int, out: Path) -> tuple[Path, Path]:
    """Folders of training and of test scans; calibration subjects count as training."""
    with (volumes / "participants.tsv").open() as table:
        sessions = list(csv.DictReader(table, delimiter="\t"))
    first = {row["participant_id"]: row for row in reversed(sessions)}
    folders = out / "train", out / "test"
    for folder, test in zip(folders, (False, True), strict=True):
        anatomy = tuple(
            volumes / f"{row['participant_id']}_{row['session_id']}_T1w.nii.gz"
            for row in first.values()
            if (row["split"] == "test") is test
        )
        config = SimulationConfig(
            subjects=len(anatomy),
            seed=int(test),
            matrix=(size, size),
            slices=SLICES,
            coils=COILS,
            anatomy=anatomy,
        )
        for file in simulate(config, folder):
            print(f"simulated {file.name}", file=sys.stderr)
    return folders


def settings(data: Path, steps: int, seed: int) -> dict[str, Any]:
    """What all trainings have in common."""
    subjects = len(list(data.glob("*.h5")))
    validation = 0.2
    trained_on = subjects - max(1, round(validation * subjects))
    batches = math.ceil(trained_on * SLICES / BATCH)
    epochs = max(1, round(steps / batches))
    return {
        "data": data,
        "architecture": NETWORK,
        "masks": (LINES,),
        "epochs": epochs,
        "batch_size": BATCH,
        "learning_rate": 3e-3,
        "learning_rate_step": max(1, round(0.8 * epochs)),
        "validation_fraction": validation,
        "seed": seed,
        "accelerator": "cpu",
    }


def train_fixed(config: TrainConfig, mask: Mask, out: Path) -> Path:
    """Train a network with one mask for all batches."""
    cohort = open_cohort(config.data, config.validation_fraction, config.seed)
    material = Material(cohort, (FixedMask(mask),))
    return train_network(config.architecture, config, material, out, run_folder(out), resume=False)


def centre(matrix: tuple[int, int]) -> Mask:
    """The central lines, as many as the other masks have."""
    like = make_mask(LINES, matrix, seed=0)
    positions = np.zeros_like(like.positions)
    positions[centred_block(matrix[1], like.budget)] = True
    return Mask(positions, like.low_frequency, like.encoded, LINES.acceleration)


@torch.no_grad()
def measured(network: nn.Module, masks_of: MasksOf, scans: Sequence[Scan]) -> list[Metrics]:
    """Metrics of each scan, every slice under its own mask."""
    protocol, found = PROTOCOLS[PROTOCOL], []
    for scan in scans:
        kspace, masks = scan.kspace[:], masks_of(scan)
        images = [network(one[None], mask)[0] for one, mask in zip(kspace, masks, strict=True)]
        assert scan.target is not None  # noqa: S101 - the simulator writes one
        found.append(protocol(torch.stack(images), scan.target[:]))
    return found


def row(method: str, metrics: Sequence[Metrics], reference: Sequence[Metrics]) -> dict[str, Any]:
    """A quality row of the benchmark contract."""
    difference = np.array([a.ssim - b.ssim for a, b in zip(metrics, reference, strict=True)])
    interval = None
    if difference.any():
        interval = list(paired_bootstrap(difference, np.arange(len(difference)), seed=0)[1:])
    return {
        "method": method,
        "protocol": PROTOCOL.value,
        "n": len(metrics),
        "ssim": float(np.mean([one.ssim for one in metrics])),
        "psnr": float(np.mean([one.psnr for one in metrics])),
        "nmse": float(np.mean([one.nmse for one in metrics])),
        "acceleration": LINES.acceleration,
        "difference": float(difference.mean()),
        "interval": interval,
    }


def policy_masks(learned: LearnedReconstruction, scans: Sequence[Scan]) -> dict[str, list[Mask]]:
    return {scan.name: list(learned.masks(scan.kspace[:])) for scan in scans}


def picture(
    file: Path, loupe: LearnedReconstruction, policy: LearnedReconstruction, scans: Sequence[Scan]
) -> None:
    """Lines of all masks, and learned probabilities; no image of a subject, so it can be kept."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    matrix = scans[0].matrix
    drawn = np.stack([make_mask(LINES, matrix, seed=scan.name).positions for scan in scans])
    chosen = np.stack(
        [mask.positions for masks in policy_masks(policy, scans).values() for mask in masks]
    )
    with torch.no_grad():
        lows = [policy.acquire(scan.kspace[:]) for scan in scans]
        probable = torch.cat([policy.learner(low) for low in lows]).numpy()
        shared = loupe.learner(lows[0]).numpy()
    figure, axes = plt.subplots(3, 2, figsize=(11, 6), layout="constrained")
    learned_mask = loupe.learner.masks(lows[0])[0].positions
    for axis, title, lines in (
        (axes[0, 0], "variable density, one draw per test volume", drawn),
        (axes[0, 1], "centre", centre(matrix).positions[None]),
        (axes[1, 0], "LOUPE: mask", learned_mask[None]),
        (axes[1, 1], "LOUPE: probabilities", shared),
        (axes[2, 0], "policy: masks, one row per test slice", chosen),
        (axes[2, 1], "policy: probabilities", probable),
    ):
        axis.imshow(lines, aspect="auto", interpolation="nearest", cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=9)
        axis.set_yticks([])
        axis.set_xlabel("phase-encode line", fontsize=8)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def compare(
    data: Path, size: int, steps: int, seed: int, work: Path, out: Path | None
) -> list[dict[str, Any]]:
    training, testing = simulated(data, size, work)
    scans = [read_scan(file) for file in sorted(testing.glob("*.h5"))]
    common = settings(training, steps, seed)
    plain = TrainConfig(**common)
    one_draw = make_mask(LINES, (size, size), seed=seed)
    central = centre((size, size))
    began = time.monotonic()

    def trained(name: str, run: Callable[[Path], Path]) -> Path:
        print(f"training {name}, {time.monotonic() - began:.0f} s so far", file=sys.stderr)
        return run(work / name)

    drawn = checkpoint.load(trained("drawn", lambda to: train(plain, to)))
    reference = measured(
        drawn,
        lambda scan: [make_mask(LINES, scan.matrix, seed=scan.name)] * scan.slices,
        scans,
    )
    rows = [row(REFERENCE, reference, reference)]
    for name, mask in (("vd-1d fixed", one_draw), ("centre", central)):
        network = checkpoint.load(trained(name, lambda to, m=mask: train_fixed(plain, m, to)))
        metrics = measured(network, lambda scan, m=mask: [m] * scan.slices, scans)
        rows.append(row(name, metrics, reference))
    learned = {}
    for learner in (LoupeConfig(), POLICY):
        config = LearnConfig(**common, learner=learner)
        folder = trained(learner.kind, lambda to, c=config: train_jointly(c, to))
        learned[learner.kind] = joint.load(folder)
    loupe, policy = learned["loupe"], learned["policy"]
    single = loupe.masks(scans[0].kspace[:1])[0]
    metrics = measured(loupe.network, lambda scan: [single] * scan.slices, scans)
    rows.append(row("loupe", metrics, reference) | {"lines": single.lines()})

    by_scan = policy_masks(policy, scans)
    every = [mask for masks in by_scan.values() for mask in masks]
    metrics = measured(policy.network, lambda scan: by_scan[scan.name], scans)
    with torch.no_grad():
        maps = torch.cat([policy.learner(policy.acquire(scan.kspace[:])) for scan in scans])
    rows.append(
        row("policy", metrics, reference)
        | {
            "adaptivity": adaptivity(every),
            "variation": variation(maps, policy.learner.frame),
            "collapsed": collapsed(every),
            "distinct_masks": len(set(every)),
        }
    )
    names = [scan.name for scan in scans]
    # The slices of the next subject, in reverse, so that positions in the head differ too.
    others = {
        name: by_scan[names[(index + 1) % len(names)]][::-1] for index, name in enumerate(names)
    }
    swapped = measured(policy.network, lambda scan: others[scan.name], scans)
    rows.append(row("policy, others' masks", swapped, reference))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        picture(out / "learned_masks.png", loupe, policy, scans)
    return rows


def report(rows: Sequence[dict[str, Any]]) -> None:
    print(f"{'method':22} {'SSIM':>7} {'PSNR':>6} {'NMSE':>8}  SSIM - {REFERENCE}, 95 % interval")
    for one in rows:
        interval = one["interval"]
        gain = "" if interval is None else f"{one['difference']:+.4f} [{interval[0]:+.4f}, "
        gain += "" if interval is None else f"{interval[1]:+.4f}]"
        print(
            f"{one['method']:22} {one['ssim']:7.4f} {one['psnr']:6.2f} {one['nmse']:8.5f}  {gain}"
        )
    policy = next(one for one in rows if "adaptivity" in one)
    verdict = "has collapsed: it is not adaptive" if policy["collapsed"] else "is adaptive"
    print(
        f"\nThe policy {verdict}: {policy['adaptivity']:.1%} of the lines that it chooses differ "
        f"between two slices, {policy['distinct_masks']} distinct masks, probabilities vary by "
        f"{policy['variation']:.3f}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of brain volumes")
    parser.add_argument("--size", type=int, default=64, help="rows and columns")
    parser.add_argument("--steps", type=int, default=460, help="optimiser steps of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    parser.add_argument("--out", type=Path, help="folder for pictures of the masks")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        rows = compare(
            arguments.data,
            arguments.size,
            arguments.steps,
            arguments.seed,
            Path(work),
            arguments.out,
        )
    report(rows)
    if arguments.json:
        found = {"benchmark": "learned_masks", "rows": rows, "environment": environment()}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
