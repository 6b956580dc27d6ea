"""The first network and the tasks of ``continual.py``: networks that judge, trained or exported."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import Tensor, nn

from adaptmr.continual.study import LEARNER, Study
from adaptmr.continual.task import LOSSES, METRICS, Judgement, Loss, Metric, Split, Task
from adaptmr.continual.task_files import load_task
from adaptmr.continual.task_network_files import UNetJudge
from adaptmr.continual.task_training import TaskNetworkTraining
from adaptmr.data.annotations import LabelMap, Presence, Share
from adaptmr.data.participants import Part
from adaptmr.reconstruction.networks.varnet import VarNetConfig
from adaptmr.reconstruction.training.cohort import Cohort, fingerprint
from adaptmr.reconstruction.training.config import SeededSchedule
from adaptmr.reconstruction.training.data import Material
from adaptmr.reconstruction.training.run import run_folder, train_network
from adaptmr.sampling.generators import MaskKind, MaskSpec
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.sources import FixedMask
from adaptmr.workflows.continual.config import GivenJudge, LabelledScans, TaskConfig, TrainedJudge
from adaptmr.workflows.continual.tasks import train_task

NETWORK = VarNetConfig(cascades=2, channels=8, pools=1, map_channels=4, map_pools=1)
MASK = MaskSpec(kind=MaskKind.EQUISPACED_FRACTION, acceleration=4, center_fraction=0.08)
SIZE = 48


class SoftShare(nn.Module):
    """How much of the tissue is of class 1, by the probabilities of a segmentation.

    Args:
        segmentation: images to raw outputs of classes; 0 is the background.
    """

    def __init__(self, segmentation: nn.Module) -> None:
        super().__init__()
        self.segmentation = segmentation
        self.slope, self.offset = 1.0, 0.0

    def measure(self, image: Tensor) -> Tensor:
        """(slices,) shares, as the segmentation has them."""
        areas = self.segmentation(image).softmax(1).sum((-2, -1))
        share: Tensor = areas[:, 1] / (areas[:, 1:].sum(1) + 1e-3)
        return share

    def forward(self, image: Tensor) -> Tensor:
        """(slices, 1) shares."""
        return (self.slope * self.measure(image) + self.offset)[:, None]


class SoftPresence(nn.Module):
    """Whether there is any of class 1, by the pixels that a segmentation gives it.

    Args:
        segmentation: as of `SoftShare`.
    """

    def __init__(self, segmentation: nn.Module) -> None:
        super().__init__()
        self.segmentation = segmentation
        self.slope, self.offset = 1.0, 0.0

    def measure(self, image: Tensor) -> Tensor:
        """(slices,) pixels of class 1."""
        area: Tensor = self.segmentation(image).softmax(1)[:, 1].sum((-2, -1))
        return area

    def forward(self, image: Tensor) -> Tensor:
        """(slices, 2) raw outputs."""
        present = self.slope * self.measure(image) + self.offset
        return torch.stack((torch.zeros_like(present), present), 1)


def unet(outputs: int, epochs: int) -> TrainedJudge:
    return TrainedJudge(
        architecture=UNetJudge(channels=(16, 32, 64), outputs=outputs),
        training=TaskNetworkTraining(epochs=epochs, learning_rate=3e-3, accelerator="cpu"),
    )


TISSUE = LabelMap(classes=((1,), (2,), (3,), (4,)))
TUMOUR = LabelMap(dataset="lesions", classes=((2, 3, 4),))


def segmentations(studies: Path) -> dict[str, TaskConfig]:
    """The segmentation networks, by name; the last two only serve to measure."""
    settings = (
        ("tissue", "t1", TISSUE, Loss.CROSS_ENTROPY, unet(5, 20)),
        ("tumour", "flair", TUMOUR, Loss.DICE_CROSS_ENTROPY, unet(2, 20)),
        ("detection-map", "detection", TUMOUR, Loss.DICE_CROSS_ENTROPY, unet(2, 12)),
        ("fluid-map", "pd", TISSUE, Loss.CROSS_ENTROPY, unet(5, 20)),
    )
    return {
        name: TaskConfig(
            name=name,
            study=LabelledScans(folder=studies / study),
            annotation=annotation,
            loss=loss,
            network=network,
        )
        for name, study, annotation, loss, network in settings
    }


def measurements(studies: Path, work: Path) -> dict[str, TaskConfig]:
    """A class and a number by what a segmentation measures: exported programs, taken over."""
    presence = TaskConfig(
        name="detection",
        study=LabelledScans(folder=studies / "detection"),
        annotation=Presence(dataset="lesions", numbers=(2, 3, 4), pixels=4),
        metric=Metric.LIKELIHOOD,
        margin=0.02,
        network=GivenJudge(file=work / "programs" / "detection.pt2"),
    )
    share = TaskConfig(
        name="fluid",
        study=LabelledScans(folder=studies / "pd"),
        annotation=Share(numbers=(1,), among=(1, 2, 3, 4)),
        margin=0.002,
        network=GivenJudge(file=work / "programs" / "fluid.pt2"),
    )
    return {"detection": presence, "fluid": share}


def folder_of(config: TaskConfig) -> Path:
    if not isinstance(config.study, LabelledScans):
        raise TypeError("the studies of the benchmark are folders")
    return config.study.folder


def program(config: TaskConfig, work: Path) -> nn.Module:
    """What measures, from a trained segmentation; fitted on those that trained it."""
    maps = load_task(work / "tasks" / f"{config.name}-map").network.network
    parts = {Split.TRAINING: Part.TASK_TRAINING}
    examples = Study.open(folder_of(config)).examples(config.annotation, parts)[Split.TRAINING]
    found = SoftShare(maps) if config.name == "fluid" else SoftPresence(maps)
    with torch.no_grad():
        measured_by = [found.measure(config.adapter(example.target[:])) for example in examples]
    measured_as = torch.cat(measured_by)[:, None].numpy()
    labels = torch.cat([example.label for example in examples if example.label is not None])
    law = LinearRegression() if config.name == "fluid" else LogisticRegression()
    law.fit(measured_as, labels.numpy())
    found.slope, found.offset = float(np.ravel(law.coef_)[0]), float(np.ravel(law.intercept_)[0])
    return found


def prepare(studies: Path, work: Path) -> dict[str, TaskConfig]:
    """The tasks in the order they are learned, their networks trained unless they were before."""
    found = segmentations(studies)
    given = measurements(studies, work)
    for name, config in (*found.items(), *given.items()):
        if (work / "tasks" / name).exists():
            continue
        if isinstance(config.network, GivenJudge):
            config.network.file.parent.mkdir(exist_ok=True)
            slices = {0: torch.export.Dim("slices", min=1, max=1024)}
            some = torch.rand(2, 1, SIZE, SIZE)
            exported = torch.export.export(program(config, work), (some,), dynamic_shapes=(slices,))
            torch.export.save(exported, config.network.file)
        trained = train_task(config, work / "tasks" / name)
        print(f"{name}: {trained.metric} {trained.score:.3f} of full images", flush=True)
    return {name: config for name, config in (found | given).items() if "map" not in name}


def pretrained(study: Study, mask: Mask, out: Path, epochs: int) -> Path:
    """The network of stage 0, trained for the reconstruction of the training subjects."""
    if not out.exists():
        found = study.examples(None, LEARNER)
        training, validation = (
            tuple(example.scan for example in found[split])
            for split in (Split.TRAINING, Split.VALIDATION)
        )
        cohort = Cohort(training, validation, fingerprint(study.folder, study.scans))
        schedule = SeededSchedule(
            epochs=epochs,
            batch_size=4,
            learning_rate=2e-3,
            learning_rate_step=8,
            accelerator="cpu",
        )
        material = Material(cohort, (FixedMask(mask),))
        train_network(NETWORK, schedule, material, out, run_folder(out))
    return out


def tasks_of(studies: Path, work: Path) -> tuple[Task, ...]:
    """The tasks with their data; those of one study share its scans."""
    opened = cache(Study.open)
    first = Task(
        "reconstruction",
        Judgement.RECONSTRUCTION,
        None,
        LOSSES[Judgement.RECONSTRUCTION][0],
        METRICS[Judgement.RECONSTRUCTION][0],
        0.005,
        opened(studies / "t1").examples(None, LEARNER),
    )
    found = [first]
    for name, config in prepare(studies, work).items():
        study = opened(folder_of(config))
        stored = load_task(work / "tasks" / name)
        found.append(stored.on(study.examples(config.annotation, LEARNER)))
    return tuple(found)
