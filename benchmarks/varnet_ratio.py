"""Our VarNet beside fastMRI's: the same weights and inputs, in one process, in turns.

Each row is a part of the network or all of it. Times are processor seconds of this process on a
CPU, and events on a GPU. A ratio is the median over the turns of the baseline's time over ours;
there is none where either result is further from that in double precision than its gate allows.

    OMP_NUM_THREADS=1 python benchmarks/varnet_ratio.py --size 16x320x320 --json FILE
"""

import argparse
import copy
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import fastmri
import numpy as np
import torch
from fastmri.models.varnet import VarNet as FastmriVarNet
from fastmri.models.varnet import VarNetBlock
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from varnet_ratio_rows import GATE, bank_rows, line, peak_bytes, peak_row, relative

from adaptmr.data.positions import centred_block
from adaptmr.efficiency.accelerate import accelerate
from adaptmr.efficiency.unet import FastNormalisedUNet
from adaptmr.efficiency.varnet import plan, refined, to_coil_images_
from adaptmr.kernels.centering import Folded, fold_maps
from adaptmr.kernels.instance_norm_act import instance_norm_act_into
from adaptmr.reconstruction.networks.fastmri_weights import from_fastmri
from adaptmr.reconstruction.networks.varnet import VarNet
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.unet import UNet
from adaptmr.workflows.environment import environment

Run = Callable[[], Tensor]
HALF_GATE = 0.2
"""The same in half precision on random weights, which amplify; trained ones are judged apart."""
CASCADES, CHANNELS, MAP_CHANNELS, POOLS = 12, 18, 8, 4


@dataclass(frozen=True)
class Case:
    """A part of the network, as fastMRI and as we compute it.

    Attributes:
        exact: what is right, found in double precision.
        gate: largest error of either at which a ratio means anything.
        first: what ours gives, where `ours` overwrites what it works on.
    """

    name: str
    baseline: str
    theirs: Run
    ours: Run
    exact: Tensor
    gate: float = GATE
    first: Tensor | None = None


@dataclass(frozen=True)
class Problem:
    """K-space of a size, and both networks on a device."""

    size: tuple[int, int, int]
    batch: int
    device: torch.device
    theirs: FastmriVarNet
    ours: VarNet
    kspace: Tensor
    mask: Mask

    @property
    def pairs(self) -> Tensor:
        """K-space as fastMRI wants it."""
        return torch.view_as_real(self.kspace).contiguous()

    @property
    def columns(self) -> Tensor:
        """The mask as fastMRI wants it."""
        mask = self.mask.tensor(self.device)
        return mask.view(1, 1, 1, -1, 1).expand(self.batch, 1, 1, -1, 1)


def made_problem(size: tuple[int, int, int], batch: int, device: torch.device) -> Problem:
    torch.manual_seed(0)
    theirs = FastmriVarNet(CASCADES, MAP_CHANNELS, POOLS, CHANNELS, POOLS).eval()
    for cascade in theirs.cascades:
        nn.init.uniform_(cascade.dc_weight, 0.5, 1.0)
    ours = from_fastmri(theirs.state_dict())
    if not isinstance(ours, VarNet):
        raise SystemExit("these are not the weights of a VarNet")
    coils, rows, columns = size
    positions = np.zeros(columns, np.bool_)
    positions[::4] = True
    low = round(0.08 * columns)
    positions[centred_block(columns, low)] = True
    mask = Mask(positions, (low,))
    kspace = mask.apply(torch.randn(batch, coils, rows, columns, dtype=torch.complex64))
    return Problem(
        size, batch, device, theirs.to(device), ours.eval().to(device), kspace.to(device), mask
    )


class Scaled(nn.Module):
    """Stands for a regulariser where only data consistency is timed."""

    def forward(self, image: Tensor) -> Tensor:
        """Something that keeps the images from growing."""
        return 0.1 * image


def data_consistency(problem: Problem) -> Case:
    """All cascades without their U-Nets, and the root sum of squares; maps are given."""
    maps = torch.randn_like(problem.kspace)
    maps = maps / torch.linalg.vector_norm(maps, dim=1, keepdim=True)
    blocks = nn.ModuleList(VarNetBlock(Scaled()) for _ in range(CASCADES)).to(problem.device)
    for block, cascade in zip(blocks, problem.theirs.cascades, strict=True):
        block.dc_weight = cascade.dc_weight
    pairs, columns, map_pairs = problem.pairs, problem.columns, torch.view_as_real(maps)
    mask, ones = problem.mask.tensor(problem.device), torch.ones_like(maps[:, 0].real)

    def theirs() -> Tensor:
        kspace = pairs.clone()
        for block in blocks:
            kspace = block(kspace, pairs, columns, map_pairs)
        return fastmri.rss(fastmri.complex_abs(fastmri.ifft2c(kspace)), dim=1)

    def ours(dtype: torch.dtype = torch.complex64) -> Tensor:
        data = to_coil_images_(problem.kspace.to(dtype, copy=True), mask)
        folded = Folded(fold_maps(maps.to(dtype), mask), data, mask)
        steps = problem.ours.step_sizes.detach().to(dtype.to_real())
        return refined([Scaled()] * CASCADES, steps, folded, ones.to(dtype.to_real()))

    return Case("data consistency", "fastmri", theirs, ours, ours(torch.complex128))


