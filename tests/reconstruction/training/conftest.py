"""A folder of small scans to train on."""

from pathlib import Path

import pytest
from training_scans import write_ellipses


@pytest.fixture
def scans_folder(tmp_path: Path) -> Path:
    """Five volumes of three subjects; ``b`` has another matrix."""
    folder = tmp_path / "data"
    for seed, (name, subject) in enumerate(
        [("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c"), ("c2", "c")]
    ):
        matrix = (24, 26) if subject == "b" else (24, 20)
        write_ellipses(folder / f"{name}.h5", subject, seed, matrix)
    return folder
