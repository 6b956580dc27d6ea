"""Splits and batches."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from training_scans import write_ellipses

from adaptmr.data.fastmri import read_scan, write_scan
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.reconstruction.training.cohort import open_scans, split_by_subject, subject_of
from adaptmr.reconstruction.training.data import (
    Emphasis,
    common_crop,
    training_plans,
    training_slices,
    validation_plans,
)
from adaptmr.sampling.generators import MaskKind, MaskSpec

MASKS = (
    MaskSpec(kind=MaskKind.RANDOM, acceleration=2, center_fraction=0.2),
    MaskSpec(kind=MaskKind.RANDOM, acceleration=3, center_fraction=0.2),
)


def scan_of(subject: str | None, name: str) -> Scan:
    return Scan(
        name=name,
        kspace=Stack.of(torch.zeros(1, 1, 8, 8, dtype=torch.complex64)),
        acquired=torch.ones(8, dtype=torch.bool),
        padding=(0, 8),
        header=Header(subject=subject),
    )


@given(
    subjects=st.lists(st.sampled_from([None, *"abcdefgh"]), min_size=2, max_size=20),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 20),
)
@settings(max_examples=25, deadline=None)
def test_no_subject_is_on_both_sides_of_the_split(
    subjects: list[str | None], fraction: float, seed: int
) -> None:
    scans = [scan_of(subject, f"{index}.h5") for index, subject in enumerate(subjects)]
    everyone = {subject_of(scan) for scan in scans}
    if len(everyone) < 3:
        return
    training, validation = split_by_subject(scans, fraction, seed)
    assert training
    assert validation
    assert {*training, *validation} == set(scans)
    assert not {*map(subject_of, training)} & {*map(subject_of, validation)}
    again = split_by_subject(scans[::-1], fraction, seed)
    assert {*again[1]} == {*validation}  # the order of the files does not matter


def test_one_subject_cannot_be_split() -> None:
    scans = [scan_of("a", "1.h5"), scan_of("a", "2.h5")]
    with pytest.raises(BadInputError, match=r"validation_fraction.*1 subjects"):
        split_by_subject(scans, 0.1, 0)
    assert split_by_subject(scans, 0.0, 0) == (tuple(scans), ())


@given(batch_size=st.integers(1, 5), seed=st.integers(0, 5), epoch=st.integers(0, 5))
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_an_epoch_sees_every_slice_once_in_batches_of_one_shape(
    scans_folder: Path, batch_size: int, seed: int, epoch: int
) -> None:
    slices = training_slices(open_scans(scans_folder), None, seed)
    plans = training_plans(slices, MASKS, batch_size, seed, epoch)
    seen = [(scan.name, index) for plan in plans for scan, index in plan.slices]
    assert sorted(seen) == sorted((scan.name, index) for scan, index in slices)
    for plan in plans:
        assert len(plan.slices) <= batch_size
        assert len({scan.kspace.shape[1:] for scan, _ in plan.slices}) == 1
    again = training_plans(slices, MASKS, batch_size, seed, epoch)
    assert [(p.slices, p.masks, p.seed) for p in plans] == [
        (p.slices, p.masks, p.seed) for p in again
    ]
    masks = [plan.read().mask.fingerprint for plan in plans]
    other = training_plans(slices, MASKS, batch_size, seed, epoch + 1)
    assert masks != [plan.read().mask.fingerprint for plan in other]


def test_a_batch_holds_what_the_file_holds(scans_folder: Path) -> None:
    scans = open_scans(scans_folder)
    plan = training_plans(training_slices(scans, None, 0), MASKS, 2, 0, 0)[0]
    batch = plan.read()
    for position, (name, index) in enumerate(batch.sources):
        scan = read_scan(scans_folder / name)
        assert scan.target is not None
        assert torch.equal(batch.kspace[position], scan.kspace[index])
        assert torch.equal(batch.target[position], scan.target[index])
        assert batch.data_range[position].item() == pytest.approx(scan.maximum)
    image = inverse_fourier(batch.kspace).abs().square().sum(1).sqrt()
    image, target = common_crop(image, batch.target)
    torch.testing.assert_close(image, target, rtol=1e-4, atol=1e-5)


def test_validation_masks_depend_on_the_file_name_alone(scans_folder: Path) -> None:
    scans = open_scans(scans_folder)
    plans = validation_plans(scans, MASKS, 2)
    assert len(plans) == len(scans) * len(MASKS)
    alone = validation_plans(scans[1:2], MASKS, 1)
    assert plans[2].read().mask == alone[0].read().mask == alone[1].read().mask
    assert plans[0].read().mask != plans[2].read().mask


def test_the_number_of_training_slices_can_be_limited(scans_folder: Path) -> None:
    scans = open_scans(scans_folder)
    limited = training_slices(scans, 3, seed=0)
    assert len({(scan.name, index) for scan, index in limited}) == 3
    assert limited == training_slices(scans, 3, seed=0)
    assert training_slices(scans, 99, seed=0) == training_slices(scans, None, seed=1)


def test_a_scan_without_target_gets_the_root_sum_of_squares(tmp_path: Path) -> None:
    write_ellipses(tmp_path / "with" / "a.h5", "a", 0, matrix=(20, 20))
    scan = read_scan(tmp_path / "with" / "a.h5")
    write_scan(replace(scan, target=None, maximum=None), tmp_path / "without" / "a.h5")
    (made,) = open_scans(tmp_path / "without")
    assert made.target is not None
    expected = inverse_fourier(scan.kspace[:]).abs().square().sum(1).sqrt()
    torch.testing.assert_close(made.target[:], expected, rtol=1e-5, atol=1e-6)
    assert made.maximum == pytest.approx(float(expected.max()), rel=1e-5)


def test_folders_and_scans_that_cannot_be_trained_on_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"empty.*no such folder"):
        open_scans(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=r"empty.*no .h5 file"):
        open_scans(tmp_path / "empty")
    write_ellipses(tmp_path / "full" / "a.h5", "a", 0)
    scan = read_scan(tmp_path / "full" / "a.h5")
    half = torch.arange(20) % 2 == 0
    write_scan(replace(scan, acquired=half), tmp_path / "half" / "a.h5")
    with pytest.raises(BadInputError, match=r"half/a.h5.*2.00 times undersampled"):
        open_scans(tmp_path / "half")
    zero = Stack.of(torch.zeros(2, 20, 20))
    write_scan(replace(scan, target=zero, maximum=0.0), tmp_path / "zero" / "a.h5")
    with pytest.raises(BadInputError, match=r"zero/a.h5.*zero everywhere"):
        open_scans(tmp_path / "zero")


def test_emphasis_takes_its_share_from_some_slices(scans_folder: Path) -> None:
    slices = training_slices(open_scans(scans_folder), None, 0)
    own = slices[:2]
    assert len(slices) == 10
    none, half, every = (Emphasis(own, share).epoch(slices, 0, 0) for share in (0.0, 0.5, 1.0))
    assert sorted(map(slices.index, none)) == list(range(10))
    assert len(half) == len(every) == 10
    assert {*every} == {*own}
    assert all(every.count(each) == 5 for each in own)
    assert sum(half.count(each) for each in own) >= 5
    assert half == Emphasis(own, 0.5).epoch(slices, 0, 0) != Emphasis(own, 0.5).epoch(slices, 0, 1)
    assert sorted(map(slices.index, Emphasis((), 0.5).epoch(slices, 0, 0))) == list(range(10))


def test_a_source_given_twice_is_validated_on_once(scans_folder: Path) -> None:
    scans = open_scans(scans_folder)
    assert len(validation_plans(scans, (*MASKS, MASKS[0]), 2)) == len(scans) * len(MASKS)
