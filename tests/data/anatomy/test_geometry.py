import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from adaptmr.data.anatomy.deformation import Deformation
from adaptmr.data.anatomy.geometry import (
    RandomField,
    ellipsoid,
    interpolated,
    mirrored,
    smooth_union,
    tube,
)


def points(seed: int, count: int = 500, spread: float = 60.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-spread, spread, (3, count)).astype(np.float32)


@given(seed=st.integers(0, 1000), radius=st.floats(5, 40))
@settings(max_examples=20, deadline=None)
def test_a_sphere_has_its_exact_distance(seed: int, radius: float) -> None:
    place = points(seed)
    exact = np.linalg.norm(place - np.array([[1.0], [2.0], [3.0]]), axis=0) - radius
    level = ellipsoid(place, (1, 2, 3), (radius,) * 3)
    np.testing.assert_allclose(level, exact, atol=2e-3)
    ball = tube(place, ((1, 2, 3, radius), (1, 2, 3 + 1e-3, radius)))
    np.testing.assert_allclose(ball, exact, atol=5e-3)


def test_a_tube_has_its_exact_distance() -> None:
    place = np.array([[0, 10, 0], [0, 0, 7], [5, 5, 25]], dtype=np.float32)
    np.testing.assert_allclose(
        tube(place, ((0, 0, 0, 2), (0, 0, 20, 2))), [-2, 8, 74**0.5 - 2], rtol=1e-5
    )


def test_a_smooth_union_is_the_union_away_from_the_seam() -> None:
    first, second = np.float32([-5, 1, 9, 0]), np.float32([5, 9, -3, 0])
    joined = smooth_union(first, second, 4.0)
    np.testing.assert_array_equal(joined[:3], [-5, 1, -3])
    assert joined[3] == -1.0


@pytest.mark.parametrize("wavelength", [9.0, 30.0, 90.0])
def test_a_field_is_standardised_band_limited_and_periodic(wavelength: float) -> None:
    field = RandomField.draw(np.random.default_rng(3), wavelength)
    assert field.grid.std() == pytest.approx(1, abs=1e-3)
    assert abs(field.grid.mean()) < 1e-3
    power = np.abs(np.fft.fftn(field.grid)) ** 2
    axis = np.fft.fftfreq(len(field.grid), field.spacing) * wavelength
    frequency = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    assert power[(frequency > 0.25) & (frequency < 1.75)].sum() > 0.99 * power.sum()
    place = points(0)
    period = np.float32(len(field.grid) * field.spacing)
    np.testing.assert_allclose(field.at(place), field.at(place + period), atol=2e-3)


def test_interpolation_agrees_with_scipy() -> None:
    fields = [RandomField.draw(np.random.default_rng(k), 40.0) for k in range(2)]
    place = points(1)
    for field, values in zip(fields, interpolated(fields, place), strict=True):
        exact = map_coordinates(field.grid, place / field.spacing, order=1, mode="grid-wrap")
        np.testing.assert_allclose(values, exact, atol=1e-4)


def test_distance_to_the_zero_set_is_a_distance() -> None:
    field = RandomField.draw(np.random.default_rng(1), 25.0)
    distance = field.as_distance()
    place = points(2, 20000)
    value = distance.at(place)
    np.testing.assert_array_equal(
        np.sign(field.at(place))[np.abs(value) > 1], np.sign(value)[np.abs(value) > 1]
    )
    # Where it says d mm, a point of the other sign lies about d mm away along the slope.
    step = np.float32(0.05)
    slope = np.stack(
        [
            distance.at(place + step * axis[:, None]) - distance.at(place - step * axis[:, None])
            for axis in np.eye(3, dtype=np.float32)
        ]
    ) / (2 * step)
    near = np.abs(value) < 1.0
    assert np.median(np.linalg.norm(slope[:, near], axis=0)) == pytest.approx(1, abs=0.15)


def test_mirroring_folds_the_sides() -> None:
    place = points(4)
    assert (mirrored(place)[0] >= 0).all()
    np.testing.assert_array_equal(mirrored(place)[1:], place[1:])


@pytest.mark.parametrize("held", [0, 1, 2])
def test_a_thin_slab_is_not_moved_along_its_normal(held: int) -> None:
    free = tuple(axis != held for axis in range(3))
    deformation = Deformation.draw(np.random.default_rng(5), free=(free[0], free[1], free[2]))
    place = points(6)
    moved = deformation.applied(place)
    np.testing.assert_allclose(moved[held], place[held], atol=1e-4)
    assert np.abs(moved - place).max() > 1


def test_a_deformation_is_gentle() -> None:
    for seed in range(5):
        place = points(7, spread=80.0)
        moved = Deformation.draw(np.random.default_rng(seed)).applied(place)
        assert np.linalg.norm(moved - place, axis=0).max() < 45
