from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptmr.continual.allocation import Candidate, allocate, quotas
from adaptmr.continual.config import Policy
from adaptmr.errors import BadInputError


def group(task: str, count: int, classes: int = 0) -> list[Candidate]:
    return [
        Candidate(task, f"{task}-{i}", float(i % classes if classes else i), classes > 0)
        for i in range(count)
    ]


@given(capacity=st.integers(1, 100), tasks=st.integers(1, 20))
def test_quotas_sum_to_the_capacity(capacity: int, tasks: int) -> None:
    for policy in (Policy.REALLOCATION, Policy.BALANCED):
        if capacity < tasks:
            with pytest.raises(BadInputError, match="smaller than the number of tasks"):
                quotas(policy, capacity, tasks)
        else:
            numbers = quotas(policy, capacity, tasks)
            assert sum(numbers) == capacity
            assert len(numbers) == tasks
            assert min(numbers) >= 1


@pytest.mark.parametrize(
    ("capacity", "expected"),
    [
        (4, [(4,), (2, 2), (1, 1, 2), (1, 1, 1, 1)]),
        (10, [(10,), (5, 5), (3, 3, 4), (2, 2, 2, 4)]),
        (50, [(50,), (25, 25), (16, 16, 18), (12, 12, 12, 14)]),
    ],
)
def test_reallocation_is_the_published_one(capacity: int, expected: list[tuple[int]]) -> None:
    found = [quotas(Policy.REALLOCATION, capacity, tasks) for tasks in range(1, 5)]
    assert found == expected


@pytest.mark.parametrize("policy", Policy)
def test_what_is_kept_over_stages_was_there_before(policy: Policy) -> None:
    generator = np.random.default_rng(0)
    held: dict[str, list[Candidate]] = {}
    seen = 0
    for task in "abcd":
        finished = group(task, 9)
        chosen = allocate(policy, 6, held, finished, seen, generator)
        assert len(set(chosen)) == len(chosen) == 6
        known = {each for of in held.values() for each in of} | set(finished)
        assert set(chosen) <= known
        seen += len(finished)
        held = {name: [each for each in chosen if each.task == name] for name in [*held, task]}
    if policy is not Policy.RESERVOIR:
        assert tuple(map(len, held.values())) == quotas(policy, 6, 4)


def test_a_reservoir_keeps_every_subject_equally_often() -> None:
    counts: Counter[str] = Counter()
    rounds = 3000
    for seed in range(rounds):
        generator = np.random.default_rng(seed)
        first = allocate(Policy.RESERVOIR, 3, {}, group("a", 4), 0, generator)
        chosen = allocate(Policy.RESERVOIR, 3, {"a": first}, group("b", 8), 4, generator)
        counts.update(each.subject for each in chosen)
    assert len(counts) == 12
    # Three of twelve: a quarter of the rounds, give or take four standard deviations.
    spread = 4 * (rounds * 0.25 * 0.75) ** 0.5
    assert all(abs(count - rounds / 4) < spread for count in counts.values())


def test_balanced_has_each_class_and_spreads_numbers() -> None:
    generator = np.random.default_rng(1)
    uneven = [Candidate("a", str(i), float(i > 8), True) for i in range(12)]
    chosen = allocate(Policy.BALANCED, 4, {}, uneven, 0, generator)
    assert Counter(each.label for each in chosen) == {0.0: 2, 1.0: 2}
    numbers = allocate(Policy.BALANCED, 4, {}, group("b", 12), 0, generator)
    assert [int(each.label or 0) // 3 for each in numbers] == [0, 1, 2, 3]


def test_fewer_subjects_than_their_share_are_all_kept() -> None:
    for policy in Policy:
        chosen = allocate(policy, 10, {}, group("a", 3), 0, np.random.default_rng(0))
        assert {each.subject for each in chosen} == {"a-0", "a-1", "a-2"}
