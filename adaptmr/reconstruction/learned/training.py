"""Joint training of a network and the masks it is used with."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat

from adaptmr.data.scan import Scan
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.learned import joint
from adaptmr.reconstruction.learned.joint import LearnerConfig
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.checkpoint import Architecture
from adaptmr.reconstruction.training.config import SeededSchedule, TrainConfig
from adaptmr.reconstruction.training.data import Material
from adaptmr.reconstruction.training.run import material_of, run_folder, run_training
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.generators import MaskSpec

if TYPE_CHECKING:
    from adaptmr.reconstruction.learned.module import JointTraining


class LearnSchedule(SeededSchedule):
    """How a network and its masks are trained."""

    learner: LearnerConfig
    """One mask for all inputs, or a policy."""
    mask_learning_rate: PositiveFloat = 1e-2
    """First learning rate of the learner; that of the network is ``learning_rate``."""


class LearnConfig(TrainConfig, LearnSchedule):
    """One joint training. All scans must have one matrix and padding."""

    masks: tuple[MaskSpec, ...] = Field(min_length=1, max_length=1)
    """Lines or points, acceleration and low-frequency block; the other positions are learned."""


def train_jointly(
    config: LearnConfig, out: Path, *, overwrite: bool = False, resume: bool = True
) -> Path:
    """Train a network and its masks on a folder of scans, see `run.train`.

    Each training step draws masks of the exact budget from the probabilities of the moment: one
    for the batch (LOUPE), or one for each slice (policy). Validation takes the most probable
    positions, as will be used.

    Args:
        config: what to train on what.
        out: folder of the result; appears complete at the end, see `joint.load`.
        overwrite: whether an existing ``out`` may be replaced.
        resume: whether to continue a run that was stopped; otherwise it is thrown away.

    Returns:
        ``out``.

    Raises:
        BadInputError: as `run.train`, or the scans are of several matrices or paddings.
        UsageError: as `run.train`, or the block leaves nothing of the budget.
    """
    material = material_of(config)
    return train_learned(
        config.architecture,
        config,
        material,
        _frame(material.cohort.scans, config.masks[0]),
        out,
        run_folder(out),
        overwrite=overwrite,
        resume=resume,
    )


def train_learned(
    architecture: Architecture,
    config: LearnSchedule,
    material: Material,
    frame: Frame,
    out: Path,
    run: Path,
    *,
    overwrite: bool = False,
    resume: bool = True,
) -> Path:
    """Train a network and its masks on scans that are open already.

    Args:
        architecture: which network, and how large.
        config: how.
        material: on what; all scans of the frame's matrix. Its masks are not looked at.
        frame: lines or points, block and budget of the masks.
        out: folder of the result.
        run: folder of the training while it runs.
        overwrite: as of `train_jointly`.
        resume: as of `train_jointly`.

    Returns:
        ``out``.

    Raises:
        BadInputError: as `run.train`.
        UsageError: as `run.train`.
    """

    def begin() -> "JointTraining":
        from adaptmr.reconstruction.learned.module import JointTraining

        learned = joint.build(architecture, config.learner, frame, config.seed)
        first = checkpoint.begin(architecture, config.seed, material.initial)
        learned.network.load_state_dict(first.state_dict())
        for part in material.frozen:
            learned.network.get_submodule(part).requires_grad_(False)
        return JointTraining(learned, config)

    return run_training(
        config, material, out, run, begin, joint.save, overwrite=overwrite, resume=resume
    )


def _frame(scans: Sequence[Scan], spec: MaskSpec) -> Frame:
    first = scans[0]
    for scan in scans[1:]:
        if (scan.matrix, scan.padding) != (first.matrix, first.padding):
            raise BadInputError(
                "masks are learned for one matrix and padding",
                file=scan.name,
                field="kspace",
                got=f"matrix {scan.matrix}, padding {scan.padding}",
                expected=f"{first.matrix} and {first.padding}, as the first scan",
                hint="Learn masks for each matrix, or crop the scans to one size",
            )
    low_frequency = spec.low_frequency(first.matrix)
    if not all(low_frequency):
        raise BadInputError(
            "masks cannot be learned without a low-frequency block",
            field="center_fraction",
            got=spec.low_frequency_fraction,
            hint="Choose a larger center fraction",
        )
    return Frame.of(first.matrix, low_frequency, spec.acceleration, first.padding)
