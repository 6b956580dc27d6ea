from dataclasses import replace

import numpy as np
import pytest

from adaptmr.data.anatomy.head import Head
from adaptmr.data.anatomy.lesions import Lesions, Tumour
from adaptmr.data.anatomy.tissue import BRAIN, LESIONS, Tissue


def head(seed: int, *, lesions: bool = True, tumour: float = 0.0) -> Head:
    return Head.draw(
        np.random.default_rng(seed), white_matter_lesions=lesions, tumour_probability=tumour
    )


def grid(step: float = 4.0, reach: float = 112.0) -> np.ndarray:
    axis = np.arange(-reach, reach + 1, step, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)


def shares(subject: Head) -> np.ndarray:
    tissue, _ = subject.sample(grid())
    return np.bincount(tissue, minlength=len(Tissue)) * 4.0**3 / 1000  # ml


def test_all_tissues_are_there_in_human_amounts() -> None:
    volume = shares(head(0, tumour=1.0))
    assert (volume > 0).all()
    healthy = shares(head(1, lesions=False))
    assert 700 < healthy[list(BRAIN)].sum() < 1600
    assert 350 < healthy[Tissue.WHITE_MATTER] < 900
    assert 250 < healthy[Tissue.CORTEX] < 900
    assert 15 < healthy[Tissue.DEEP_GREY] < 90
    assert 100 < healthy[Tissue.CSF] < 600


def test_lesions_appear_if_and_only_if_asked_for() -> None:
    for seed in range(3):
        assert shares(head(seed, lesions=False))[list(LESIONS)].sum() == 0
    with_spots = [head(seed) for seed in range(6)]
    assert any(len(one.lesions.spots) for one in with_spots)
    sick = head(2, lesions=False, tumour=1.0)
    volume = shares(sick)
    assert volume[Tissue.TUMOUR] > 0
    assert volume[Tissue.OEDEMA] > 0
    assert volume[Tissue.WHITE_MATTER_LESION] == 0


def test_a_white_matter_lesion_replaces_white_matter_only() -> None:
    subject = head(3, lesions=False)
    spot = np.array([[20.0, -10.0, 25.0, 6.0]])
    ill = replace(subject, lesions=replace(subject.lesions, spots=spot))
    place = grid(1.5, 60.0)
    before, after = subject.sample(place)[0], ill.sample(place)[0]
    changed = before != after
    assert changed.any()
    assert (after[changed] == Tissue.WHITE_MATTER_LESION).all()
    assert (before[changed] == Tissue.WHITE_MATTER).all()


def test_mass_effect_pushes_tissue_away_and_keeps_its_volume() -> None:
    shape = head(0).lesions.shape
    lesions = Lesions(np.zeros((0, 4)), Tumour((0.0, 0.0, 0.0), 20.0, 10.0, 0.5), shape)
    place = np.array([[25.0, 30.0, 60.0], [0, 0, 0], [0, 0, 0]], dtype=np.float32)
    origin = lesions.displaced(place)[0]
    assert (origin < place[0]).all()
    np.testing.assert_allclose(place[0] ** 3 - origin**3, 0.35 * 20.0**3, rtol=2e-3)


def test_age_drives_ventricles_sulci_cortex_and_lesions() -> None:
    many = [head(seed) for seed in range(20)]
    age = np.array([one.age for one in many])
    for values, sign in (
        ([one.brain.ventricles for one in many], 1),
        ([one.brain.sulcus for one in many], 1),
        ([one.brain.cortex for one in many], -1),
        ([len(one.lesions.spots) for one in many], 1),
    ):
        assert sign * np.corrcoef(age, np.array(values, dtype=float))[0, 1] > 0.5
    assert 20 <= age.min() < 35 < 70 < age.max() <= 85


def test_an_old_brain_has_more_csf_in_the_picture() -> None:
    ordered = sorted((head(seed, lesions=False) for seed in range(12)), key=lambda one: one.age)
    young, old = ordered[0], ordered[-1]
    share = [
        volume[Tissue.CSF] / (volume[Tissue.CSF] + volume[list(BRAIN)].sum())
        for volume in (shares(young), shares(old))
    ]
    assert share[1] > 1.2 * share[0]


def test_the_cortex_is_folded() -> None:
    subject = head(4, lesions=False)
    place = grid(1.5, 84.0)
    tissue = subject.sample(place)[0].reshape((113,) * 3)
    brain = np.isin(tissue, (Tissue.CORTEX, Tissue.WHITE_MATTER))
    middle = brain[:, :, 70:72]
    boundary = sum(int((np.diff(middle, axis=axis) != 0).sum()) for axis in (0, 1))
    # A smooth outline of the same area would be several times shorter.
    smooth = 2 * 4 * np.sqrt(middle[..., 0].sum())
    assert boundary > 3 * smooth


def test_slices_and_subjects_differ_and_the_seed_repeats() -> None:
    place = grid(6.0, 60.0)
    low, high = place.copy(), place.copy()
    high[2] += 10
    one, two = head(5), head(6)
    np.testing.assert_array_equal(one.sample(low)[0], head(5).sample(low)[0])
    assert (one.sample(low)[0] != one.sample(high)[0]).mean() > 0.05
    assert (one.sample(low)[0] != two.sample(low)[0]).mean() > 0.05


def test_points_are_independent_of_each_other() -> None:
    subject, place = head(7, tumour=1.0), grid(7.0)
    tissue, weight = subject.sample(place)
    some = np.random.default_rng(0).permutation(place.shape[1])[:500]
    few, light = subject.sample(place[:, some])
    np.testing.assert_array_equal(few, tissue[some])
    np.testing.assert_allclose(light, weight[some], rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nothing_lies_outside_the_head(axis: int) -> None:
    place = np.zeros((3, 2), dtype=np.float32)
    place[axis] = [130.0, -130.0] if axis < 2 else [130.0, 140.0]
    assert (head(8).sample(place)[0] == Tissue.BACKGROUND).all()
