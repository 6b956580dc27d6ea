"""Classical reconstruction beside sigpy and BART: time to the same objective value.

For every scan and mask, sigpy (and ``bart``, where that program is installed) runs a fixed number
of iterations. Ours then runs as many as it needs to reach their objective value, on the same maps
and the same penalty. The runs take turns in one process; the best of each counts. BART is a
program of its own, so its time includes its start and its files, as whoever calls it pays them.

    python benchmarks/classical.py SCAN.h5 ... --json classical.json
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import sigpy.mri
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptmr.data.positions import centred_block
from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.kernels.wavelet import WaveletTransform
from adaptmr.reconstruction.classical import (
    CGSense,
    L1Wavelet,
    TotalVariation,
    neighbour_differences,
)
from adaptmr.reconstruction.coils import root_sum_of_squares
from adaptmr.reconstruction.encoding import Encoding
from adaptmr.reconstruction.sensitivity import Espirit
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.mask import Mask
from adaptmr.workflows.environment import environment

ITERATIONS = {"cg-sense": 30, "wavelet db4": 100, "wavelet db2": 100, "tv": 100}
"""Of the baselines; sigpy's own default is 100 for all."""
GATE = {"espirit": 0.01, "cg-sense": 0.01, "wavelet db4": 0.05, "wavelet db2": 0.05, "tv": 0.1}
"""Largest difference of the two results (NRMSE) at which a ratio of times means anything."""


@dataclass(frozen=True)
class Time:
    """Seconds of wall and of processor time, children included."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Problem:
    """One slice, its mask and the maps that everyone uses."""

    name: str
    kspace: Tensor
    mask: Mask
    maps: Tensor

    def given_maps(self, *_: object) -> Tensor:
        """The maps, as a reconstructor asks for them."""
        return self.maps

    def misfit(self, image: Tensor) -> float:
        """Half the squared distance from the acquired data."""
        encoding = Encoding(self.maps.to(torch.complex128), self.mask)
        residual = encoding.forward(image) - self.mask.apply(self.kspace)
        return float(torch.linalg.norm(residual) ** 2 / 2)


@dataclass(frozen=True)
class Method:
    """One penalty, as we, sigpy and BART (None: it does not have that one) call it."""

    name: str
    make: Callable[..., CGSense | L1Wavelet | TotalVariation]
    penalty: Callable[[Tensor], float]
    sigpy: Callable[..., Any]
    bart: Callable[[float], list[str]] | None
    weight: Callable[[Any, Problem], float]


def l1_of_wavelets(name: str) -> Callable[[Tensor], float]:
    def penalty(image: Tensor) -> float:
        transform = WaveletTransform((image.shape[-2], image.shape[-1]), name)
        return float(transform.forward(image).abs().sum())

    return penalty


def absolute(method: L1Wavelet | TotalVariation, problem: Problem) -> float:
    return float(method.absolute_weight(problem.kspace, problem.mask))


METHODS = [
    Method(
        "cg-sense",
        CGSense,
        lambda image: float(torch.linalg.norm(image) ** 2 / 2),
        sigpy.mri.app.SenseRecon,
        lambda weight: ["-l2", "-r", f"{weight:.9g}"],
        lambda method, _: float(method.weight),
    ),
    Method(
        "wavelet db4",
        L1Wavelet,
        l1_of_wavelets("db4"),
        sigpy.mri.app.L1WaveletRecon,
        None,
        absolute,
    ),
    Method(
        "wavelet db2",
        partial(L1Wavelet, wavelet="db2"),
        l1_of_wavelets("db2"),
        partial(sigpy.mri.app.L1WaveletRecon, wave_name="db2"),
        lambda weight: ["--wavelet", "dau2", "-R", f"W:3:0:{weight:.9g}"],
        absolute,
    ),
    Method(
        "tv",
        TotalVariation,
        lambda image: float(neighbour_differences(image).abs().sum()),
        sigpy.mri.app.TotalVariationRecon,
        lambda weight: ["-R", f"T:3:0:{weight:.9g}"],
        absolute,
    ),
]


def cpu_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def timed(run: Callable[[], Tensor], device: torch.device) -> Time:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), cpu_seconds()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Time(time.perf_counter() - wall, cpu_seconds() - cpu)


def in_turns(
    runs: dict[str, Callable[[], Tensor]], repeats: int, device: torch.device
) -> dict[str, Time]:
    """Best wall and best processor time of each, A, B, A, B, ..., after one run to warm up."""
    times: dict[str, list[Time]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            taken = timed(run, device)
            if repeat:
                times[name].append(taken)
    return {
        name: Time(min(t.wall for t in taken), min(t.cpu for t in taken))
        for name, taken in times.items()
    }


def to_cfl(path: Path, array: NDArray[np.complex64]) -> None:
    """(coil, readout, phase) as BART's (readout, phase, 1, coil)."""
    ordered = array.transpose(1, 2, 0)[:, :, None, :]
    sizes = " ".join(str(n) for n in ordered.shape)
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{sizes}\n", encoding="utf-8")
    ordered.astype(np.complex64).ravel(order="F").tofile(path.with_suffix(".cfl"))


