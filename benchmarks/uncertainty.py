"""Do samplers know where they are uncertain, and is a mask that asks there worth it?

Volumes are scanned by the simulator (pose, size and shape drawn anew, coils, phase, noise), so a
scan's k-space is complex, multi-coil and not Hermitian. Samplers learn from the training subjects
of ``participants.tsv``, stop by the calibration subjects, and are asked about the test subjects:

* rank correlation (Spearman, over the high frequencies of a slice) of the variance of samples with
  the squared error of their mean;
* PSNR of reconstructions from masks of the same budget, sorted by or drawn in proportion to the
  slice's own uncertainty, that of slices of other subjects, or the mean uncertainty of the training
  slices; beside masks of variable density, of uniform density and, as a bound for zero filling,
  sorted by the true high-frequency energy.

Intervals are paired bootstraps over subjects (95 %).

    python benchmarks/uncertainty.py --data brains tumours --samplers gaussian mixture --json FILE
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

from adaptmr.data.anatomy.signal import Contrast
from adaptmr.data.anatomy.volumes import volume_paths
from adaptmr.data.scan import Scan
from adaptmr.data.simulation import SimulationConfig, simulate_scan
from adaptmr.kernels.fourier import fourier, inverse_fourier
from adaptmr.reconstruction.classical import CGSense, ZeroFilled
from adaptmr.reconstruction.metrics import PROTOCOLS, ProtocolName
from adaptmr.reconstruction.reconstructor import Reconstructor
from adaptmr.sampling.ensemble import EnsembleConfig
from adaptmr.sampling.flow.config import FlowConfig
from adaptmr.sampling.flow.flow import SuperResolutionFlow
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.informed import DrawRule, informed_mask
from adaptmr.sampling.low_frequency import LowFrequency, acquire
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.mixture import GAUSSIAN, MixtureConfig, MixtureSampler
from adaptmr.sampling.pairs import Pairs
from adaptmr.sampling.persistence import Sampler, SamplerConfig, build, load
from adaptmr.sampling.training import SamplerTraining, fit
from adaptmr.sampling.uncertainty import UncertaintyMap, sensitivity_maps, uncertainty
from adaptmr.workflows.environment import environment

CONFIGS: dict[str, SamplerConfig] = {
    "gaussian": GAUSSIAN,
    "mixture": MixtureConfig(),
    "ensemble": EnsembleConfig(channels=8),
    "flow": FlowConfig(),
}
SPLITS = ("train", "calibration", "test")
RECONSTRUCTIONS: dict[str, Reconstructor] = {"zero-filled": ZeroFilled(), "cg-sense": CGSense()}
RULES = {"sorted": DrawRule(sort_fraction=1.0), "drawn": DrawRule()}
PROTOCOL = PROTOCOLS[ProtocolName.SLICE]
HEADS = "heads"
HEAD_CONTRASTS = (Contrast.T1, Contrast.T2, Contrast.FLAIR)
OTHERS = 2
RESAMPLES = 2000
AT_ONCE = 16

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Slices:
    """Slices of one split.

    Attributes:
        kspace: (n, coil, rows, columns) complex.
        low: their low-frequency data.
        subjects: of each slice.
        sources: name of the folder that each slice is from.
    """

    kspace: Tensor
    low: LowFrequency
    subjects: NDArray[np.str_]
    sources: NDArray[np.str_]

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


def volumes(folder: Path) -> dict[str, list[tuple[str, Path]]]:
    """(subject, file) of each split of ``participants.tsv``."""
    lines = (folder / "participants.tsv").read_text(encoding="utf-8").splitlines()
    names = lines[0].split("\t")
    found: dict[str, list[tuple[str, Path]]] = {split: [] for split in SPLITS}
    for line in lines[1:]:
        entry = dict(zip(names, line.split("\t"), strict=True))
        stem = "_".join(entry[key] for key in ("participant_id", "session_id") if key in entry)
        files = volume_paths([folder])
        own = [file for file in files if file.name.startswith(f"{stem}_")]
        found[entry["split"]] += [(f"{folder.name} {entry['participant_id']}", f) for f in own]
    return found


def scans(arguments: argparse.Namespace, split: str) -> Iterator[tuple[str, str, Scan]]:
    """(subject, source, scan) of a split; training volumes are scanned in several poses."""
    size, seed = arguments.size, SPLITS.index(split) * 1000 + arguments.seed
    common: dict[str, Any] = {
        "matrix": (size, size),
        "slices": arguments.slices,
        "coils": arguments.coils,
    }
    poses = arguments.poses if split == "train" else 1
    for folder in arguments.data:
        for pose in range(poses):
            for number, (subject, path) in enumerate(volumes(folder)[split]):
                config = SimulationConfig(seed=seed + pose, anatomy=(path,), **common)
                yield subject, folder.name, simulate_scan(config, number)[0]
    share = {"train": 0.6, "calibration": 0.15, "test": 0.25}[split]
    for number in range(round(arguments.heads * share)):
        for contrast in HEAD_CONTRASTS:
            scan, _ = simulate_scan(SimulationConfig(seed=seed, **common), number, contrast)
            yield f"{HEADS} {number}", HEADS, scan


def slices(arguments: argparse.Namespace, split: str) -> Slices:
    kspace, subjects, sources = [], [], []
    for subject, source, scan in scans(arguments, split):
        images = torch.stack(list(scan.kspace))
        kspace.append(images)
        subjects += [subject] * len(images)
        sources += [source] * len(images)
    stacked = torch.cat(kspace)
    low = acquire(stacked, (arguments.block, arguments.block))
    return Slices(stacked, low, np.array(subjects), np.array(sources))


def trained(
    name: str, training: Slices, validation: Slices, arguments: argparse.Namespace
) -> tuple[Sampler, float | None]:
    """A sampler, trained or read from a folder, and the seconds that its training took."""
    if name not in CONFIGS:
        return load(Path(name)), None
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
    samples = arguments.samples
    maps, means, seconds = [], [], 0.0
    for first in range(0, low.batch, AT_ONCE):
        part = low[first : first + AT_ONCE]
        start = time.perf_counter()
        found = uncertainty(
            sampler,
            part,
            samples,
            torch.Generator().manual_seed(seed + first),
            maps=None if arguments.magnitude else sensitivity_maps(part),
        )
        seconds += time.perf_counter() - start
        maps.append(found)
        # The same generator, hence the samples that the uncertainty was taken from.
        again = torch.Generator().manual_seed(seed + first)
        means.append(sampler.sample(part, samples, again).mean(0))
    return UncertaintyMap.concatenate(maps), torch.cat(means), seconds / low.batch


def correlations(
    found: UncertaintyMap, means: Tensor, held: Slices, arguments: argparse.Namespace
) -> Values:
    """Spearman of predicted variance and squared error of each slice.

    The error is that of the measured k-space, all coils together, or of the transform of the
    magnitude image where the uncertainty is one of that.
    """
    scale = held.low.scale[:, None, None]
    if arguments.magnitude:
        miss = fourier(held.target / scale - means)[:, None]
    else:
        expected = fourier(sensitivity_maps(held.low) * means[:, None])
        miss = held.kspace / scale[:, None] - expected
    error = torch.view_as_real(miss).square().sum((1, -1))
    outside = torch.ones(held.low.matrix, dtype=torch.bool)
    outside[held.low.region] = False
    # A map that is not known is the same everywhere: it orders nothing.
    return np.array(
        [
            spearmanr(variance[outside].numpy(), own[outside].numpy())[0] if known else 0.0
            for variance, own, known in zip(found.values, error, found.known, strict=True)
        ]
    )


def metrics(held: Slices, mask_of: Callable[[int], list[Mask]]) -> dict[str, Values]:
    """Reconstruction -> (slices, 3) PSNR, SSIM and NMSE, means over the masks of each slice."""
    target = held.target
    result: dict[str, list[list[float]]] = {name: [] for name in RECONSTRUCTIONS}
    for index in range(len(held)):
        kspace, truth = held.kspace[index : index + 1], target[index : index + 1]
        for name, reconstruct in RECONSTRUCTIONS.items():
            found = [PROTOCOL(reconstruct(kspace, mask), truth) for mask in mask_of(index)]
            values = [[one.psnr or np.inf, one.ssim, one.nmse] for one in found]
            result[name].append(np.mean(values, axis=0).tolist())
    return {name: np.array(values) for name, values in result.items()}


def fixed_masks(
    held: Slices, arguments: argparse.Namespace
) -> dict[str, Callable[[int], list[Mask]]]:
    """The masks that no sampler has a part in."""
    frame = Frame.of(held.low.matrix, held.low.block, arguments.acceleration)
    truth = torch.view_as_real(held.kspace).square().sum((1, -1))

    def drawn(kind: MaskKind) -> Callable[[int], list[Mask]]:
        spec = MaskSpec(
            kind=kind,
            acceleration=arguments.acceleration,
            center_fraction=arguments.block / arguments.size,
        )
        return lambda index: [make_mask(spec, held.low.matrix, seed=(arguments.seed, index))]

    return {
        "variable density": drawn(MaskKind.VARIABLE_DENSITY_2D),
        "random": drawn(MaskKind.RANDOM_2D),
        "true energy": lambda index: [informed_mask(truth[index], frame, RULES["sorted"])],
    }


def sampler_masks(
    held: Slices,
    own: UncertaintyMap,
    population: UncertaintyMap,
    rule: DrawRule,
    arguments: argparse.Namespace,
) -> dict[str, Callable[[int], list[Mask]]]:
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


def interval(values: Values, subjects: NDArray[np.str_], seed: int) -> tuple[float, float]:
    """95 % of the means over subjects drawn with replacement, with all their slices."""
    generator = np.random.default_rng(seed)
    groups = [values[subjects == subject] for subject in np.unique(subjects)]
    sums = np.array([group.sum() for group in groups])
    counts = np.array([len(group) for group in groups])
    drawn = generator.integers(0, len(groups), (RESAMPLES, len(groups)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def quality_rows(
    name: str,
    rule: str,
    measured: dict[str, dict[str, Values]],
    held: Slices,
    chosen: NDArray[np.bool_],
    where: dict[str, Any],
    seed: int,
) -> Iterator[dict[str, Any]]:
    """One row per reconstruction and mask; gain and interval are PSNR of own minus that mask."""
    for reconstruction in RECONSTRUCTIONS:
        own = measured["own"][reconstruction][chosen]
        for mask, values in measured.items():
            psnr, ssim, nmse = values[reconstruction][chosen].mean(0)
            gain = own[:, 0] - values[reconstruction][chosen][:, 0]
            yield {
                "method": f"{name}, {rule}, {mask}, {reconstruction}",
                "sampler": name,
                "rule": rule,
                "mask": mask,
                "reconstruction": reconstruction,
                "protocol": PROTOCOL.name.value,
                **where,
                "ssim": float(ssim),
                "psnr": float(psnr),
                "nmse": float(nmse),
                "gain": float(gain.mean()),
                "interval": None if mask == "own" else interval(gain, held.subjects[chosen], seed),
            }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| sampler | data | slices | not known | rank correlation | training s | s per slice |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "rank_correlation" in row:
            low, high = row["interval"]
            seconds = row["training_seconds"]
            lines.append(
                f"| {row['sampler']} | {row['data']} | {row['n']} | {row['not_known']}"
                f" | {row['rank_correlation']:.3f}"
                f" [{low:.3f}, {high:.3f}] | {'-' if seconds is None else f'{seconds:.0f}'}"
                f" | {row['sampling_seconds']:.3f} |"
            )
    lines += [
        "",
        "| sampler | data | reconstruction | rule | mask | PSNR | SSIM | NMSE | own minus this |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "psnr" in row:
            gain = (
                ""
                if row["interval"] is None
                else "{:+.2f} [{:+.2f}, {:+.2f}]".format(row["gain"], *row["interval"])
            )
            lines.append(
                f"| {row['sampler']} | {row['data']} | {row['reconstruction']} | {row['rule']}"
                f" | {row['mask']}"
                f" | {row['psnr']:.2f} | {row['ssim']:.4f} | {row['nmse']:.4f} | {gain} |"
            )
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    start = time.perf_counter()
    training, validation, held = (slices(arguments, split) for split in SPLITS)
    print(
        f"{len(training)} training, {len(validation)} validation, {len(held)} test slices"
        f" in {time.perf_counter() - start:.0f} s"
    )
    sources = [str(source) for source in np.unique(held.sources)]
    subsets = {"all": np.ones(len(held), dtype=np.bool_)} if len(sources) > 1 else {}
    subsets |= {source: held.sources == source for source in sources}
    fixed = {mask: metrics(held, of) for mask, of in fixed_masks(held, arguments).items()}
    rows: list[dict[str, Any]] = []
    for name in arguments.samplers:
        sampler, seconds = trained(name, training, validation, arguments)
        own, means, each = asked(sampler, held.low, arguments, arguments.seed)
        population, _, _ = asked(sampler, training.low, arguments, arguments.seed + 10**6)
        measured: dict[str, dict[str, dict[str, Values]]] = {}
        for law, rule in RULES.items():
            masks = sampler_masks(held, own, population, rule, arguments)
            measured[law] = {mask: metrics(held, of) for mask, of in masks.items()} | fixed
        ranks = correlations(own, means, held, arguments)
        for source, chosen in subsets.items():
            where = {
                "data": source,
                "n": int(chosen.sum()),
                "subjects": len(np.unique(held.subjects[chosen])),
                "acceleration": arguments.acceleration,
            }
            rows.append(
                {
                    "method": name,
                    "sampler": name,
                    "protocol": "spearman-high-frequencies",
                    **where,
                    "rank_correlation": float(ranks[chosen].mean()),
                    "interval": interval(ranks[chosen], held.subjects[chosen], arguments.seed),
                    "samples": arguments.samples,
                    "not_known": int((~own.known[torch.from_numpy(chosen)]).sum()),
                    "training_seconds": seconds,
                    "sampling_seconds": each,
                }
            )
            for law, values in measured.items():
                rows += quality_rows(name, law, values, held, chosen, where, arguments.seed)
        print(f"{name}: after {time.perf_counter() - start:.0f} s")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data", nargs="*", type=Path, default=[], help="folders of NIfTI with participants.tsv"
    )
    parser.add_argument("--heads", type=int, default=0, help="parametric heads, three contrasts")
    parser.add_argument("--size", type=int, default=64, help="rows and columns")
    parser.add_argument("--block", type=int, default=8, help="of the low-frequency block")
    parser.add_argument("--slices", type=int, default=8, help="of each scan")
    parser.add_argument("--coils", type=int, default=4)
    parser.add_argument("--poses", type=int, default=2, help="scans of each training volume")
    parser.add_argument(
        "--samplers", nargs="+", default=list(CONFIGS), help=f"{', '.join(CONFIGS)} or folders"
    )
    parser.add_argument("--acceleration", type=float, default=8.0)
    parser.add_argument("--samples", type=int, default=32, help="per slice")
    parser.add_argument(
        "--magnitude",
        action="store_true",
        help="uncertainty of the magnitude image, as published, instead of the coils' k-space",
    )
    parser.add_argument("--epochs", type=int, default=20, help="of ensemble and flow")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = run(arguments)
    print(table(rows))
    if arguments.json:
        settings = {
            name: str(value if name != "data" else [folder.name for folder in value])
            for name, value in vars(arguments).items()
            if name != "json"
        }
        document = {
            "benchmark": "uncertainty",
            "rows": rows,
            "environment": environment() | settings,
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
