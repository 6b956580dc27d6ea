import dataclasses
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_scans import made_scan
from pydantic import ValidationError

from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.errors import BadInputError


def test_stack_reads_like_its_tensor() -> None:
    tensor = torch.arange(24.0).reshape(4, 3, 2)
    stack = Stack.of(tensor)
    assert len(stack) == 4
    assert torch.equal(stack[2], tensor[2])
    assert torch.equal(stack[-1], tensor[-1])
    assert torch.equal(stack[1:3], tensor[1:3])
    assert torch.equal(stack[:], tensor)
    assert stack[3:1].shape == (0, 3, 2)
    assert torch.equal(torch.stack(list(stack)), tensor)


@pytest.mark.parametrize("index", [4, -5])
def test_stack_refuses_slices_that_are_not_there(index: int) -> None:
    with pytest.raises(IndexError, match="of a stack of 4"):
        Stack.of(torch.zeros(4, 2))[index]


def test_stack_refuses_steps() -> None:
    with pytest.raises(IndexError, match="contiguous"):
        Stack.of(torch.zeros(4, 2))[::2]


def test_reading_does_not_share_memory() -> None:
    tensor = torch.zeros(2, 2)
    stack = Stack.of(tensor)
    stack[0].add_(1)
    stack[:].add_(1)
    assert not tensor.any()


def test_stack_travels_to_other_processes() -> None:
    stack = pickle.loads(pickle.dumps(Stack.of(torch.ones(2, 2))))  # noqa: S301 - own bytes
    assert torch.equal(stack[:], torch.ones(2, 2))


def test_scan_is_immutable() -> None:
    scan = made_scan()
    with pytest.raises(dataclasses.FrozenInstanceError):
        scan.name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        scan.header.acquisition = "other"  # type: ignore[misc]


def test_header_takes_no_other_field() -> None:
    with pytest.raises(ValidationError, match="patient_name"):
        Header(patient_name="Somebody")  # type: ignore[call-arg]


@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(2, 20), st.integers(2, 20))
def test_acceleration_counts_what_exists(data: st.DataObject, readout: int, phase: int) -> None:
    left = data.draw(st.integers(0, phase - 1))
    right = data.draw(st.integers(left + 1, phase))
    flags = data.draw(st.lists(st.booleans(), min_size=phase, max_size=phase))
    acquired = torch.tensor(flags)
    scan = Scan("s", Stack.of(torch.zeros(1, 1, readout, phase)), acquired, (left, right), Header())
    within = flags[left:right]
    assert scan.acceleration == len(within) / max(1, sum(within))
    assert scan.fully_sampled == all(within)
    points = Scan(
        "s", scan.kspace, acquired.expand(readout, phase).clone(), (left, right), Header()
    )
    assert points.acceleration == pytest.approx(
        scan.acceleration if any(within) else readout * len(within)
    )
    assert points.fully_sampled == scan.fully_sampled


def test_three_axes_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"wrong number of axes.*\(1, 4, 4\)"):
        Scan("s", Stack.of(torch.zeros(1, 4, 4)), torch.ones(4, dtype=torch.bool), (0, 4), Header())


def test_positions_of_another_size_are_refused() -> None:
    with pytest.raises(BadInputError, match="do not fit"):
        Scan(
            "s",
            Stack.of(torch.zeros(1, 1, 5, 4)),
            torch.ones(5, dtype=torch.bool),
            (0, 4),
            Header(),
        )


def test_positions_that_are_numbers_are_refused() -> None:
    with pytest.raises(BadInputError, match="not boolean"):
        Scan("s", Stack.of(torch.zeros(1, 1, 5, 4)), torch.ones(4), (0, 4), Header())
