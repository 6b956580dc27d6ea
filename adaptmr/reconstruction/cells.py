"""Methods judged cell by cell, so that a mean does not hide where one fails.

A cell is one way to acquire: acceleration, mask, noise and contrast. Each has two lines, the
quality that is acceptable and the one that is excellent (Zhang et al., "SEAL: A framework for
systematic evaluation of real-world super-resolution", ICLR 2024, arXiv:2309.03020). There the lines
are a small and a large network trained for the cell; here they are whatever was measured on the
same slices, such as zero filling plus 6 dB and a network trained for the cell alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from adaptmr.errors import BadInputError
from adaptmr.reconstruction.statistics import Estimate, paired_bootstrap


@dataclass(frozen=True)
class Cell:
    """One cell; means over its slices, in the unit of the quality.

    Attributes:
        name: label of the cell.
        slices: how many.
        quality: of the method.
        acceptable: the lower line.
        excellent: the upper line.
        gain: quality above the acceptable line, 95 % bootstrap over subjects; None where all
            slices are of one subject.
    """

    name: str
    slices: int
    quality: float
    acceptable: float
    excellent: float
    gain: Estimate | None

    @property
    def accepted(self) -> bool:
        """Whether the quality is at least acceptable."""
        return self.quality >= self.acceptable

    @property
    def ratio(self) -> float:
        """Relative performance ratio: 0.5 at the acceptable line, 0.73 at the excellent one."""
        share = (self.quality - self.acceptable) / (self.excellent - self.acceptable)
        return float(expit(share))


@dataclass(frozen=True)
class CellEvaluation:
    """A method over all cells, each of which weighs the same.

    Attributes:
        cells: in order of their names.
    """

    cells: tuple[Cell, ...]

    @property
    def acceptance_rate(self) -> float:
        """Share of the cells that are accepted."""
        return float(np.mean([cell.accepted for cell in self.cells]))

    @property
    def spread(self) -> float:
        """Interquartile range of the ratios: how unevenly the method performs."""
        low, high = np.quantile([cell.ratio for cell in self.cells], [0.25, 0.75])
        return float(high - low)

    @property
    def accepted_ratio(self) -> float | None:
        """Mean ratio of the accepted cells; None where there are none."""
        return self._mean_ratio(accepted=True)

    @property
    def other_ratio(self) -> float | None:
        """Mean ratio of the cells that are not accepted; None where there are none."""
        return self._mean_ratio(accepted=False)

    @property
    def worst(self) -> Cell:
        """The cell of the lowest ratio."""
        return min(self.cells, key=lambda cell: cell.ratio)

    def _mean_ratio(self, *, accepted: bool) -> float | None:
        ratios = [cell.ratio for cell in self.cells if cell.accepted is accepted]
        return float(np.mean(ratios)) if ratios else None


def evaluate_cells(
    quality: ArrayLike,
    acceptable: ArrayLike,
    excellent: ArrayLike,
    *,
    cells: ArrayLike,
    subjects: ArrayLike,
    seed: int,
) -> CellEvaluation:
    """Judge a method in every cell.

    Args:
        quality: (n,) of the method on each slice; larger is better, all under one protocol.
        acceptable: (n,) the lower line on the same slices.
        excellent: (n,) the upper line on the same slices.
        cells: (n,) label of the cell of each slice.
        subjects: (n,) label of the subject of each slice.
        seed: of the bootstrap.

    Raises:
        BadInputError: columns of different lengths, values that are not finite, a cell whose
            excellent line is not above the acceptable one.
    """
    columns = {"quality": quality, "acceptable": acceptable, "excellent": excellent}
    table = {field: np.asarray(values, dtype=np.float64) for field, values in columns.items()}
    labels, owners = np.asarray(cells).astype(str), np.asarray(subjects)
    shapes = [values.shape for values in (*table.values(), labels, owners)]
    if labels.ndim != 1 or labels.size == 0 or len(set(shapes)) != 1:
        raise BadInputError(
            "the columns of the table do not fit together",
            field="quality",
            got=shapes,
            expected="(n,) each",
        )
    for field, values in table.items():
        if not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values))[0])
            raise BadInputError(
                "values are not finite", field=field, slice_index=bad, got=values[bad]
            )
    found = []
    for name in np.unique(labels):
        inside = labels == name
        method, low, high = (values[inside] for values in table.values())
        if not high.mean() > low.mean():
            raise BadInputError(
                f"the excellent line of cell '{name}' is not above the acceptable one",
                field="excellent",
                got=float(high.mean()),
                expected=f"above {float(low.mean()):g}",
                hint="Take a better reference, or call less acceptable",
            )
        several = len(np.unique(owners[inside])) > 1
        found.append(
            Cell(
                str(name),
                int(inside.sum()),
                float(method.mean()),
                float(low.mean()),
                float(high.mean()),
                paired_bootstrap(method - low, owners[inside], seed=seed) if several else None,
            )
        )
    return CellEvaluation(tuple(found))
