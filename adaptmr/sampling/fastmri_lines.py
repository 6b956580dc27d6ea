"""fastMRI's line masks, reproduced draw by draw (``fastmri.data.subsample``).

Each rule takes the number of columns, the number of central lines, the acceleration and fastMRI's
legacy random state, and returns the lines acquired besides the central ones, bool, (columns,).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from adaptmr.errors import UsageError

Rule = Callable[[int, int, float, np.random.RandomState], NDArray[np.bool_]]


def generator(seed: int | tuple[int, ...]) -> np.random.RandomState:
    """The random state of fastMRI: the legacy Mersenne twister, whose stream NumPy keeps frozen."""
    return np.random.RandomState(seed)


def random(
    columns: int, central: int, acceleration: float, state: np.random.RandomState
) -> NDArray[np.bool_]:
    """``RandomMaskFunc``: each line alone, with the probability that meets the budget on average.

    The central columns are drawn too, as fastMRI draws them.
    """
    if columns == central:
        return np.ones(columns, dtype=np.bool_)
    probability = (columns / acceleration - central) / (columns - central)
    return np.asarray(state.uniform(size=columns) < probability)


def equispaced(
    columns: int,
    central: int,  # noqa: ARG001 - one signature for all rules
    acceleration: float,
    state: np.random.RandomState,
) -> NDArray[np.bool_]:
    """``EquiSpacedMaskFunc``: every ``acceleration``-th line from a random offset."""
    step = _whole(acceleration)
    lines = np.zeros(columns, dtype=np.bool_)
    lines[state.randint(0, high=step) :: step] = True
    return lines


def equispaced_fraction(
    columns: int, central: int, acceleration: float, state: np.random.RandomState
) -> NDArray[np.bool_]:
    """``EquispacedMaskFractionFunc``: rounded steps, widened so that the centre is paid for.

    Not exactly equispaced, and the last column is never a step (fastMRI issue 54).
    """
    lines = np.zeros(columns, dtype=np.bool_)
    if central * acceleration == columns:  # the centre is the whole budget: the step is infinite
        return lines
    step = (acceleration * (central - columns)) / (central * acceleration - columns)
    offset = state.randint(0, high=max(1, round(step)))
    lines[np.around(np.arange(offset, columns - 1, step)).astype(np.uint)] = True
    return lines


def magic(
    columns: int,
    central: int,  # noqa: ARG001 - one signature for all rules
    acceleration: float,
    state: np.random.RandomState,
) -> NDArray[np.bool_]:
    """``MagicMaskFunc``: equispaced, the two halves of k-space offset against each other.

    Source: Defazio, "Offset Sampling Improves Deep Learning based Accelerated MRI
    Reconstructions by Exploiting Symmetry", arXiv 1912.01101.
    """
    step = _whole(acceleration)
    offset = int(state.randint(0, high=step))
    first, second = (offset + 1, offset + 2) if offset % 2 == 0 else (offset + 2, offset - 1)
    positive = np.zeros((columns + 1) // 2, dtype=np.bool_)
    negative = np.zeros(columns // 2, dtype=np.bool_)
    positive[first::step] = True
    negative[second::step] = True
    return np.fft.fftshift(np.concatenate((positive, negative[::-1])))


def _whole(acceleration: float) -> int:
    if acceleration != int(acceleration):
        raise UsageError(
            "equispaced lines need a whole acceleration",
            field="acceleration",
            got=acceleration,
            expected=f"{int(acceleration)} or {int(acceleration) + 1}",
        )
    return int(acceleration)
