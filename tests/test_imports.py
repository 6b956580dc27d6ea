"""`import adaptmr` stays light."""

import statistics
import subprocess
import sys

HEAVY = (
    *("torch", "lightning", "monai", "matplotlib", "tensorboard", "torchvision"),
    *("dagster", "dask", "distributed"),
)


def _run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


def test_import_pulls_nothing_heavy() -> None:
    loaded = _run("import sys, adaptmr; print(*sys.modules)").split()
    assert not set(HEAVY) & set(loaded)


def test_import_takes_under_a_second() -> None:
    """A gate, not a benchmark: the bound is fifty times what it takes."""
    timed = "import time; t = time.perf_counter(); import adaptmr; print(time.perf_counter() - t)"
    assert statistics.median(float(_run(timed)) for _ in range(3)) < 1.0


def test_command_line_starts_without_lightning_and_matplotlib() -> None:
    loaded = _run("import sys, adaptmr.cli; print(*sys.modules)").split()
    assert not (set(HEAVY) - {"torch"}) & set(loaded)
