"""Small banks of untrained networks, with scans that fit them, for tests of several rooms."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from adaptmr.data.doors import open_scan
from adaptmr.data.scan import Scan, Stack
from adaptmr.data.simulation import SimulationConfig, simulate
from adaptmr.data.weights import initialise
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.persistence import assemble
from adaptmr.reconstruction.calibration.control import EXPECTED
from adaptmr.reconstruction.calibration.intervals import Calibration, Factor
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks import width as widths
from adaptmr.reconstruction.networks.varnet import VarNetConfig
from adaptmr.sampling import bank as banks
from adaptmr.sampling.bank import BankConfig
from adaptmr.sampling.frame import Positions
from adaptmr.sampling.informed import DrawRule, informed_mask
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.mixture import MixtureConfig
from adaptmr.sampling.selection import UncertaintyConfig
from adaptmr.sampling.selector import NearestCentroid, Selector
from adaptmr.workflows.sampling import TrainSamplerConfig, train_sampler
from adaptmr.workflows.selection import build_bank

MATRIX = (32, 28)
COILS = 2
SAMPLES = UncertaintyConfig(samples=4)
NETWORK = VarNetConfig(cascades=1, channels=4, pools=2, map_channels=4, map_pools=2)


@dataclass(frozen=True)
class Parts:
    """Folders that a bank is assembled of, and the scans that its masks were made from."""

    scans: Path
    sampler: Path
    masks: Path
    networks: tuple[Path, ...]
    width: Path


def make_scans(folder: Path) -> Path:
    """Two scans of four slices."""
    config = SimulationConfig(subjects=2, seed=3, matrix=MATRIX, slices=4, coils=COILS)
    assert len(list(simulate(config, folder))) == 2
    return folder


def make_parts(folder: Path, scans: Path, positions: Positions, count: int = 3) -> Parts:
    """A sampler, masks and a network for each, in ``folder``."""
    config = TrainSamplerConfig(
        data=scans,
        positions=positions,
        center_fraction=0.15 if positions is Positions.LINES else 0.25,
        sampler=MixtureConfig(components=2, factors=3, noise_prior=1.0, iterations=5),
        validation_fraction=0.0,
    )
    sampler, masks = train_sampler(config, folder / "sampler"), folder / "masks"
    files = sorted(scans.iterdir())
    build_bank(files, sampler, masks, positions, 3.0, BankConfig(masks=count), SAMPLES)
    bank = banks.load(masks)
    drawn = (
        informed_mask(centroid, bank.frame, DrawRule(seed=seed))  # of one seed they may be equal
        for seed, centroid in enumerate(bank.centroids)
    )
    banks.save(replace(bank, masks=tuple(drawn)), masks, overwrite=True)
    networks = tuple(folder / f"network-{index}" for index in range(count))
    for index, each in enumerate(networks):
        network = checkpoint.build(NETWORK, index)
        initialise(network, index)  # a VarNet's first weights end in zeros: all would be alike
        checkpoint.save(network, each, {"seed": index})
    width = widths.build(widths.WidthConfig(channels=4, pools=2), 0)
    widths.save(width, folder / "width", {})
    return Parts(scans, sampler, masks, networks, folder / "width")


def make_bank(
    out: Path,
    parts: Parts,
    selector: Selector | None = None,
    *,
    factor: float | None = None,
    overwrite: bool = False,
) -> Path:
    """The bank of the parts in folder ``out``, with intervals where a factor is given."""
    assemble(
        out,
        masks=banks.load(parts.masks),
        networks=parts.networks,
        sampler=parts.sampler,
        selector=selector or NearestCentroid(),
        uncertainty=SAMPLES,
        width=parts.width if factor else None,
        calibration=calibration_of(factor) if factor else None,
        provenance={"made": "by a test"},
        overwrite=overwrite,
    )
    return out


class Change(nn.Module):
    """A width without weights: by how much the network changed the zero-filled image."""

    def forward(self, image: Tensor, zero_filled: Tensor) -> Tensor:
        return (image - zero_filled).abs()


def calibrated(bank: ReconstructionBank, factor: float | None = 2.0) -> ReconstructionBank:
    """The bank with intervals of a factor for all strata; without a factor they are refused."""
    return replace(bank, width=Change(), calibration=calibration_of(factor))


def calibration_of(factor: float | None) -> Calibration:
    """One factor for all strata, or too few subjects for any."""
    reason = None if factor else "2 subjects, at least 9 are needed"
    pooled = Factor(factor=factor, risk=0.05, subjects=12, slices=48, reason=reason)
    return Calibration(guarantee=EXPECTED, floor=0.01, pooled=pooled, strata={})


def scan_of(parts: Parts, number: int = 0) -> Scan:
    """One of the scans, in memory."""
    scan = open_scan(sorted(parts.scans.iterdir())[number])
    return replace(scan, kspace=Stack.of(scan.kspace[:]))


def acquired_with(scan: Scan, mask: Mask) -> Scan:
    """The scan as if it had been acquired with a mask."""
    kspace = mask.apply(scan.kspace[:])
    acquired = torch.from_numpy(mask.positions.copy())
    return replace(scan, kspace=Stack.of(kspace), acquired=acquired)
