"""The environment of a number names versions and hardware, and neither host nor user."""

import getpass
import json
import platform

import pytest
import torch

from adaptmr import __version__
from adaptmr.workflows.environment import environment


def test_environment_names_versions_and_hardware() -> None:
    found = environment()
    assert found["adaptmr"] == __version__
    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()
    assert found["device"] == f"cpu, threads: {torch.get_num_threads()}"
    assert all(found.values())
    assert json.loads(json.dumps(found)) == found


def test_environment_identifies_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "host-canary")
    monkeypatch.setenv("LOGNAME", "user-canary")
    assert getpass.getuser() == "user-canary"
    assert "canary" not in json.dumps(environment())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_environment_names_the_gpu() -> None:
    assert torch.cuda.get_device_name(0) in environment("cuda:0")["device"]
