"""What a number was computed with: versions and hardware, nothing that names a person or host."""

import platform
from importlib.metadata import version
from pathlib import Path

import torch

from adaptmr import __version__

PACKAGES = ("torch", "numpy", "scipy", "lightning")


def environment(device: torch.device | str = "cpu") -> dict[str, str]:
    """The software and hardware of this process, for reports and benchmarks.

    Args:
        device: where was computed.

    Returns:
        Name -> value, for example ``{"torch": "2.6.0", "device": "cpu, threads: 2", ...}``.
    """
    device = torch.device(device)
    used = f"cpu, threads: {torch.get_num_threads()}"
    if device.type == "cuda":
        used = f"{device}, {torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return {
        "adaptmr": __version__,
        **{name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processor": _processor(),
        "device": used,
    }


def _processor() -> str:
    """Model of the processor; Linux tells it in a file only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()
