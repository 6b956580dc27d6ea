"""From the tables of all seeds to rows, head-room and confusion."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adaptmr.errors import BadInputError
from adaptmr.reconstruction.cells import evaluate_cells
from adaptmr.reconstruction.statistics import paired_bootstrap
from adaptmr.workflows.benchmark.config import Baseline, BenchmarkConfig
from adaptmr.workflows.benchmark.examined import METRICS, PROTOCOL, Examined
from adaptmr.workflows.benchmark.methods import Kind, Method
from adaptmr.workflows.benchmark.results import (
    CellResult,
    Cells,
    Choices,
    Confusion,
    Difference,
    HeadRoom,
    Realised,
    Row,
)

Key = tuple[str, int | None]
Values = NDArray[np.float64]

BOOTSTRAP_SEED = 0
BEST, ONE, ORACLE = "best single", "J = 1", "oracle"
BEST_OF_SEEDS, ORACLE_OF_SEEDS = "best of seeds", "oracle of seeds"


@dataclass(frozen=True, eq=False)
class Findings:
    """All methods of all seeds.

    Attributes:
        config: the benchmark.
        test: the slices.
        seeds: of each seed, its methods; the same ones in the same order.
    """

    config: BenchmarkConfig
    test: Examined
    seeds: Sequence[Sequence[Method]]

    @cached_property
    def tables(self) -> dict[Key, NDArray[np.float64]]:
        """(seeds, slices, 3) metrics of each method."""
        return {
            (first.name, first.count): np.stack(
                [methods[index].metrics.numpy() for methods in self.seeds]
            )
            for index, first in enumerate(self.seeds[0])
        }

    @cached_property
    def subjects(self) -> list[str]:
        """Of each slice."""
        return self.test.subjects

    def quality(self, name: str, count: int | None) -> Values | None:
        """(slices,) metric that is decided by, mean over seeds; None without such a method."""
        table = self.tables.get((name, count))
        return None if table is None else table.mean(0)[:, METRICS.index(self.config.metric)]

    def required(self, name: str, count: int | None) -> Values:
        """As `quality`, of a method that there is."""
        found = self.quality(name, count)
        assert found is not None  # noqa: S101 - every benchmark has these
        return found

    def difference(self, values: Values) -> Difference:
        """Mean of paired differences with its interval."""
        return Difference.of(paired_bootstrap(values, self.subjects, seed=BOOTSTRAP_SEED))


def rows(found: Findings) -> tuple[Row, ...]:
    """One row for each method."""
    rooms = {room.J: room for room in head_rooms(found)}
    return tuple(
        _row(found, index, rooms.get(method.count or 0))
        for index, method in enumerate(found.seeds[0])
    )


def head_rooms(found: Findings) -> tuple[HeadRoom, ...]:
    """The head-room of each J above 1."""
    rooms = []
    for count in found.config.counts[1:]:
        gain = found.required(ORACLE, count) - found.required(BEST, count)
        best, oracle = (found.quality(name, count) for name in (BEST_OF_SEEDS, ORACLE_OF_SEEDS))
        of_seeds = None if best is None or oracle is None else oracle - best
        rooms.append(
            HeadRoom(
                J=count,
                distinct_masks=_distinct(found, count),
                oracle=found.difference(gain),
                seeds=None if of_seeds is None else found.difference(of_seeds),
                corrected=None if of_seeds is None else found.difference(gain - of_seeds),
            )
        )
    return tuple(rooms)


def confusions(found: Findings) -> tuple[Confusion, ...]:
    """Choices of each selector beside the oracle's, summed over seeds."""
    return tuple(
        Confusion(method=name, J=count, counts=tuple(map(tuple, np.sum(tables, axis=0).tolist())))
        for (name, count), tables in _chosen(found).items()
    )


def choices(found: Findings) -> tuple[Choices, ...]:
    """How each selector spread its choices, and whether it collapsed."""
    return tuple(
        Choices(
            method=name,
            J=count,
            shares=tuple(np.mean([_shares(table) for table in tables], axis=0).tolist()),
            entropy=float(np.mean([_entropy(_shares(table)) for table in tables])),
            agreement=float(np.mean([table.trace() / table.sum() for table in tables])),
        )
        for (name, count), tables in _chosen(found).items()
    )


