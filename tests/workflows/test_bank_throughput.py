"""Many slices go through the shipped bank in memory that stays flat."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bank_throughput.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_memory_stays_flat_over_slices(tmp_path: Path) -> None:
    """Kept k-space would let it grow by 42 MiB, kept images and bounds by 16 MiB."""
    file = tmp_path / "throughput.json"
    command = [sys.executable, str(BENCHMARK), "--slices", "200", "--subjects", "1"]
    subprocess.run([*command, "--json", str(file)], check=True, capture_output=True)
    [row] = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert row["slices_with_image"] == 200
    assert row["bounds"] == "lower and upper"
    memory = row["resident_mib"]
    assert memory["grown_after_warm_up"] < 12
    assert memory["peak"] < 1024
    assert memory["before"] < memory["peak"]
