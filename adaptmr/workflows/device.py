"""The device to compute on."""

import torch

from adaptmr.errors import UsageError


def usable_device(name: str) -> torch.device:
    """The device of that name, tried out.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, ...

    Raises:
        UsageError: there is no such device here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            "this device cannot be used",
            field="device",
            got=f"{name}: {str(error).splitlines()[0]}",
            hint=f"Here there is {_present()}",
        ) from error
    return device


def _present() -> str:
    return " and ".join(["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))])
