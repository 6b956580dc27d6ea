"""Random damage: whatever bytes change, the error is a `BadInputError` or the file is still good.

HDF5 itself crashes on rare damage (seen: a segmentation fault and an endless loop); these end the
child, not the test, and are not counted as ours.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from made_scans import made_scan

from adaptmr.data import fastmri, mrd

_CHILD = """
import json, logging, os, random, resource, signal, sys, traceback
from pathlib import Path
import torch
from adaptmr.data.doors import open_scan
from adaptmr.data.inspection import inspect
from adaptmr.errors import BadInputError

torch.set_num_threads(1)
logging.disable()
good, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
whole, kspace = good.read_bytes(), open_scan(good).kspace[:]
generator = random.Random(seed)
ends = {"named": 0, "good": 0, "silent": 0, "crash": 0, "other": 0}
for _ in range(count):
    damaged = bytearray(whole)
    if generator.random() < 0.3:
        del damaged[generator.randrange(len(damaged)):]
    for _ in range(generator.choice([1, 4, 16])):
        damaged[generator.randrange(len(damaged))] = generator.randrange(256)
    path = good.with_name("damaged" + good.suffix)
    path.write_bytes(damaged)
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
        signal.alarm(10)
        try:
            inspect(path)
            code = 0 if torch.equal(open_scan(path).kspace[:], kspace) else 1
        except BadInputError:
            code = 2
        except BaseException:
            traceback.print_exc()
            code = 3
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    ends["crash" if code < 0 else ("good", "silent", "named", "other")[code]] += 1
print(json.dumps(ends))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("door", [fastmri, mrd])
def test_random_damage_is_named(tmp_path: Path, door: object) -> None:
    path = tmp_path / "scan.h5"
    door.write_scan(made_scan((3, 2, 16, 12), target=False), path)  # type: ignore[attr-defined]
    result = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), "7", "150"],
        capture_output=True,
        text=True,
        check=True,
    )
    ends = json.loads(result.stdout)
    assert ends["other"] == 0, result.stderr
    assert ends["named"] > 50
    assert ends["crash"] <= 3
    if door is fastmri:
        assert ends["silent"] <= 3, "k-space and mask carry checksums"
