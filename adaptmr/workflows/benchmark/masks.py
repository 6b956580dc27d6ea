"""The masks of the baselines, of the same frame and budget as the bank's."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from adaptmr.errors import UsageError
from adaptmr.sampling import bank as banks
from adaptmr.sampling.bank import MaskBank, RefineConfig
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.informed import DrawRule, informed_mask
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.refinement import CapturedVariance

# Sets the streams of random numbers of one seed apart from those of the trainings.
_OFFSET, _OTHERS = 101, 102


def equispaced(frame: Frame, seed: int) -> Mask:
    """Lines at equal distances outside the low-frequency block, the first one drawn.

    Raises:
        UsageError: the frame is of points.
    """
    if frame.axes != 1:
        raise UsageError("equispaced masks are of lines", field="positions", got="points")
    candidates = np.flatnonzero(frame.candidates)
    offset = np.random.default_rng((seed, _OFFSET)).random()
    steps = (np.arange(frame.count) + offset) * len(candidates) / frame.count
    chosen = np.zeros_like(frame.candidates)
    chosen[candidates[steps.astype(int)]] = True
    return frame.mask(chosen, {"generator": "equispaced", "seed": seed})


def mask_of(values: Tensor, frame: Frame, rule: DrawRule, refine: RefineConfig | None) -> Mask:
    """The mask of one uncertainty, made as a bank's masks are made of their centroids.

    Args:
        values: (readout, phase), not negative.
        frame: lines or points, block, budget.
        rule: how to draw.
        refine: how to capture more of the variance; stays as drawn when not given.
    """
    mask = informed_mask(values, frame, rule)
    if refine is None:
        return mask
    alone = MaskBank((mask,), values.float()[None], (1,))
    labels = torch.zeros(1, dtype=torch.int64)
    scorer = CapturedVariance(values[None])
    return banks.refine(alone, labels, lambda _: scorer, refine, [rule]).masks[0]


def of_others(masks: Sequence[Mask], subjects: Sequence[str], seed: int) -> list[Mask]:
    """For each slice the mask of a slice of another subject, drawn at random.

    Args:
        masks: of each slice.
        subjects: of each slice; at least two different ones.
        seed: of the draws.
    """
    generator = np.random.default_rng((seed, _OTHERS))
    owners = np.array(subjects)
    return [masks[int(generator.choice(np.flatnonzero(owners != own)))] for own in subjects]
