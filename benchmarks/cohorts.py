"""Cohorts of scans of real anatomy, split by subject, as folders of fastMRI HDF5.

* *homogeneous*: axial T1-weighted heads, all alike; the control, with little to adapt to.
* *mixed*: label maps of whole heads and of brains in contrasts by signal equations, and patients
  with tumours, in three orientations where the volume allows it; fields of view drawn per scan.

Each scan has a pose, size and shape of its own, complex coil sensitivities, phase and noise. The
volumes are those of ``participants.tsv`` in ``brains`` and ``tumours``; of the ten label maps in
``anatomy`` four are for training, the next three for calibration, the last three for the test.

    python benchmarks/cohorts.py --data DATA --cohort mixed --size 64 --out COHORT
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adaptmr.data.anatomy.signal import Contrast
from adaptmr.data.fastmri import write_scan
from adaptmr.data.scan import Orientation, Scan
from adaptmr.data.simulation import SimulationConfig, simulate_scan
from adaptmr.workflows.progress import track

SPLITS = ("train", "calibration", "test")
CONTRASTS = (Contrast.T1, Contrast.T2, Contrast.FLAIR, Contrast.PD)
FIELDS_OF_VIEW = ((200.0, 200.0), (230.0, 230.0), (260.0, 260.0), (260.0, 200.0), (200.0, 260.0))
LABEL_SPLITS = {"train": range(1, 5), "calibration": range(5, 8), "test": range(8, 11)}


class Entry(NamedTuple):
    """One scan to make."""

    source: str
    subject: str
    path: Path
    contrast: Contrast | None
    orientation: Orientation


@dataclass(frozen=True)
class Cohort:
    """What a cohort is made of.

    Attributes:
        data: folder that holds ``brains``, ``tumours`` and ``anatomy``.
        mixed: whether contrasts, orientations, patients and fields of view vary.
        size: rows and columns.
        slices: slices per scan.
        coils: numbers of receive coils, of which each scan has one.
        poses: scans of each training volume, every time in another pose.
        snr: see `SimulationConfig`; each scan has one of these.
        seed: of everything random.
    """

    data: Path
    mixed: bool
    size: int = 64
    slices: int = 4
    coils: tuple[int, ...] = (4,)
    poses: int = 2
    snr: tuple[float, ...] = (30.0,)
    seed: int = 0


def scans(cohort: Cohort, split: str) -> Iterator[Scan]:
    """The scans of a split, named so that no two share a name."""
    for number, entry in enumerate(_planned(cohort, split)):
        generator = np.random.default_rng((cohort.seed, SPLITS.index(split), number))
        field = FIELDS_OF_VIEW[generator.integers(len(FIELDS_OF_VIEW))] if cohort.mixed else None
        config = SimulationConfig(
            seed=cohort.seed * 1000 + SPLITS.index(split),
            anatomy=(entry.path,),
            orientation=entry.orientation,
            field_of_view=field or FIELDS_OF_VIEW[1],
            matrix=(cohort.size, cohort.size),
            slices=cohort.slices,
            coils=int(generator.choice(cohort.coils)),
            snr=float(generator.choice(cohort.snr)),
        )
        scan, _ = simulate_scan(config, number, entry.contrast)
        subject = f"{entry.source}-{entry.subject}"
        header = scan.header.model_copy(update={"subject": subject})
        name = f"{number:04d}_{subject}_{scan.header.acquisition}.h5"
        yield replace(scan, name=name, header=header)


def _planned(cohort: Cohort, split: str) -> list[Entry]:
    entries = list(_heads(cohort.data, split))
    if cohort.mixed:
        entries += [*_brains(cohort.data, split), *_patients(cohort.data, split)]
        entries += _label_maps(cohort.data, split)
    return entries * (cohort.poses if split == "train" else 1)


def _heads(data: Path, split: str) -> Iterator[Entry]:
    for subject, stem in participants(data / "brains", split):
        path = data / "brains" / f"{stem}_T1w.nii.gz"
        yield Entry("brain", subject, path, None, Orientation.AXIAL)


def _brains(data: Path, split: str) -> Iterator[Entry]:
    """The same brains without their heads, one contrast for each volume in turn."""
    for number, (subject, stem) in enumerate(participants(data / "brains", split)):
        contrast = CONTRASTS[1:][number % (len(CONTRASTS) - 1)]
        path = data / "brains" / f"{stem}_tissue.nii.gz"
        yield Entry("brain", subject, path, contrast, Orientation.AXIAL)


def _patients(data: Path, split: str) -> Iterator[Entry]:
    for subject, stem in participants(data / "tumours", split):
        for path in sorted((data / "tumours").glob(f"{stem}_*.nii.gz")):
            if path.name.endswith(("_FLAIR.nii.gz", "_T1c.nii.gz")):
                for orientation in Orientation:
                    yield Entry("tumour", subject, path, None, orientation)


def _label_maps(data: Path, split: str) -> Iterator[Entry]:
    for number in LABEL_SPLITS[split]:
        path = data / "anatomy" / f"labels_{number:02d}.nii.gz"
        for orientation in Orientation:
            for contrast in CONTRASTS:
                yield Entry("head", f"{number:02d}", path, contrast, orientation)


def participants(folder: Path, split: str) -> Iterator[tuple[str, str]]:
    """(subject, first part of the file's name) of a split of ``participants.tsv``."""
    lines = (folder / "participants.tsv").read_text(encoding="utf-8").splitlines()
    names = lines[0].split("\t")
    for line in lines[1:]:
        entry = dict(zip(names, line.split("\t"), strict=True))
        if entry["split"] == split:
            parts = [entry[key] for key in ("participant_id", "session_id") if key in entry]
            yield parts[0], "_".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="brains, tumours, anatomy")
    parser.add_argument("--cohort", choices=("homogeneous", "mixed"), default="mixed")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--slices", type=int, default=4, help="per scan")
    parser.add_argument("--coils", type=int, nargs="+", default=[4])
    parser.add_argument("--snr", type=float, nargs="+", default=[30.0])
    parser.add_argument("--poses", type=int, default=2, help="of each training volume")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=SPLITS)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cohort = Cohort(
        data=arguments.data,
        mixed=arguments.cohort == "mixed",
        size=arguments.size,
        slices=arguments.slices,
        coils=tuple(arguments.coils),
        snr=tuple(arguments.snr),
        poses=arguments.poses,
        seed=arguments.seed,
    )
    for split in arguments.splits:
        for scan in track(scans(cohort, split), split, len(_planned(cohort, split))):
            write_scan(scan, arguments.out / split / scan.name)


if __name__ == "__main__":
    main()
