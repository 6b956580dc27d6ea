"""Masks as values: what they hold, what they refuse, and their way to a file and back."""

import json

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from adaptmr.errors import BadInputError, UsageError
from adaptmr.kernels.fourier import fourier
from adaptmr.sampling.mask import Mask, centred_block

shapes = st.one_of(st.tuples(st.integers(1, 40)), st.tuples(st.integers(1, 12), st.integers(1, 15)))
positions = shapes.flatmap(lambda shape: arrays.arrays(np.bool_, shape))
quick = settings(max_examples=25, deadline=None)


def bare(array: np.ndarray, **fields: object) -> Mask:
    return Mask(array, (0,) * array.ndim, **fields)


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("length", range(12))
def test_centred_block_holds_the_centre(size: int, length: int) -> None:
    if length > size:
        return
    block = np.arange(size)[centred_block(size, length)]
    assert len(block) == length
    assert length == 0 or size // 2 in block


@quick
@given(positions)
def test_json_gives_the_same_mask_back(array: np.ndarray) -> None:
    encoded = array | (np.arange(array.size).reshape(array.shape) % 3 > 0)
    mask = bare(array, encoded=encoded, nominal_acceleration=3.5, provenance={"seed": [1, 2]})
    again = Mask.from_json(mask.to_json())
    assert again == mask
    assert hash(again) == hash(mask)
    assert np.array_equal(again.positions, mask.positions)
    assert np.array_equal(again.encoded, mask.encoded)
    assert again.nominal_acceleration == 3.5
    assert again.provenance == mask.provenance
    assert again.to_json() == mask.to_json()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "other"),
        ("positions", "AAAA"),
        ("positions", "no base64!"),
        ("positions", 5),
        ("shape", [7]),
        ("shape", [-16]),
        ("shape", [2**40, 2**40]),
        ("shape", []),
        ("low_frequency", [0, 0]),
        ("low_frequency", [-4]),
        ("low_frequency", [99]),
        ("encoded", "AAA="),
        ("fingerprint", "0" * 64),
        ("surprise", 1),
        ("nominal_acceleration", "fast"),
    ],
)
def test_damaged_json_is_refused(key: str, value: object) -> None:
    record = json.loads(bare(np.arange(16) % 3 == 0).to_json())
    with pytest.raises(BadInputError):
        Mask.from_json(json.dumps(record | {key: value}))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", b"\xff\xfe", "{}"])
def test_what_is_no_mask_is_refused(text: str | bytes) -> None:
    with pytest.raises(BadInputError, match="no mask written by adaptmr"):
        Mask.from_json(text)


def test_every_cut_of_the_json_is_refused() -> None:
    text = bare(np.arange(16) % 3 == 0).to_json()
    for end in range(len(text)):
        with pytest.raises(BadInputError):
            Mask.from_json(text[:end])


@quick
@given(positions)
def test_line_list_names_the_acquired_columns(array: np.ndarray) -> None:
    mask = bare(array)
    if array.ndim == 2:
        with pytest.raises(UsageError, match="no line list"):
            mask.lines()
        return
    again = np.zeros_like(array)
    again[mask.lines()] = True
    assert np.array_equal(again, array)
    assert json.loads(json.dumps(mask.lines())) == sorted(mask.lines())


@quick
@given(positions.filter(np.any), st.sampled_from(["bool", "u1", "i8", "f4", "f8"]))
def test_any_array_of_zeros_and_ones_is_a_mask(array: np.ndarray, dtype: str) -> None:
    mask = Mask.from_array(array.astype(dtype))
    assert np.array_equal(mask.positions, array)
    assert mask.budget == array.sum()
    assert mask.positions[mask.block].all()


def largest_centred_square(array: np.ndarray) -> int:
    """By trying every size from the largest down."""
    for length in range(max(array.shape), 0, -1):
        sizes = [min(length, size) for size in array.shape]
        if array[tuple(map(centred_block, array.shape, sizes))].all():
            return length
    return 0