def from_cfl(path: Path) -> NDArray[np.complex64]:
    """The first two and the fourth axis, as (coil, readout, phase)."""
    header = path.with_suffix(".hdr").read_text(encoding="utf-8").splitlines()
    sizes = [int(n) for n in header[1].split()]
    values = np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(sizes, order="F")
    values = values.reshape(sizes[0], sizes[1], -1, order="F")
    return values.transpose(2, 0, 1)


def bart(arguments: list[str], *inputs: Tensor) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"input{index}" for index in range(len(inputs))]
        for path, values in zip(paths, inputs, strict=True):
            to_cfl(path, values[0].cpu().numpy())
        output = Path(folder) / "output"
        subprocess.run(  # noqa: S603 - the program that is measured
            ["bart", *arguments, *map(str, paths), str(output)],  # noqa: S607
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return torch.from_numpy(from_cfl(output).copy())[None]


def nrmse(image: Tensor, other: Tensor) -> float:
    return float(torch.linalg.norm(image - other) / torch.linalg.norm(other))


def maps_error(ours: Tensor, other: Tensor, kspace: Tensor) -> float:
    """NRMSE of the maps times the image, where both have maps; the phase at a pixel is free.

    Where there is hardly any signal, maps are a matter of taste.
    """
    both = (ours.abs().sum(1, keepdim=True) > 0) & (other.abs().sum(1, keepdim=True) > 0)
    brightness = root_sum_of_squares(inverse_fourier(kspace))[:, None] * both
    phase = (ours.conj() * other).sum(1, keepdim=True).angle()
    return nrmse(ours * torch.exp(1j * phase) * brightness, other * brightness)


def row(
    problem: Problem,
    case: str,
    baseline: str,
    times: dict[str, Time],
    error: float,
    device: torch.device,
    **more: float | int,
) -> dict[str, Any]:
    ours, theirs = times["ours"], times[baseline]
    trusted = error <= GATE[case]
    return {
        "case": f"{case}, {problem.name}",
        "size": "x".join(str(n) for n in problem.kspace.shape[1:]),
        "device": str(device),
        "baseline": baseline,
        "ratio": theirs.wall / ours.wall if trusted else None,
        "ratio_cpu": theirs.cpu / ours.cpu if trusted and device.type == "cpu" else None,
        "error": error,
        "seconds": ours.wall,
        "baseline_seconds": theirs.wall,
        **more,
    }


def compare_maps(problem: Problem, repeats: int, device: torch.device) -> list[dict[str, Any]]:
    find, there = Espirit(), problem.kspace.to(device)
    acquired = np.zeros(problem.kspace.shape[-2:], bool)
    acquired[tuple(centred_block(n, find.width) for n in acquired.shape)] = True
    mask = Mask(acquired, (find.width, find.width))
    kspace = mask.apply(problem.kspace)

    def with_sigpy() -> Tensor:
        return torch.from_numpy(
            sigpy.mri.app.EspiritCalib(
                kspace[0].numpy(), calib_width=find.width, crop=find.crop, show_pbar=False
            ).run()
        )[None]

    options = ["-m", "1", "-k", str(find.kernel), "-r", str(find.width), "-c", str(find.crop)]
    runs: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: find(there, mask),
        "sigpy": with_sigpy,
    }
    if shutil.which("bart"):
        # BART's threshold is of the eigenvalue, the square of the singular value.
        threshold = ["-t", f"{find.threshold**2:.9g}"]
        runs["bart"] = lambda: bart(["ecalib", *threshold, *options], kspace)
    times = in_turns(runs, repeats, device)
    ours = find(there, mask).cpu()
    return [
        row(problem, "espirit", name, times, maps_error(ours, run(), problem.kspace), device)
        for name, run in runs.items()
        if name != "ours"
    ]


