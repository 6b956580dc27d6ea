"""Devices by name."""

import pytest
import torch

from adaptmr.errors import UsageError
from adaptmr.workflows.device import usable_device


def test_the_processor_is_always_there() -> None:
    assert usable_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:99", "cpu:x"])
def test_what_is_not_there_is_told_in_one_line(name: str) -> None:
    with pytest.raises(UsageError, match=r"this device cannot be used.*Here there is cpu") as told:
        usable_device(name)
    assert "\n" not in str(told.value)
    assert told.value.exit_code == 2
