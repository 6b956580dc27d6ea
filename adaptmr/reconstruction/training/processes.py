"""One training on several devices of this machine: a process for each, side by side.

Each process reads its share of every batch, and the gradients are averaged (Lightning's DDP, with
gloo on CPUs and NCCL on GPUs), so that the same is learned as by one process, but for rounding.
"""

import os
import socket
from collections.abc import Callable
from typing import Any, Final

import torch
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessExitedException, spawn

from adaptmr.errors import AdaptMRError
from adaptmr.reconstruction.training.config import SeededSchedule

HOST: Final = "127.0.0.1"


def process_count(config: SeededSchedule) -> int:
    """How many processes a training is shared out over."""
    if isinstance(config.devices, int):
        return config.devices
    return max(1, torch.cuda.device_count()) if config.accelerator != "cpu" else 1


def side_by_side(work: Callable[[], object], count: int) -> None:
    """Run the same work in several processes, which find each other through Lightning.

    Args:
        work: what each does; travels to a process that is started afresh.
        count: how many.

    Raises:
        AdaptMRError: what the first of them raised that failed.
    """
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    errors = get_context("spawn").SimpleQueue()
    try:
        spawn(_one, (work, count, port, errors), nprocs=count)  # type: ignore[no-untyped-call]
    except ProcessExitedException:
        if errors.empty():
            raise
        raise errors.get() from None


def _one(rank: int, work: Callable[[], object], count: int, port: int, errors: Any) -> None:
    found = {"MASTER_ADDR": HOST, "MASTER_PORT": port, "WORLD_SIZE": count, "NODE_RANK": 0}
    os.environ.update({name: str(value) for name, value in {**found, "LOCAL_RANK": rank}.items()})
    try:
        work()
    except AdaptMRError as error:
        errors.put(error)
        raise SystemExit(error.exit_code) from None


def strategy(count: int) -> dict[str, Any]:
    """What Lightning's trainer is told, beside the number of devices."""
    if count == 1:
        return {}
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.pytorch.strategies import DDPStrategy

    # Not SLURM's: there the one process of a task starts the others of its node.
    return {
        "strategy": DDPStrategy(find_unused_parameters=True),  # a first cascade may have some
        "plugins": [LightningEnvironment()],
        "use_distributed_sampler": False,
    }
