"""Evaluation by cells."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from adaptmr.errors import BadInputError
from adaptmr.reconstruction.cells import CellEvaluation, evaluate_cells
from adaptmr.reconstruction.statistics import paired_bootstrap

quick = settings(max_examples=30, deadline=None)


def table(seed: int, cells: int = 5, subjects: int = 4) -> dict[str, np.ndarray]:
    """Two slices of each subject in each cell."""
    generator, count = np.random.default_rng(seed), 2 * cells * subjects
    acceptable = generator.uniform(25, 35, count)
    return {
        "quality": acceptable + generator.normal(1, 2, count),
        "acceptable": acceptable,
        "excellent": acceptable + generator.uniform(1, 4, count),
        "cells": np.arange(count) % cells,
        "subjects": np.arange(count) // cells % subjects,
    }


def evaluated(of: dict[str, np.ndarray]) -> CellEvaluation:
    return evaluate_cells(**of, seed=0)


@quick
@given(st.integers(0, 10**6))
def test_numbers_are_those_of_the_definitions(seed: int) -> None:
    of = table(seed)
    found = evaluated(of)
    ratios, accepted = [], []
    for name in range(5):
        inside = of["cells"] == name
        quality, low, high = (
            of[field][inside].mean() for field in ("quality", "acceptable", "excellent")
        )
        ratios.append(1 / (1 + math.exp(-(quality - low) / (high - low))))
        accepted.append(quality >= low)
    chosen = np.array(accepted)
    assert [cell.ratio for cell in found.cells] == pytest.approx(ratios)
    assert [cell.accepted for cell in found.cells] == accepted
    assert all((cell.ratio >= 0.5) is cell.accepted for cell in found.cells)
    assert found.acceptance_rate == np.mean(accepted)
    assert found.spread == pytest.approx(np.subtract(*np.quantile(ratios, [0.75, 0.25])))
    assert found.worst.ratio == pytest.approx(min(ratios))
    for said, which in ((found.accepted_ratio, chosen), (found.other_ratio, ~chosen)):
        expected = np.mean(np.array(ratios)[which]) if which.any() else None
        assert said == (None if expected is None else pytest.approx(expected))
    first = of["cells"] == 0
    gain = (of["quality"] - of["acceptable"])[first]
    assert found.cells[0].gain == paired_bootstrap(gain, of["subjects"][first], seed=0)


@quick
@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-50, 50))
def test_units_do_not_matter(seed: int, by: float, up: float) -> None:
    of = table(seed)
    lines = ("quality", "acceptable", "excellent")
    moved = of | {field: by * of[field] + up for field in lines}
    ratios = [[cell.ratio for cell in evaluated(each).cells] for each in (of, moved)]
    assert ratios[1] == pytest.approx(ratios[0])


def test_the_lines_themselves() -> None:
    of = table(0)
    at_low = evaluated(of | {"quality": of["acceptable"]})
    assert at_low.acceptance_rate == 1
    assert at_low.accepted_ratio == 0.5
    assert at_low.other_ratio is None
    at_high = evaluated(of | {"quality": of["excellent"]})
    assert at_high.accepted_ratio == pytest.approx(1 / (1 + math.exp(-1)))
    assert at_high.spread == pytest.approx(0)
    below = evaluated(of | {"quality": of["acceptable"] - 1})
    assert below.acceptance_rate == 0
    assert below.accepted_ratio is None


def test_a_cell_that_fails_is_named_though_the_mean_is_fine() -> None:
    of = table(0)
    quality = of["excellent"] + 2 - 6 * (of["cells"] == 3)
    found = evaluated(of | {"quality": quality})
    assert (quality - of["acceptable"]).mean() > 0
    assert found.worst.name == "3"
    assert found.acceptance_rate == 0.8
    assert found.worst.gain is not None
    assert found.worst.gain.high < 0


def test_cells_of_one_subject_have_no_interval() -> None:
    of = table(0)
    found = evaluated(of | {"cells": of["subjects"]})
    assert [cell.gain for cell in found.cells] == [None] * 4


def test_bad_tables_are_refused() -> None:
    of = table(0)
    with pytest.raises(BadInputError, match=r"excellent line of cell '0' is not above"):
        evaluated(of | {"excellent": of["acceptable"]})
    wrong = of["quality"].copy()
    wrong[4] = np.inf
    with pytest.raises(BadInputError, match=r"slice 4.*'quality'.*not finite"):
        evaluated(of | {"quality": wrong})
    with pytest.raises(BadInputError, match="do not fit together"):
        evaluated(of | {"subjects": of["subjects"][1:]})
    with pytest.raises(BadInputError, match="do not fit together"):
        evaluated({field: values[:0] for field, values in of.items()})
