"""Small tasks on scans of ellipses with coils and phase, for tests of the continual room."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from made_kspace import complex_normal, phantom, smooth_maps
from torch import Tensor, nn

from adaptmr.continual.config import LearnerConfig
from adaptmr.continual.learner import recorded
from adaptmr.continual.replay import ReplayBuffer
from adaptmr.continual.strategies.base import StageWork, Strategy
from adaptmr.continual.task import LOSSES, METRICS, Example, Judgement, Split, Task
from adaptmr.continual.task_network import Adapter, Layout, Scale, TaskNetwork
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.data.target import with_target
from adaptmr.data.weights import initialise
from adaptmr.kernels.fourier import fourier
from adaptmr.reconstruction.networks.checkpoint import Network, build
from adaptmr.reconstruction.networks.varnet import VarNetConfig
from adaptmr.sampling.mask import Mask

MATRIX = (24, 20)
NETWORK = VarNetConfig(cascades=2, channels=4, pools=2, map_channels=4, map_pools=2)
COUNTS = {Split.TRAINING: 3, Split.VALIDATION: 1, Split.TEST: 2}


def made_scan(
    subject: str, seed: int, slices: int = 2, coils: int = 2, matrix: tuple[int, int] = MATRIX
) -> Scan:
    """A fully sampled scan; slices of one seed are alike but for the noise."""
    image = torch.stack([phantom(matrix, seed)] * slices)
    maps = smooth_maps(coils, matrix, torch.complex128)
    clean = fourier(maps * image[:, None])
    kspace = (clean + 0.01 * complex_normal(tuple(clean.shape), seed)).to(torch.complex64)
    return with_target(
        Scan(
            name=f"{subject}.h5",
            kspace=Stack.of(kspace),
            acquired=torch.ones(matrix[1], dtype=torch.bool),
            padding=(0, matrix[1]),
            header=Header(subject=subject),
        )
    )


def made_scans(slices: int = 2, matrix: tuple[int, int] = MATRIX) -> dict[Split, list[Scan]]:
    """Scans of each split, no subject in two."""
    numbers = iter(range(100))
    return {
        split: [
            made_scan(f"{split}-{i}", next(numbers), slices, matrix=matrix) for i in range(count)
        ]
        for split, count in COUNTS.items()
    }


def threshold(scan: Scan) -> Tensor:
    """A label map of three classes by brightness: background, dark, bright."""
    assert scan.target is not None
    share = scan.target[:] / (scan.maximum or 1)
    return (share > 0.2).long() + (share > 0.6).long()


def parity(scan: Scan) -> Tensor:
    """Half of the subjects are of class 1."""
    return torch.full((scan.slices,), int(scan.name.split("-")[1][0]) % 2)


def brightness(scan: Scan) -> Tensor:
    """A number for the whole scan."""
    assert scan.target is not None
    return (scan.target[:].mean() / (scan.maximum or 1)).float()


class Judge(nn.Module):
    """A small network with weights from a seed; pools to a class or a number unless dense."""

    def __init__(self, outputs: int, dimensions: int, *, dense: bool, seed: int = 0) -> None:
        super().__init__()
        kind = nn.Conv2d if dimensions == 2 else nn.Conv3d
        self.first = kind(1, 4, 3, padding=1)
        self.last = kind(4, outputs, 3, padding=1)
        self.dense = dense
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for layer in (self.first, self.last):
                layer.reset_parameters()

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.last(torch.nn.functional.softplus(self.first(image)))
        return logits if self.dense else logits.flatten(2).mean(2)


def judge(outputs: int, *, dense: bool, layout: Layout = Layout.SLICES) -> TaskNetwork:
    network = Judge(outputs, 2 if layout is Layout.SLICES else 3, dense=dense)
    adapter = Adapter(layout=layout, scale=Scale.STANDARD)
    return TaskNetwork(network, adapter, outputs, None, f"judge {outputs} {dense} {layout}")


def made_task(
    name: str,
    kind: Judgement,
    scans: Mapping[Split, list[Scan]],
    label: Callable[[Scan], Tensor] | None = None,
    network: TaskNetwork | None = None,
) -> Task:
    return Task(
        name,
        kind,
        network,
        LOSSES[kind][0],
        METRICS[kind][0],
        0.01,
        {
            split: tuple(Example(scan, label(scan) if label else None) for scan in some)
            for split, some in scans.items()
        },
    )


def made_tasks(scans: Mapping[Split, list[Scan]] | None = None) -> tuple[Task, ...]:
    """Reconstruction, segmentation of slices, classification of slices, regression of volumes."""
    scans = scans or made_scans()
    return (
        made_task("image", Judgement.RECONSTRUCTION, scans),
        made_task("tissue", Judgement.SEGMENTATION, scans, threshold, judge(3, dense=True)),
        made_task("class", Judgement.CLASSIFICATION, scans, parity, judge(2, dense=False)),
        made_task(
            "number",
            Judgement.REGRESSION,
            scans,
            brightness,
            judge(1, dense=False, layout=Layout.VOLUMES),
        ),
    )


def made_network(seed: int = 0) -> Network:
    network = build(NETWORK, seed)
    initialise(network, seed)
    return network


def made_mask() -> Mask:
    positions = torch.zeros(MATRIX[1], dtype=torch.bool)
    positions[::3] = True
    positions[8:12] = True
    return Mask(positions.numpy(), (4,))


def made_work(
    tasks: tuple[Task, ...], strategy: Strategy, steps: int = 6, **config: Any
) -> StageWork:
    """The stage of the last task, the buffer filled by the network as it is."""
    settings = LearnerConfig(
        **{"batch_size": 2, "replay_batch_size": 2, "accelerator": "cpu", **config}
    )
    network, mask = made_network(), made_mask()
    buffer = ReplayBuffer(settings.buffer, mask)
    place, memory = torch.device("cpu"), dict[str, Tensor]()

    def work(index: int) -> StageWork:
        seen = tasks[: index + 1]
        return StageWork(index, seen, network, mask, buffer, settings, steps, place, memory)

    for index in range(len(tasks) - 1):
        before = work(index)
        strategy.after(before)
        if strategy.replays:
            record = partial(recorded, before)
            buffer = buffer.admit(tasks[index], record, np.random.default_rng(index))
    return work(len(tasks) - 1)
