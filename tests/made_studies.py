"""A small study of simulated heads, as a user would have one: scans, labels, participants."""

from pathlib import Path

from adaptmr.data.annotations import LabelMap, Presence, Share
from adaptmr.data.participants import Part, write_participants
from adaptmr.data.simulation import SimulationConfig, simulate

MATRIX = (32, 28)
COILS = 2
COUNTS = {
    Part.TASK_TRAINING: 3,
    Part.TASK_VALIDATION: 2,
    Part.TRAINING: 3,
    Part.VALIDATION: 1,
    Part.TEST: 2,
}
TISSUE = LabelMap(classes=((1,), (2, 4), (3,)))
"""Fluid, grey and white matter."""
LESION = Presence(dataset="lesions", numbers=(1, 2, 3, 4), pixels=2)
FLUID = Share(numbers=(1,), among=(1, 2, 3, 4))


def make_study(folder: Path, seed: int = 4, slices: int = 2) -> Path:
    """Scans of as many subjects as `COUNTS` says, and their table, in ``folder``."""
    parts = [part for part, count in COUNTS.items() for _ in range(count)]
    config = SimulationConfig(
        subjects=len(parts),
        seed=seed,
        matrix=MATRIX,
        slices=slices,
        coils=COILS,
        tumour_probability=0.5,
    )
    assert len(list(simulate(config, folder))) == len(parts)
    names = [f"sim-{seed}-{number:04d}" for number in range(len(parts))]
    rows = [
        (name, part, {"side": "LR"[number % 2], "age": 40 + number})
        for number, (name, part) in enumerate(zip(names, parts, strict=True))
    ]
    write_participants(folder, rows)
    return folder
