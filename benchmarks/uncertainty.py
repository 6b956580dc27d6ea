"""Do samplers know where they are uncertain, and is a mask that asks there worth it?

The scans are those of ``cohorts.py``: complex, multi-coil and not Hermitian. Samplers learn from
the training subjects, stop by the calibration subjects, and are asked about the test subjects:

* rank correlation (Spearman, over the high frequencies of a slice) of the variance of samples with
  the squared error of their mean;
* PSNR of reconstructions from masks of the same budget, made by several rules from the slice's own
  uncertainty, that of slices of other subjects, or the mean uncertainty of the training slices;
  beside masks of variable density, Poisson discs, uniform density and, as a bound for zero
  filling, sorted by the true high-frequency energy;
* the same for one emulated coil, as in the published single-coil experiments: the coil images are
  combined with maps of the low-frequency block.

Intervals are paired bootstraps over subjects (95 %), of own minus each mask and of each mask minus
the next.

    python benchmarks/cohorts.py --data DATA --poses 4 --splits train calibration --out COHORT
    python benchmarks/cohorts.py --data DATA --seed 7 --splits test --out COHORT
    python benchmarks/uncertainty.py --cohort COHORT --json docs/benchmarks/uncertainty.json
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from adaptmr.data.fastmri import read_scan
from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.reconstruction.classical import CGSense, ZeroFilled
from adaptmr.reconstruction.metrics import PROTOCOLS, ProtocolName
from adaptmr.reconstruction.reconstructor import Reconstructor
from adaptmr.reconstruction.statistics import paired_bootstrap
from adaptmr.sampling.ensemble import EnsembleConfig
from adaptmr.sampling.flow.config import FlowConfig
from adaptmr.sampling.flow.flow import SuperResolutionFlow
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.informed import DrawRule, Law, informed_mask
from adaptmr.sampling.low_frequency import LowFrequency, acquire
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.mixture import GAUSSIAN, MixtureConfig, MixtureSampler
from adaptmr.sampling.pairs import Pairs
from adaptmr.sampling.persistence import Sampler, SamplerConfig, build
from adaptmr.sampling.training import SamplerTraining, fit
from adaptmr.sampling.uncertainty import UncertaintyMap, sensitivity_maps, uncertainty
from adaptmr.workflows.environment import environment
from adaptmr.workflows.progress import track

CONFIGS: dict[str, SamplerConfig] = {
    "gaussian": GAUSSIAN,
    "mixture": MixtureConfig(),
    "mixture of 24": MixtureConfig(components=24),
    "ensemble": EnsembleConfig(channels=8),
    "flow": FlowConfig(),
}
RULES = {"sorted": DrawRule(sort_fraction=1.0), "spaced": DrawRule(law=Law.SPACED, power=0.7)}
PROTOCOL = PROTOCOLS[ProtocolName.SLICE]
OTHERS = 2
AT_ONCE = 16
FIXED = {
    "variable density": MaskKind.VARIABLE_DENSITY_2D,
    "random": MaskKind.RANDOM_2D,
    "Poisson disc": MaskKind.POISSON,
}
# The order that is expected, each mask against the next.
CHAIN = ("own", "another slice's", "variable density", "random")


@dataclass(frozen=True)
class Case:
    """What masks are made for, and how they are judged."""

    name: str
    reconstruct: Reconstructor
    rule: str
    single_coil: bool = False


CASES = (
    Case("zero-filled", ZeroFilled(), "sorted"),
    Case("cg-sense", CGSense(), "sorted"),
    Case("cg-sense", CGSense(), "spaced"),
    Case("zero-filled, one coil", ZeroFilled(), "sorted", single_coil=True),
    Case("cg-sense, one coil", CGSense(), "sorted", single_coil=True),
)

Values = NDArray[np.float64]
MaskOf = Callable[[int], list[Mask]]


@dataclass(frozen=True)
class Slices:
    """Slices of one split.

    Attributes:
        kspace: (n, coil, rows, columns) complex.
        low: their low-frequency data.
        subjects: of each slice.
    """

    kspace: Tensor
    low: LowFrequency
    subjects: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def target(self) -> Tensor:
        """(n, rows, columns) root sum of squares of the full k-space."""
        image: Tensor = torch.linalg.vector_norm(inverse_fourier(self.kspace), dim=1)
        return image

    @property
    def pairs(self) -> Pairs:
        """Low-frequency and full images, normalised."""
        return Pairs(self.low.image, self.target / self.low.scale[:, None, None], self.low.block)

    @property
    def single_coil(self) -> Tensor:
        """(n, 1, rows, columns) k-space of the coil images combined with maps of the block."""
        images = inverse_fourier(self.kspace)
        return fourier((sensitivity_maps(self.low).conj() * images).sum(1, keepdim=True))


def slices(arguments: argparse.Namespace, split: str) -> Slices:
    scans = [read_scan(file) for file in sorted((arguments.cohort / split).glob("*.h5"))]
    kspace = torch.cat([torch.stack(list(scan.kspace)) for scan in scans])
    block = round(arguments.center_fraction * kspace.shape[-1])
    subjects = [str(scan.header.subject) for scan in scans for _ in range(scan.slices)]
    return Slices(kspace, acquire(kspace, (block, block)), np.array(subjects))


def trained(
    name: str, training: Slices, validation: Slices, arguments: argparse.Namespace
) -> tuple[Sampler, float]:
    """A sampler, and the seconds that its training took."""
    generator = torch.Generator().manual_seed(arguments.seed)
    pairs = training.pairs
    start = time.perf_counter()
    sampler = build(CONFIGS[name], pairs.matrix, pairs.block, arguments.seed)
    if isinstance(sampler, MixtureSampler):
        sampler.prepare(pairs, generator)
    else:
        config = SamplerTraining(
            epochs=arguments.epochs, seed=arguments.seed, accelerator="cpu", shift=2
        )
        with tempfile.TemporaryDirectory() as run:
            fit(sampler, pairs, validation.pairs, config, Path(run) / "run")
        sampler.eval()
    if isinstance(sampler, SuperResolutionFlow):
        sampler.calibrate(validation.pairs, generator)
    return sampler, time.perf_counter() - start


def asked(
    sampler: Sampler, low: LowFrequency, arguments: argparse.Namespace, seed: int
) -> tuple[UncertaintyMap, Tensor, float]:
    """Uncertainty, mean of samples, and the seconds per slice for the former."""
    maps, means, seconds = [], [], 0.0
    for first in range(0, low.batch, AT_ONCE):
        part = low[first : first + AT_ONCE]
        stream = torch.Generator().manual_seed(seed + first)
        start = time.perf_counter()
        maps.append(
            uncertainty(sampler, part, arguments.samples, stream, smoothing=arguments.smoothing)
        )
        seconds += time.perf_counter() - start
        # The same stream, hence the samples that the uncertainty was taken from.
        again = torch.Generator().manual_seed(seed + first)
        means.append(sampler.sample(part, arguments.samples, again).mean(0))
    return UncertaintyMap.concatenate(maps), torch.cat(means), seconds / low.batch


def correlations(found: UncertaintyMap, means: Tensor, held: Slices) -> Values:
    """Spearman of predicted variance and squared error of the transform of each slice's image."""
    miss = fourier(held.target / held.low.scale[:, None, None] - means)
    error = torch.view_as_real(miss).square().sum(-1)
    outside = torch.ones(held.low.matrix, dtype=torch.bool)
    outside[held.low.region] = False
    # A map that is not known is the same everywhere: it orders nothing.
    return np.array(
        [
            spearmanr(variance[outside].numpy(), own[outside].numpy())[0] if known else 0.0
            for variance, own, known in zip(found.values, error, found.known, strict=True)
        ]
    )


