"""The scans of the demonstration, and whether a bank fits them."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Final

from adaptmr.data.anatomy.signal import Contrast
from adaptmr.data.doors import open_scan
from adaptmr.data.scan import Orientation, Scan
from adaptmr.data.simulation import SimulationConfig, simulate
from adaptmr.data.target import with_target
from adaptmr.reconstruction.bank.inference import stratum
from adaptmr.reconstruction.training.cohort import subjects_of
from adaptmr.sampling.bank import MaskBank
from adaptmr.sampling.selection import foreign_coils
from adaptmr.workflows.progress import track

CELLS: Final = tuple(product(Orientation, (Contrast.T1, Contrast.T2, Contrast.FLAIR)))
"""What the shipped bank was trained and calibrated for."""
SUBJECTS: Final = 4
"""Of each orientation and contrast: each scan is one slice of a subject of its own, so that the
intervals over subjects are as narrow as the time allows."""
UNSEEN: Final = 1000
"""The first seed of these subjects; the shipped bank was made from seeds below."""


def simulated_scans(folder: Path, masks: MaskBank, seed: int) -> tuple[Scan, ...]:
    """Simulate subjects that no preset trains on, as scans that the masks fit.

    Args:
        folder: where the files go.
        masks: of whose matrix and coils the scans are.
        seed: other seeds give other subjects.
    """
    configs = (
        SimulationConfig(
            subjects=SUBJECTS,
            seed=UNSEEN + len(CELLS) * seed + number,
            orientation=orientation,
            contrasts=(contrast,),
            matrix=masks.matrix,
            slices=1,
            coils=min(masks.coils, default=4),
        )
        for number, (orientation, contrast) in enumerate(CELLS)
    )
    files = (file for config in configs for file in simulate(config, folder))
    total = SUBJECTS * len(CELLS)
    return opened_scans(list(track(files, "simulating unseen subjects", total)))


def opened_scans(files: Sequence[Path]) -> tuple[Scan, ...]:
    """Open fully sampled scans, each with its root-sum-of-squares image as target.

    Raises:
        BadInputError: a scan cannot be read, or is undersampled.
    """
    return tuple(with_target(open_scan(file)) for file in files)


def unfit(scan: Scan, masks: MaskBank) -> str | None:
    """Why a bank of these masks does not fit a scan; None where it does."""
    if scan.matrix != masks.matrix:
        return f"a matrix of {_size(scan.matrix)}, where the bank is for {_size(masks.matrix)}"
    return foreign_coils(scan.coils, masks)


def described(scans: Sequence[Scan], origin: str) -> list[tuple[str, str]]:
    """Scans of one contrast and orientation in a row: what they are, and their files."""
    groups: dict[str, list[Scan]] = {}
    for scan in scans:
        size = f"{scan.coils} coils, {_size(scan.matrix)}"
        groups.setdefault(f"{stratum(scan.header)}: {size}", []).append(scan)
    return [
        (
            ", ".join(scan.name for scan in group),
            f"{name}; {sum(scan.slices for scan in group)} slices of {len(subjects_of(group))}"
            f" subjects; {origin}",
        )
        for name, group in groups.items()
    ]


def _size(matrix: tuple[int, int]) -> str:
    return f"{matrix[0]} × {matrix[1]}"