def norm_and_activation(problem: Problem) -> Case:
    """Those of one cascade's way down, each at its size; ours in place, channels last."""
    _, rows, columns = problem.size
    norms = [nn.InstanceNorm2d(CHANNELS * 2**level) for level in range(POOLS + 1)]
    images = [
        torch.randn(
            problem.batch, norm.num_features, rows >> level, columns >> level, device=problem.device
        )
        for level, norm in enumerate(norms)
    ]
    last = [image.contiguous(memory_format=torch.channels_last) for image in images]
    first = torch.empty_like(last[0])
    instance_norm_act_into(last[0], first)

    def theirs() -> Tensor:
        done = [
            functional.leaky_relu_(norm(image), 0.2)
            for norm, image in zip(norms, images, strict=True)
        ]
        return done[0]

    def ours() -> Tensor:
        for image in last:
            instance_norm_act_into(image, image)
        return last[0]

    exact = functional.leaky_relu(functional.instance_norm(images[0].double()), 0.2)
    return Case("norm + activation", "fastmri", theirs, ours, exact, first=first)


def unet(problem: Problem) -> Case:
    """One cascade's U-Net with its normalisation."""
    theirs = problem.theirs.cascades[0].model
    network = problem.ours.regularisers[0]
    fast = FastNormalisedUNet(network, torch.float32)
    image = torch.randn_like(problem.kspace[:, 0])
    pairs = torch.view_as_real(image)[:, None].contiguous()
    exact = FastNormalisedUNet(copy.deepcopy(network).double(), torch.float64)(
        image.to(torch.complex128)
    )
    return Case(
        "u-net",
        "fastmri",
        lambda: torch.view_as_complex(theirs(pairs))[:, 0],
        lambda: fast(image),
        exact,
    )


def whole(problem: Problem, halves: list[torch.dtype]) -> list[Case]:
    """The network from k-space to image; ours eager, accelerated, and in half precision."""
    pairs, columns, kspace, mask = problem.pairs, problem.columns, problem.kspace, problem.mask
    low = mask.low_frequency[0]

    def theirs() -> Tensor:
        image: Tensor = problem.theirs(pairs, columns, low)
        return image

    double = plan(copy.deepcopy(problem.ours).double(), torch.float64)
    positions, block = (one.tensor(problem.device) for one in (mask, mask.low_frequency_only()))
    exact = double(kspace.to(torch.complex128), positions, block)
    fast = accelerate(problem.ours)
    eager = problem.ours
    cases = [
        Case("whole", "fastmri", theirs, lambda: fast(kspace, mask), exact),
        Case("whole, eager", "fastmri", theirs, lambda: eager(kspace, mask), exact),
    ]
    for dtype in halves:
        made = plan(problem.ours, dtype)
        name = f"whole, {str(dtype).removeprefix('torch.')}"

        def run(made: Any = made) -> Tensor:
            image: Tensor = made(kspace.clone(), positions, block)
            return image

        cases.append(Case(name, "fastmri", theirs, run, exact, HALF_GATE))
    return cases + monai_case(problem, cases[0])


class MapsOf(nn.Module):
    """FastMRI's coil maps of a known block, for MONAI's network."""

    def __init__(self, model: nn.Module, low: int) -> None:
        super().__init__()
        self.model, self.low = model, low

    def forward(self, kspace: Tensor, mask: Tensor) -> Tensor:
        """Maps as fastMRI makes them."""
        maps: Tensor = self.model(kspace, mask, self.low)
        return maps


def monai_case(problem: Problem, case: Case) -> list[Case]:
    """MONAI's VarNet around fastMRI's U-Nets and maps: the same weights, its data consistency.

    Its own maps (monai 1.6) have another result: real and imaginary parts are divided by a root
    sum of squares each, and the block is guessed from the mask.
    """
    try:
        from monai.apps.reconstruction.networks.nets.varnet import VariationalNetworkModel
    except ImportError as error:
        print(f"no row of MONAI's VarNet: {error}", file=sys.stderr)
        return []
    maps = MapsOf(problem.theirs.sens_net, problem.mask.low_frequency[0])
    network = VariationalNetworkModel(maps, problem.theirs.cascades[0].model, CASCADES)
    for block, cascade in zip(network.cascades, problem.theirs.cascades, strict=True):
        block.model, block.dc_weight = cascade.model, cascade.dc_weight
    network = network.eval().to(problem.device)
    pairs, columns = problem.pairs, problem.columns
    return [Case("whole", "monai", lambda: network(pairs, columns), case.ours, case.exact)]


