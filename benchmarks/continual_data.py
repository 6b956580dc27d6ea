"""The studies of the continual benchmark: real anatomy with labels at the very same points.

Folders of complex multi-coil scans, each with the ``participants.tsv`` of the same subjects:

* ``t1``: real T1-weighted heads with their tissue maps (reconstruction, tissue segmentation);
* ``flair``: tissue maps of the same brains as FLAIR, each with a simulated tumour (lesion
  segmentation);
* ``detection``: the same scans, and others of the same subjects without a tumour
  (classification);
* ``pd``: as proton density (regression of the share of fluid).

The signal of the last three follows from the maps by signal equations, with lesions of
``adaptmr.data.anatomy.lesions`` laid over them: of real tumours there are too few patients. The 18
training subjects of ``brains`` are shared among task networks and continual training, so are the 5
for calibration; the 7 test subjects stay the test.

    python benchmarks/continual_data.py --data DATA --out STUDIES
"""

import argparse
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaptmr.data.anatomy.anatomy import Corners
from adaptmr.data.anatomy.geometry import Array, RandomField
from adaptmr.data.anatomy.lesions import Lesions, Tumour
from adaptmr.data.anatomy.signal import Contrast
from adaptmr.data.anatomy.tissue import Tissue
from adaptmr.data.anatomy.volumes import Volume
from adaptmr.data.fastmri import write_scan
from adaptmr.data.participants import PARTICIPANTS, Part, write_participants
from adaptmr.data.simulation import SimulationConfig, scan_anatomy
from adaptmr.workflows.progress import track

# Part of each subject, by its place among those that participants.tsv of `brains` has for a split.
PARTS = {
    "train": (Part.TASK_TRAINING, Part.TRAINING),
    "calibration": (Part.VALIDATION, Part.TASK_VALIDATION),
    "test": (Part.TEST,),
}
POSES = {
    Part.TASK_TRAINING: 4,
    Part.TASK_VALIDATION: 2,
    Part.TRAINING: 2,
    Part.VALIDATION: 2,
    Part.TEST: 2,
}

FIELD_OF_VIEW = (200.0, 200.0)


@dataclass(frozen=True)
class Diseased:
    """A brain with lesions laid over it.

    Attributes:
        healthy: the brain.
        lesions: what is wrong with it.
    """

    healthy: Volume
    lesions: Lesions

    @property
    def focus(self) -> Corners:
        """That of the brain."""
        return self.healthy.focus

    @property
    def contrasts(self) -> tuple[Contrast, ...] | None:
        """Those of the brain."""
        return self.healthy.contrasts

    @property
    def subject(self) -> str | None:
        """That of the brain."""
        return self.healthy.subject

    @property
    def attributes(self) -> dict[str, str | float | int]:
        """Those of the brain."""
        return self.healthy.attributes

    def signals(self, contrast: Contrast, field_strength: float) -> NDArray[np.float32]:
        """Those of the brain's tissues and of lesions."""
        return self.healthy.signals(contrast, field_strength)

    def sample(self, points: Array) -> tuple[NDArray[np.uint8], Array]:
        """Tissue with lesions, and the weight of the brain's signal."""
        tissue, weight = self.healthy.sample(self.lesions.displaced(points))
        return self.lesions.laid_over(tissue, points), weight


def in_white_matter(brain: Volume, count: int, generator: np.random.Generator) -> Array:
    """(count, 3) places in the white matter of the middle of the slab, mm."""
    low, high = np.asarray(brain.focus)
    points = generator.uniform(low, high, (20000, 3)).astype(np.float32)
    points[:, 2] = generator.uniform(-2.5, 2.5, len(points)) + (low[2] + high[2]) / 2
    tissue, _ = brain.sample(np.ascontiguousarray(points.T))
    found = points[tissue == Tissue.WHITE_MATTER]
    return found[generator.choice(len(found), count)]


def with_tumour(brain: Volume, generator: np.random.Generator) -> Diseased:
    x, y, z = in_white_matter(brain, 1, generator)[0].tolist()
    tumour = Tumour(
        centre=(x, y, z),
        radius=float(generator.uniform(7, 15)),
        oedema=float(generator.uniform(4, 12)),
        necrosis=float(generator.uniform(0.35, 0.75)),
    )
    return Diseased(brain, Lesions(np.zeros((0, 4)), tumour, RandomField.draw(generator, 10.0)))


def brains(data: Path) -> Iterator[tuple[str, Part, str]]:
    """Subject, part, and the first part of the file's name, of each session."""
    lines = (data / "participants.tsv").read_text(encoding="utf-8").splitlines()
    names = lines[0].split("\t")
    seen: dict[str, list[str]] = {split: [] for split in PARTS}
    for line in lines[1:]:
        entry = dict(zip(names, line.split("\t"), strict=True))
        subject, split = entry["participant_id"], entry["split"]
        if subject not in seen[split]:
            seen[split].append(subject)
        parts = PARTS[split]
        part = parts[seen[split].index(subject) % len(parts)]
        yield subject, part, f"{subject}_{entry['session_id']}"


def make_study(data: Path, out: Path, *, size: int, slices: int, coils: int, seed: int) -> None:
    """Write the scans of one study, and the table of participants; ``out`` has its name."""
    sessions, contrast = list(brains(data)), STUDIES[out.name]
    more = 2 if out.name == "healthy" else 1
    planned = [
        entry
        for entry in sessions
        for _ in range(POSES[entry[1]] * (more if entry[1] is Part.TASK_TRAINING else 1))
    ]
    for number, (_, part, stem) in enumerate(track(planned, out.name, len(planned))):
        if number % 2 and (out.name == "healthy" or part in (Part.VALIDATION, Part.TEST)):
            continue  # one pose is enough to judge the slices of a scan
        kind = "T1w" if contrast is Contrast.T1 else "tissue"
        generator = np.random.default_rng((seed, list(STUDIES).index(out.name), number))
        anatomy: Volume | Diseased = Volume.load(data / f"{stem}_{kind}.nii.gz", generator)
        if out.name == "flair":
            anatomy = with_tumour(anatomy, generator)
        config = SimulationConfig(
            seed=seed,
            matrix=(size, size),
            field_of_view=FIELD_OF_VIEW,
            slices=slices,
            coils=coils,
        )
        scan, truth = scan_anatomy(config, anatomy, number, contrast)
        scan = replace(scan, name=f"{number:04d}_{stem}.h5")
        write_scan(
            scan,
            out / scan.name,
            extra_datasets={name: truth.datasets[name] for name in ("labels", "lesions")},
        )
    table = {subject: part for subject, part, _ in sessions}
    write_participants(out, [(subject, part, {}) for subject, part in table.items()])


def make_detection(out: Path) -> None:
    """Put the scans with and without a tumour into one folder."""
    folder = out / "detection"
    folder.mkdir()
    for name in ("flair", "healthy"):
        for file in (out / name).glob("*.h5"):
            (folder / f"{name}_{file.name}").hardlink_to(file)
    shutil.copyfile(out / "flair" / PARTICIPANTS, folder / PARTICIPANTS)


STUDIES = {
    "t1": Contrast.T1,
    "flair": Contrast.FLAIR,
    "healthy": Contrast.FLAIR,
    "pd": Contrast.PD,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds brains")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--slices", type=int, default=3, help="per scan")
    parser.add_argument("--coils", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for name in STUDIES:
        make_study(
            arguments.data / "brains",
            arguments.out / name,
            size=arguments.size,
            slices=arguments.slices,
            coils=arguments.coils,
            seed=arguments.seed,
        )
    make_detection(arguments.out)


if __name__ == "__main__":
    main()