def metrics(held: Slices, case: Case, mask_of: MaskOf) -> Values:
    """(slices, 3) PSNR, SSIM and NMSE, means over the masks of each slice."""
    kspace = held.single_coil if case.single_coil else held.kspace
    target = torch.linalg.vector_norm(inverse_fourier(kspace), dim=1)
    result = []
    for index in range(len(held)):
        one = slice(index, index + 1)
        found = [
            PROTOCOL(case.reconstruct(kspace[one], mask), target[one]) for mask in mask_of(index)
        ]
        values = [[each.psnr or np.inf, each.ssim, each.nmse] for each in found]
        result.append(np.mean(values, axis=0))
    return np.array(result)


def fixed_masks(held: Slices, arguments: argparse.Namespace) -> dict[str, MaskOf]:
    """The masks that no sampler has a part in."""
    frame = Frame.of(held.low.matrix, held.low.block, arguments.acceleration)
    truth = torch.view_as_real(held.kspace).square().sum((1, -1))

    def drawn(kind: MaskKind) -> MaskOf:
        spec = MaskSpec(
            kind=kind,
            acceleration=arguments.acceleration,
            center_fraction=arguments.center_fraction,
        )
        return lambda index: [make_mask(spec, held.low.matrix, seed=(arguments.seed, index))]

    return {
        **{name: drawn(kind) for name, kind in FIXED.items()},
        "true energy": lambda index: [informed_mask(truth[index], frame, RULES["sorted"])],
    }


def sampler_masks(
    held: Slices,
    own: UncertaintyMap,
    population: UncertaintyMap,
    rule: DrawRule,
    arguments: argparse.Namespace,
) -> dict[str, MaskOf]:
    frame = Frame.of(held.low.matrix, held.low.block, arguments.acceleration)
    generator = np.random.default_rng(arguments.seed)
    masks = [informed_mask(values, frame, rule) for values in own.values]
    mean = informed_mask(population.values.mean(0), frame, rule)
    # The same others for every sampler.
    others = [
        generator.choice(np.flatnonzero(held.subjects != subject), OTHERS)
        for subject in held.subjects
    ]
    return {
        "own": lambda index: [masks[index]],
        "another slice's": lambda index: [masks[other] for other in others[index]],
        "training mean": lambda _: [mean],
    }