def cells(found: Findings, selector: str) -> Cells | None:
    """The selector of the verdict by contrast and orientation; None where no lines can be drawn.

    Acceptable is variable density (or J = 1), excellent the best of all that was measured.
    """
    density = found.quality(Baseline.VARIABLE_DENSITY, None)
    acceptable = found.required(ONE, 1) if density is None else density
    excellent = np.max([found.required(*key) for key in found.tables], axis=0)
    try:
        evaluation = evaluate_cells(
            found.required(selector, found.config.main),
            acceptable,
            excellent,
            cells=found.test.cells,
            subjects=found.subjects,
            seed=BOOTSTRAP_SEED,
        )
    except BadInputError:
        return None
    return Cells(
        method=selector,
        acceptable=ONE if density is None else Baseline.VARIABLE_DENSITY,
        excellent="the best of all methods on each slice",
        acceptance_rate=evaluation.acceptance_rate,
        accepted_ratio=evaluation.accepted_ratio,
        spread=evaluation.spread,
        cells=tuple(
            CellResult(
                cell=cell.name,
                slices=cell.slices,
                quality=cell.quality,
                acceptable=cell.acceptable,
                excellent=cell.excellent,
                ratio=cell.ratio,
                accepted=cell.accepted,
            )
            for cell in evaluation.cells
        ),
    )


def _chosen(found: Findings) -> dict[tuple[str, int], list[NDArray[np.int64]]]:
    """(J, J) slices of each seed by pair chosen and best pair, for each selector."""
    tables: dict[tuple[str, int], list[NDArray[np.int64]]] = {}
    for methods in found.seeds:
        oracles = {m.count: m.chosen for m in methods if m.kind is Kind.ORACLE}
        for method in methods:
            best = oracles.get(method.count)
            if method.kind is not Kind.SELECTOR or method.chosen is None or best is None:
                continue
            count = method.count or 1
            flat = method.chosen.numpy() * count + best.numpy()
            table = np.bincount(flat, minlength=count * count).reshape(count, count)
            tables.setdefault((method.name, count), []).append(table)
    return tables


def _distinct(found: Findings, count: int) -> tuple[int, ...]:
    """Different masks among the pairs, for each seed."""
    return tuple(
        len({m.examples for m in methods if m.kind is Kind.PAIR and m.count == count})
        for methods in found.seeds
    )


def _shares(table: NDArray[np.int64]) -> Values:
    shares: Values = table.sum(1) / table.sum()
    return shares


def _entropy(shares: Values) -> float:
    """In bits."""
    positive = shares[shares > 0]
    return abs(float((positive * np.log2(positive)).sum()))


def _row(found: Findings, index: int, room: HeadRoom | None) -> Row:
    method = found.seeds[0][index]
    table = found.tables[method.name, method.count]
    means = table.mean((0, 1))
    column = METRICS.index(found.config.metric)
    quality = table.mean(0)[:, column]
    estimate = found.difference(quality)
    references = _references(found, method)
    return Row(
        method=method.name,
        kind=method.kind,
        J=method.count,
        protocol=PROTOCOL,
        n=len(quality),
        seeds=len(table),
        ssim=float(means[0]),
        psnr=float(means[1]),
        nmse=float(means[2]),
        acceleration=float(np.mean([methods[index].acceleration for methods in found.seeds])),
        interval=estimate.interval,
        by_seed=tuple(table[..., column].mean(1).tolist()),
        worst_5=_worst(quality, 0.05),
        worst_10=_worst(quality, 0.1),
        differences={
            name: found.difference(quality - reference) for name, reference in references.items()
        },
        realised=_realised(found, quality, room) if method.kind is Kind.SELECTOR else None,
    )


def _references(found: Findings, method: Method) -> Mapping[str, Values]:
    """What a method is compared with: the best single pair of its J, J = 1, variable density."""
    count = found.config.main if method.count is None else method.count
    named = {
        f"{BEST} of {count}": (BEST, count),
        ONE: (ONE, 1),
        Baseline.VARIABLE_DENSITY.value: (Baseline.VARIABLE_DENSITY.value, None),
    }
    own = (method.name, method.count)
    known = {
        name: values
        for name, key in named.items()
        if key != own and (values := found.quality(*key)) is not None
    }
    if method.kind is Kind.PER_SCAN and not method.name.startswith("mean"):
        _, network = method.name.split(", ")
        known[f"mean mask, {network}"] = found.required(f"mean mask, {network}", None)
    return known


def _realised(found: Findings, quality: Values, room: HeadRoom | None) -> Realised | None:
    if room is None:
        return None
    gain = float((quality - found.required(BEST, room.J)).mean())
    corrected = None if room.corrected is None else room.corrected.mean
    return Realised(
        raw=gain / room.oracle.mean if room.oracle.mean > 0 else None,
        seed_corrected=gain / corrected if corrected is not None and corrected > 0 else None,
    )


def _worst(quality: Values, share: float) -> float:
    """Mean over the worst slices, at least one."""
    return float(np.sort(quality)[: max(1, math.ceil(share * len(quality)))].mean())