def seconds(run: Run, device: torch.device) -> float:
    """Processor seconds of one run; on a GPU by events."""
    gc.collect()
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1000
    start = time.process_time()
    run()
    return time.process_time() - start


def measured(case: Case, problem: Problem, repeats: int) -> dict[str, Any]:
    """One row: both run in turns after a warm-up, which gives the errors."""
    theirs = case.theirs()
    found = case.ours() if case.first is None else case.first
    error, baseline_error = (
        relative(one.view_as(case.exact), case.exact) for one in (found, theirs)
    )
    turns = [
        (seconds(case.theirs, problem.device), seconds(case.ours, problem.device))
        for _ in range(repeats)
    ]
    good = error <= case.gate and baseline_error <= case.gate
    ratios = [baseline / ours for baseline, ours in turns]
    return {
        "case": case.name,
        "size": "x".join(map(str, problem.size)),
        "batch": problem.batch,
        "device": str(problem.device),
        "baseline": case.baseline,
        "ratio": statistics.median(ratios) if good else None,
        "least_ratio": min(ratios) if good else None,
        "most_ratio": max(ratios) if good else None,
        "seconds": statistics.median(ours for _, ours in turns),
        "baseline_seconds": statistics.median(baseline for baseline, _ in turns),
        "error": error,
        "baseline_error": baseline_error,
        "n": repeats,
    }


def roofline(problem: Problem, took: float) -> dict[str, Any]:
    """The convolutions' floor at the machine's rate of matrix products, and how near we are."""
    coils, rows, columns = problem.size
    flops = 0.0
    for channels, times in ((CHANNELS, CASCADES), (MAP_CHANNELS, coils)):
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            UNet(2, 2, channels, POOLS)(torch.zeros(problem.batch, 2, rows, columns))
        flops += times * counter.get_total_flops()
    side = 2048
    matrix = torch.randn(side, side, device=problem.device)
    rate = 2 * side**3 / min(seconds(lambda: matrix @ matrix, problem.device) for _ in range(5))
    return {
        "case": "roofline, whole",
        "size": "x".join(map(str, problem.size)),
        "batch": problem.batch,
        "device": str(problem.device),
        "flops": flops,
        "matrix_product_rate": rate,
        "floor_seconds": flops / rate,
        "seconds": took,
        "share": flops / rate / took,
    }


def of_size(
    size: tuple[int, int, int], batch: int, device: torch.device, repeats: int
) -> list[dict[str, Any]]:
    """All rows of a size."""
    problem = made_problem(size, batch, device)
    halves = [torch.float16] if device.type == "cuda" else [torch.bfloat16]
    rows = []
    for tf32 in (False, True) if device.type == "cuda" else (False,):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = tf32
        cases = [data_consistency, norm_and_activation, unet]
        made = [case(problem) for case in cases] + whole(problem, halves)
        for case in made:
            row = measured(case, problem, repeats)
            if tf32:
                row["baseline"] += ", tf32 and cudnn.benchmark"
            print(line(row), flush=True)
            rows.append(row)
    took = next(row["seconds"] for row in rows if row["case"] == "whole")
    rows.append(roofline(problem, took))
    print(json.dumps(rows[-1]), flush=True)
    return rows


def parsed_size(text: str) -> tuple[int, int, int]:
    coils, rows, columns = map(int, text.split("x"))
    return coils, rows, columns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=parsed_size, nargs="+", default=[(16, 320, 320)])
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--peak", choices=("fastmri", "adaptmr"), help="print bytes of one call")
    parser.add_argument("--peak-size", type=parsed_size, help="also compare peak memory there")
    parser.add_argument("--bank", action="store_true", help="also the shipped bank")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    with torch.inference_mode():
        if arguments.peak:
            problem = made_problem(arguments.size[0], 1, torch.device("cpu"))
            network = problem.theirs if arguments.peak == "fastmri" else accelerate(problem.ours)
            given: tuple[Any, ...] = (problem.kspace, problem.mask)
            if arguments.peak == "fastmri":
                given = (problem.pairs, problem.columns, problem.mask.low_frequency[0])
            del problem
            print(peak_bytes(lambda: network(*given)))
            return
        rows = []
        for size, batch in product(arguments.size, arguments.batch):
            rows += of_size(size, batch, device, arguments.repeats)
        if arguments.bank:
            rows += bank_rows(arguments.repeats, seconds)
            print(json.dumps(rows[-2:]), flush=True)
        if arguments.peak_size:
            rows.append(peak_row(Path(__file__), arguments.peak_size))
            print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        result = {"benchmark": "varnet_ratio", "rows": rows, "environment": environment(device)}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