def quality_rows(
    name: str, case: Case, measured: dict[str, Values], held: Slices, seed: int
) -> Iterator[dict[str, Any]]:
    """One row per mask; gain and interval are PSNR of own minus that mask, in dB."""
    own, before = measured["own"], measured["own"]
    for mask, values in measured.items():
        gain = paired_bootstrap((own - values)[:, 0], held.subjects, seed=seed)
        step = paired_bootstrap((before - values)[:, 0], held.subjects, seed=seed)
        psnr, ssim, nmse = values.mean(0)
        yield {
            "method": f"{name}, {case.rule}, {mask}, {case.name}",
            "sampler": name,
            "rule": case.rule,
            "mask": mask,
            "reconstruction": case.name,
            "protocol": PROTOCOL.name.value,
            "n": len(values),
            "subjects": len(np.unique(held.subjects)),
            "ssim": float(ssim),
            "psnr": float(psnr),
            "nmse": float(nmse),
            "gain": gain.mean,
            "interval": [gain.low, gain.high],
            "previous_minus_this": step.mean,
            "previous_interval": [step.low, step.high],
        }
        before = values


def _signed(mean: float, interval: list[float]) -> str:
    return f"{mean:+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}]"


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| sampler | slices | not known | rank correlation | training, s | s per slice |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "rank_correlation" in row:
            low, high = row["interval"]
            lines.append(
                f"| {row['sampler']} | {row['n']} | {row['not_known']}"
                f" | {row['rank_correlation']:.3f} [{low:.3f}, {high:.3f}]"
                f" | {row['training_seconds']:.0f} | {row['sampling_seconds']:.3f} |"
            )
    lines += [
        "",
        "| sampler | reconstruction | rule | mask | PSNR | SSIM | own minus this"
        " | row above minus this |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "psnr" in row:
            own = row["mask"] == "own"
            gain = "" if own else _signed(row["gain"], row["interval"])
            step = "" if own else _signed(row["previous_minus_this"], row["previous_interval"])
            lines.append(
                f"| {row['sampler']} | {row['reconstruction']} | {row['rule']} | {row['mask']}"
                f" | {row['psnr']:.2f} | {row['ssim']:.4f} | {gain} | {step} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", type=Path, required=True, help="folder of cohorts.py")
    parser.add_argument("--samplers", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--held-out", default="test", help="split that is reported")
    parser.add_argument("--acceleration", type=float, default=8.0)
    parser.add_argument("--center-fraction", type=float, default=0.125)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--smoothing", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    training, validation = slices(arguments, "train"), slices(arguments, "calibration")
    held = slices(arguments, arguments.held_out)
    fixed = fixed_masks(held, arguments)
    print(f"{len(training)} training slices, {len(held)} held out", flush=True)
    of_fixed: dict[tuple[str, bool], dict[str, Values]] = {}
    for case in CASES:
        # What the rule is does not matter to them.
        key = (case.name, case.single_coil)
        if key not in of_fixed:
            masks = track(fixed.items(), f"fixed masks, {case.name}", len(fixed))
            of_fixed[key] = {mask: metrics(held, case, make) for mask, make in masks}
    rows: list[dict[str, Any]] = []
    for name in arguments.samplers:
        sampler, seconds = trained(name, training, validation, arguments)
        found, means, per_slice = asked(sampler, held.low, arguments, arguments.seed + 1)
        population, _, _ = asked(sampler, training.low, arguments, arguments.seed + 2)
        ranks = paired_bootstrap(
            correlations(found, means, held), held.subjects, seed=arguments.seed
        )
        rows.append(
            {
                "case": name,
                "sampler": name,
                "n": len(held),
                "not_known": int((~found.known).sum()),
                "rank_correlation": ranks.mean,
                "interval": [ranks.low, ranks.high],
                "training_seconds": seconds,
                "sampling_seconds": per_slice,
                "samples": arguments.samples,
            }
        )
        for case in track(CASES, f"masks of {name}"):
            masks = sampler_masks(held, found, population, RULES[case.rule], arguments)
            measured = {mask: metrics(held, case, make) for mask, make in masks.items()}
            every = {**measured, **of_fixed[case.name, case.single_coil]}
            chained = {mask: every.pop(mask) for mask in CHAIN}
            rows += quality_rows(name, case, chained | every, held, arguments.seed)
        print(table(rows), flush=True)
        if arguments.json:
            left_out = {"json", "cohort"}
            settings = {k: str(value) for k, value in vars(arguments).items() if k not in left_out}
            settings["cohort"] = arguments.cohort.name
            result = {
                "benchmark": "uncertainty",
                "rows": rows,
                "settings": settings | {"training_slices": len(training)},
                "environment": environment(),
            }
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
