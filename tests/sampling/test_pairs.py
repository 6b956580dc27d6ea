"""Training pairs from scans."""

import pytest
import torch
from sampling_reference import kspace

from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.sampling.low_frequency import acquire
from adaptmr.sampling.pairs import Pairs, training_pairs


def scan(data: torch.Tensor, name: str = "a.h5", acquired: torch.Tensor | None = None) -> Scan:
    columns = data.shape[-1]
    full = torch.ones(columns, dtype=torch.bool)
    return Scan(
        name, Stack.of(data), full if acquired is None else acquired, (0, columns), Header()
    )


def eighth(matrix: tuple[int, int]) -> tuple[int, int]:
    return matrix[0] // 4, matrix[1] // 4


def test_pairs_are_the_low_and_the_full_image_in_the_same_units() -> None:
    first, second = kspace((13, 10), batch=3, coils=2), kspace((13, 10), batch=2, coils=4, seed=1)
    pairs = training_pairs([scan(first), scan(second, "b.h5")], eighth)
    assert len(pairs) == 5
    assert pairs.block == (3, 2)
    assert pairs.matrix == (13, 10)
    known = acquire(second, (3, 2))
    torch.testing.assert_close(pairs.low[3:], known.image)
    full = inverse_fourier(second).abs().square().sum(1).sqrt() / known.scale[:, None, None]
    torch.testing.assert_close(pairs.full[3:], full)
    assert pairs.low.dtype is pairs.full.dtype is torch.float32


def test_pairs_do_not_depend_on_the_units_of_the_scan() -> None:
    data = kspace((8, 8), batch=2)
    pairs, scaled = (training_pairs([scan(by * data)], eighth) for by in (1, 1e-4))
    torch.testing.assert_close(scaled.low, pairs.low)
    torch.testing.assert_close(scaled.full, pairs.full)


def test_slices_without_low_frequencies_are_left_out() -> None:
    data = kspace((8, 8), batch=3)
    data[1] = 0
    assert len(training_pairs([scan(data)], eighth)) == 2
    with pytest.raises(BadInputError, match="no slice to train"):
        training_pairs([scan(0 * data)], eighth)
    with pytest.raises(BadInputError, match="no slice to train"):
        training_pairs([], eighth)


def test_undersampled_scans_are_refused() -> None:
    acquired = torch.tensor([True] * 7 + [False])
    with pytest.raises(BadInputError, match=r"b\.h5.*undersampled"):
        training_pairs([scan(kspace((8, 8)), "b.h5", acquired)], eighth)


def test_scans_of_another_size_are_refused_by_name() -> None:
    scans = [scan(kspace((8, 8))), scan(kspace((8, 9)), "odd.h5")]
    with pytest.raises(BadInputError, match=r"odd\.h5.*different sizes.*\(8, 9\)"):
        training_pairs(scans, eighth)


def test_values_that_are_not_finite_are_refused_by_slice() -> None:
    data = kspace((8, 8), batch=3)
    data[2, 0, 0, 0] = float("nan")
    with pytest.raises(BadInputError, match=r"a\.h5, slice 2"):
        training_pairs([scan(data)], eighth)


def test_images_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(BadInputError, match="do not fit"):
        Pairs(torch.zeros(2, 4, 4), torch.zeros(2, 4, 5), (2, 2))


def test_parts_and_fingerprint() -> None:
    pairs = training_pairs([scan(kspace((8, 8), batch=4))], eighth)
    part = pairs[torch.tensor([2, 0])]
    assert torch.equal(part.full, pairs.full[[2, 0]])
    assert part.block == pairs.block
    assert pairs.fingerprint == pairs[:].fingerprint
    assert pairs.fingerprint != part.fingerprint
    assert pairs.fingerprint != Pairs(pairs.low, pairs.full + 1e-6, pairs.block).fingerprint
