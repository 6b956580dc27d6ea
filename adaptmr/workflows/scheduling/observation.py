"""What can be seen of an acquisition without any label: a few numbers for each scan."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from adaptmr.data.doors import open_scan
from adaptmr.data.scan import Scan
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.bank.inference import stratum
from adaptmr.reconstruction.coils import periphery_covariance
from adaptmr.reconstruction.training.cohort import subject_of
from adaptmr.sampling.decision import read_decisions
from adaptmr.sampling.mask import Mask
from adaptmr.workflows.scheduling.drift import Observation

_RINGS = 12
_LENGTH = 16
"""Characters of a hash that stand for a name."""


def observe(path: Path, decisions: Path | None = None) -> Observation:
    """Look at the slice in the middle of a scan, and at the masks that were chosen for it.

    The statistics: number of coils; readout and phase positions; noise level, in dB below the
    root mean square of k-space; decay, the exponent with which the energy of k-space falls with
    the distance from its centre; and the share of the slices that each mask was chosen for.

    Args:
        path: the scan.
        decisions: folder of the records that `adaptmr select` or `reconstruct` wrote.

    Raises:
        BadInputError: the scan cannot be read, or has no signal.
    """
    scan = open_scan(path)
    kspace = scan.kspace[scan.slices // 2]
    energy = kspace.abs().square().sum(0)
    if not float(energy.sum()) > 0:
        raise BadInputError("the slice in the middle has no signal", file=path)
    found = {
        "coils": float(scan.coils),
        "readout positions": float(scan.matrix[0]),
        "phase positions": float(scan.matrix[1]),
        "noise level": _noise(scan, kspace),
        "decay": _decay(energy, kspace.shape[-2:]),
    }
    if decisions is not None:
        found |= _chosen(decisions / f"{Path(scan.name).stem}.decision.json")
    return Observation(
        file=file_key(path),
        subject=_hashed(subject_of(scan)),
        stratum=stratum(scan.header),
        statistics=found,
    )


def file_key(path: Path) -> str:
    """What tells that a file was looked at before; its name may be that of a person."""
    status = path.stat()
    return _hashed(f"{path.name} {status.st_size} {status.st_mtime_ns}")


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def _noise(scan: Scan, kspace: Tensor) -> float:
    """dB; of the outermost positions that were acquired."""
    mask = Mask.of_acquired(scan.acquired & scan.encoded, scan.encoded)
    covariance = periphery_covariance(kspace, mask)
    variance = covariance.diagonal().real.mean()
    mean = kspace.abs().square().sum() / (kspace.abs() > 0).sum()
    return float(10 * torch.log10((variance / mean).clamp(min=1e-12)))


def _decay(energy: Tensor, matrix: torch.Size) -> float:
    """The exponent: minus the slope of log energy over log distance, rings weighing the same."""
    rows, columns = (torch.arange(n) - n // 2 for n in matrix)
    distance = torch.hypot(rows[:, None].double(), columns[None].double())
    edges = torch.logspace(0, float(torch.log10(torch.tensor(min(matrix) / 2))), _RINGS + 1)
    ring = torch.bucketize(distance, edges.double())
    known = energy > 0
    logs = []
    for index in range(1, _RINGS + 1):
        inside = (ring == index) & known
        if bool(inside.any()):
            logs.append((distance[inside].log().mean(), energy[inside].double().mean().log()))
    if len(logs) < 2:
        return 0.0
    x, y = (torch.stack(one) for one in zip(*logs, strict=True))
    x = x - x.mean()
    return float(-(x * y).sum() / x.square().sum())


def _chosen(path: Path) -> dict[str, float]:
    """Share of the slices that each mask was chosen for; nothing where there is no record."""
    if not path.is_file():
        return {}
    chosen = [one.index for one in read_decisions(path).decisions]
    masks = max(len(one.scores) for one in read_decisions(path).decisions)
    return {f"mask {index}": chosen.count(index) / len(chosen) for index in range(masks)}