def compare_images(
    problem: Problem, method: Method, repeats: int, device: torch.device
) -> list[dict[str, Any]]:
    iterations = ITERATIONS[method.name]
    kspace, maps = problem.mask.apply(problem.kspace), problem.maps
    weight = method.weight(method.make(maps=problem.given_maps), problem)
    weights = problem.mask.tensor().expand(maps.shape[-2:]).numpy().astype(np.float32)
    there, maps_there = problem.kspace.to(device), maps.to(device)

    def objective(image: Tensor) -> float:
        double = image.to(torch.complex128)
        return problem.misfit(double) + weight * method.penalty(double)

    def with_sigpy() -> Tensor:
        app = method.sigpy(
            kspace[0].numpy(),
            maps[0].numpy(),
            lamda=weight,
            weights=weights,
            max_iter=iterations,
            show_pbar=False,
        )
        return torch.from_numpy(app.run())[None]

    def with_bart() -> Tensor:
        image = bart(["pics", *options], kspace, maps)[:, 0]
        # BART's centred transform leaves out a constant, -1 for every size that is 2 modulo 4.
        return image * (-1) ** sum(n // 2 for n in image.shape[1:])

    def ours(count: int) -> Tensor:
        reconstruct = method.make(maps=lambda *_: maps_there, iterations=count, tolerance=0.0)
        return reconstruct.image(there, problem.mask)

    baselines = {"sigpy": with_sigpy}
    if shutil.which("bart") and method.bart:
        options = ["-w", "1", "-i", str(iterations), "-n", *method.bart(weight)]
        baselines["bart"] = with_bart
    rows = []
    for name, run in baselines.items():
        theirs = run()
        goal = objective(theirs)
        enough = next(
            (n for n in range(5, 401, 5) if objective(ours(n).cpu()) <= goal * (1 + 1e-6)), 400
        )
        times = in_turns({"ours": partial(ours, enough), name: run}, repeats, device)
        image = ours(enough).cpu()
        rows.append(
            row(
                problem,
                method.name,
                name,
                times,
                nrmse(image, theirs),
                device,
                objective=objective(image),
                baseline_objective=goal,
                iterations=enough,
                baseline_iterations=iterations,
            )
        )
    return rows


def read(path: Path, kind: MaskKind, acceleration: float, seed: int) -> Problem:
    with h5py.File(path) as file:
        kspace = torch.from_numpy(file["kspace"][:1].astype(np.complex64))
    matrix = (kspace.shape[-2], kspace.shape[-1])
    mask = make_mask(MaskSpec(kind=kind, acceleration=acceleration), matrix, seed=seed)
    return Problem(f"{path.stem}, {kind} {acceleration:g}x", kspace, mask, Espirit()(kspace, mask))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| case | size | baseline | ratio wall | ratio cpu | ours s | baseline s | NRMSE"
        " | objective, ours over baseline - 1 | iterations, ours / baseline |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in rows:
        ratios = (
            "-" if entry[key] is None else f"{entry[key]:.1f}" for key in ("ratio", "ratio_cpu")
        )
        reached, steps = "", ""
        if "objective" in entry:
            reached = f"{entry['objective'] / entry['baseline_objective'] - 1:+.1e}"
            steps = f"{entry['iterations']} / {entry['baseline_iterations']}"
        lines.append(
            f"| {entry['case']} | {entry['size']} | {entry['baseline']} | {' | '.join(ratios)} |"
            f" {entry['seconds']:.3f} | {entry['baseline_seconds']:.3f} | {entry['error']:.1e} |"
            f" {reached} | {steps} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scans", nargs="+", type=Path, help="fully sampled fastMRI HDF5 files")
    parser.add_argument("--acceleration", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the masks")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=1, help="of everyone")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # read by BART
    rows: list[dict[str, Any]] = []
    for path in arguments.scans:
        for kind in (MaskKind.VARIABLE_DENSITY_2D, MaskKind.VARIABLE_DENSITY_1D):
            problem = read(path, kind, arguments.acceleration, arguments.seed)
            if kind is MaskKind.VARIABLE_DENSITY_2D:
                rows += compare_maps(problem, arguments.repeats, arguments.device)
            for method in METHODS:
                rows += compare_images(problem, method, arguments.repeats, arguments.device)
    print(table(rows))
    if arguments.json:
        described = environment(arguments.device) | {
            "sigpy": sigpy.__version__,
            "bart": bart_version(),
            "seed": str(arguments.seed),
            "repeats": str(arguments.repeats),
        }
        document = {"benchmark": "classical", "rows": rows, "environment": described}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def bart_version() -> str:
    if not shutil.which("bart"):
        return "not installed"
    done = subprocess.run(
        ["bart", "version"],  # noqa: S607
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main()
