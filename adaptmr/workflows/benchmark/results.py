"""What a benchmark found, as it is written."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from adaptmr.reconstruction.metrics import ProtocolName
from adaptmr.reconstruction.statistics import Estimate
from adaptmr.workflows.benchmark.config import Metric
from adaptmr.workflows.benchmark.methods import Kind

Interval = tuple[float, float]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Difference(_Part):
    """A mean of paired differences; 95 % bootstrap over subjects."""

    mean: float
    interval: Interval

    @property
    def positive(self) -> bool:
        """Whether the interval lies above zero."""
        return self.interval[0] > 0

    @classmethod
    def of(cls, estimate: Estimate) -> "Difference":
        """From a bootstrap."""
        return cls(mean=estimate.mean, interval=(estimate.low, estimate.high))


class Realised(_Part):
    """How much of what the oracle gains over the best single pair a selector gains."""

    raw: float | None
    """Of the oracle's gain; null where it gains nothing."""
    seed_corrected: float | None
    """Of that gain less what seeds alone give; null where nothing is left, or was not measured."""


class Row(_Part):
    """One method; means over slices of means over seeds."""

    method: str
    kind: Kind
    J: int | None
    """Masks chosen among; null where there is no bank."""
    protocol: ProtocolName
    n: int
    """Slices."""
    seeds: int
    ssim: float
    psnr: float
    nmse: float
    acceleration: float
    """Measured."""
    interval: Interval
    """Of the metric that is decided by."""
    by_seed: tuple[float, ...]
    """The metric that is decided by, for each seed."""
    worst_5: float
    """The metric, mean over the worst 5 % of the slices."""
    worst_10: float
    differences: dict[str, Difference]
    """To reference methods, in the metric."""
    realised: Realised | None
    """Of a selector."""


class HeadRoom(_Part):
    """What choosing among J pairs can gain over the best single one."""

    J: int
    distinct_masks: tuple[int, ...]
    """Different masks among the pairs, for each seed."""
    oracle: Difference
    """Of the oracle over the best single pair."""
    seeds: Difference | None
    """The same of as many networks that differ by their seed alone; null if not measured."""
    corrected: Difference | None
    """The first less the second."""


class Confusion(_Part):
    """What a selector chose, beside the oracle."""

    method: str
    J: int
    counts: tuple[tuple[int, ...], ...]
    """Row: pair chosen; column: pair of the oracle; pairs ordered by the selection subjects, best
    first; summed over seeds."""


class Choices(_Part):
    """How a selector spread its choices; means over seeds."""

    method: str
    J: int
    shares: tuple[float, ...]
    """How often each pair was chosen."""
    entropy: float
    """Of a seed's shares, in bits; 0 where one pair was always chosen."""
    agreement: float
    """Share of slices for which the oracle's pair was chosen."""


class Policy(_Part):
    """Whether the learned policy is adaptive at all."""

    seed: int
    adaptivity: float
    collapsed: bool
    distinct_masks: int


class CellResult(_Part):
    """One contrast and orientation."""

    cell: str
    slices: int
    quality: float
    acceptable: float
    excellent: float
    ratio: float
    accepted: bool


class Cells(_Part):
    """A method judged cell by cell, see `adaptmr.reconstruction.cells`."""

    method: str
    acceptable: str
    """What the lower line is."""
    excellent: str
    """What the upper line is."""
    acceptance_rate: float
    accepted_ratio: float | None
    spread: float
    cells: tuple[CellResult, ...]


class SizeCoverage(_Part):
    """Coverage of intervals of about one width."""

    low: float
    high: float
    coverage: float


class Coverage(_Part):
    """What the intervals of the bank did on the test subjects; first seed, J of the training."""

    nominal: float
    subjects: int
    slices: int
    coverage: Difference
    width: Difference
    """As share of the mean signal."""
    rank_correlation: Difference | None
    """Of width and error."""
    worst_size: float
    """Least coverage over the bins of width."""
    sizes: tuple[SizeCoverage, ...]
    rings: tuple[float | None, ...]
    """Share of pixels missed, from the centre outwards."""


class BenchmarkResult(_Part):
    """``results.json``."""

    benchmark: Literal["adaptive_selection"] = "adaptive_selection"
    verdict: str
    pays: bool
    """Whether the intervals of the training's selector against the best single pair, J = 1 and
    variable density all lie above zero, at the training's J."""
    metric: Metric
    protocol: ProtocolName
    subjects: int
    slices: int
    seeds: tuple[int, ...]
    J: int
    """Of the verdict."""
    selector: str
    """Of the verdict."""
    rows: tuple[Row, ...]
    head_room: tuple[HeadRoom, ...]
    choices: tuple[Choices, ...]
    confusion: tuple[Confusion, ...]
    policy: tuple[Policy, ...]
    cells: Cells | None
    coverage: Coverage | None
    why_no_coverage: str | None
    notes: tuple[str, ...]
    environment: dict[str, str]

    def row(self, method: str, count: int | None) -> Row | None:
        """The row of that name and J."""
        found = (row for row in self.rows if (row.method, row.J) == (method, count))
        return next(found, None)
