"""Whether a policy is adaptive at all: policies of published studies often are not.

Bakker et al. (MIDL 2022, arXiv:2203.16392) find that their best policies give all inputs nearly
the same mask.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from adaptmr.errors import UsageError
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.mask import Mask


def adaptivity(masks: Sequence[Mask]) -> float:
    """One minus the mean overlap of two inputs' masks.

    The overlap is the share of the positions chosen beyond the low-frequency block that both masks
    have. 0 when all masks are the same, 1 when no two share a position.

    Args:
        masks: one per input, of one block and budget.

    Raises:
        UsageError: fewer than two masks, or masks of different kinds.
    """
    frame = _frame(masks)
    chosen = np.sum([mask.positions & frame.candidates for mask in masks], axis=0, dtype=np.int64)
    pairs = len(masks) * (len(masks) - 1)
    return 1.0 - float((chosen * (chosen - 1)).sum()) / (pairs * frame.count)


def collapsed(masks: Sequence[Mask]) -> bool:
    """Whether the masks of two inputs differ by less than one position on average.

    Raises:
        UsageError: as `adaptivity`.
    """
    return adaptivity(masks) * _frame(masks).count < 1.0


def variation(probabilities: Tensor, frame: Frame) -> float:
    """Standard deviation of a position's probability over inputs, mean over the candidates.

    Args:
        probabilities: (inputs, *positions).
        frame: which positions are candidates.

    Raises:
        UsageError: fewer than two inputs.
    """
    if len(probabilities) < 2:
        raise _too_few(len(probabilities))
    candidates = torch.from_numpy(frame.candidates.copy())
    deviation = probabilities.detach().double().cpu().std(0, correction=0)
    return float(deviation[candidates].mean())


def _frame(masks: Sequence[Mask]) -> Frame:
    if len(masks) < 2:
        raise _too_few(len(masks))
    first = masks[0]
    for mask in masks[1:]:
        same_block = mask.low_frequency_only() == first.low_frequency_only()
        if not same_block or mask.budget != first.budget:
            raise UsageError(
                "masks of different size, block or budget cannot be compared",
                field="masks",
                got=f"{mask.budget} positions, block {mask.low_frequency}",
                expected=f"{first.budget} positions, block {first.low_frequency}",
            )
    return Frame.of_mask(first)


def _too_few(count: int) -> UsageError:
    return UsageError(
        "whether masks adapt shows on several inputs",
        field="masks",
        got=count,
        expected="two or more",
    )