@quick
@given(positions.filter(np.any))
def test_the_low_frequency_block_is_found(array: np.ndarray) -> None:
    array = array.copy()
    array[tuple(centred_block(size, (size + 1) // 2) for size in array.shape)] = True
    found = Mask.from_array(array).low_frequency
    square = largest_centred_square(array)
    assert all(have >= min(square, size) for have, size in zip(found, array.shape, strict=True))
    assert array[tuple(map(centred_block, array.shape, found))].all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(8), "acquires nothing"),
        (np.zeros((0,)), "acquires nothing"),
        (np.full(8, 0.5), "only 0 and 1"),
        (np.array([0, 1, np.nan]), "only 0 and 1"),
        (np.arange(8), "only 0 and 1"),
        (np.ones(8, np.complex64), "only 0 and 1"),
        (np.array(["1"] * 8), "only 0 and 1"),
        (np.ones((2, 8, 8)), "does not fit"),
        (np.ones(()), "does not fit"),
    ],
)
def test_arrays_that_are_no_mask_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        Mask.from_array(array)


@pytest.mark.parametrize("shape", [(8,), (10,), (10, 8), (8, 9)])
def test_an_array_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInputError, match=r"does not fit.*\(9,\) for lines or \(8, 10\)|\(9,\)"):
        Mask.from_array(np.ones(shape), matrix=(10, 9))
    assert Mask.from_array(np.ones(9), matrix=(10, 9)).axes == 1
    assert Mask.from_array(np.ones((10, 9)), matrix=(10, 9)).axes == 2


def test_a_mask_is_a_value() -> None:
    array = np.arange(12) % 2 == 0
    mask = bare(array)
    array[:] = False
    assert mask.budget == 6
    with pytest.raises(ValueError, match="read-only"):
        mask.positions[0] = False
    assert mask == bare(np.arange(12) % 2 == 0)
    assert mask != bare(np.arange(12) % 2 == 1)
    assert mask != bare(np.arange(12).reshape(3, 4) % 2 == 0)
    assert mask != bare(np.arange(12) % 2 == 0, encoded=np.arange(12) % 4 != 1)
    assert mask != "mask"


def test_acceleration_counts_what_exists() -> None:
    encoded = np.arange(20) < 16
    mask = Mask(encoded & (np.arange(20) % 4 == 2), (0,), encoded)
    assert mask.budget == 4
    assert mask.acceleration == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 2, 2), bool), (0, 0, 0)), "one axis"),
        ((np.ones(0, bool), (0,)), "one axis"),
        ((np.ones(4, bool), (0, 0)), "one size per axis"),
        ((np.ones(4, bool), (5,)), "one size per axis"),
        ((np.ones(4, bool), (-1,)), "one size per axis"),
        ((np.arange(4) == 0, (2,)), "not fully acquired"),
        ((np.ones(4, bool), (0,), np.arange(4) > 0), "do not exist"),
        ((np.ones(4, bool), (0,), np.ones(5, bool)), "do not fit the mask"),
    ],
)
def test_contradictions_are_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        Mask(*arguments)


@quick
@given(positions, st.integers(0, 2), st.sampled_from([torch.complex64, torch.complex128]))
def test_apply_keeps_the_acquired_and_blanks_the_rest(
    array: np.ndarray, extra: int, dtype: torch.dtype
) -> None:
    matrix = array.shape if array.ndim == 2 else (3, *array.shape)
    generator = torch.Generator().manual_seed(0)
    kspace = torch.randn((2,) * extra + matrix, generator=generator, dtype=dtype)
    mask = bare(array)
    assert mask.fits(matrix)
    masked = mask.apply(kspace)
    assert torch.equal(masked, kspace * torch.from_numpy(array))
    # A negative zero would tell the sign of what was not acquired.
    hidden = torch.view_as_real(masked)[(masked == 0)]
    assert not torch.signbit(hidden).any()
    assert torch.equal(mask.apply(masked), masked)
    assert masked.dtype == dtype


def test_apply_refuses_another_size() -> None:
    with pytest.raises(BadInputError, match="does not fit the k-space"):
        bare(np.ones(8, bool)).apply(fourier(torch.ones(8, 9)))


def test_low_frequency_only_is_the_block_alone() -> None:
    array = np.arange(30) % 3 == 0
    array[centred_block(30, 6)] = True
    encoded = np.arange(30) < 28
    low = Mask(array & encoded, (6,), encoded).low_frequency_only()
    assert low.budget == 6
    assert low.low_frequency == (6,)
    assert np.array_equal(low.encoded, encoded)
