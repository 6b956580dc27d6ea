import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptmr.data.acquisition.coils import coil_array, loop_field, noise, noise_covariance
from adaptmr.errors import BadInputError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(radius=st.floats(10, 100), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_a_loop_has_the_field_of_biot_and_savart(radius: float, seed: int) -> None:
    places = rng(seed).uniform(-3 * radius, 3 * radius, (20, 3))
    turn = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    wire = radius * np.stack([np.cos(turn), np.sin(turn), 0 * turn], -1)
    along = radius * (2 * np.pi / 4000) * np.stack([-np.sin(turn), np.cos(turn), 0 * turn], -1)
    away = places[:, None] - wire
    distance = np.linalg.norm(away, axis=-1, keepdims=True)
    # mu0 / (4 pi) times the integral; in units of mu0 / pi that is a quarter of it.
    exact = (np.cross(along, away) / distance**3).sum(1) / 4
    clear = distance.min(axis=(1, 2)) > 0.1 * radius
    np.testing.assert_allclose(
        loop_field(places, radius)[clear], exact[clear], rtol=1e-4, atol=1e-6 * np.abs(exact).max()
    )


def test_field_on_the_axis() -> None:
    places = np.array([[0.0, 0.0, z] for z in (-40, 0, 30)])
    expected = np.pi / 2 * 50.0**2 / (50.0**2 + places[:, 2] ** 2) ** 1.5
    np.testing.assert_allclose(loop_field(places, 50.0)[:, 2], expected, rtol=1e-9)
    np.testing.assert_allclose(loop_field(places, 50.0)[:, :2], 0, atol=1e-9)


@pytest.mark.parametrize("coils", [1, 2, 8, 12, 16, 32])
def test_an_array_covers_the_head_and_its_coils_differ(coils: int) -> None:
    array = coil_array(coils, rng())
    axis = np.arange(-60.0, 61.0, 12.0)
    maps = array.on_grid(axis, axis, np.arange(-20.0, 41.0, 12.0))
    assert maps.shape == (coils, len(axis), len(axis), 6)
    assert maps.dtype == np.complex64
    energy = np.sqrt((np.abs(maps) ** 2).sum(0))
    if coils >= 8 or coils == 1:
        assert energy.min() > 0.35
        assert energy.max() < 3.0
    flat = maps.reshape(coils, -1)
    overlap = np.abs(flat @ flat.conj().T)
    scale = np.sqrt(np.diag(overlap))
    off = (overlap / np.outer(scale, scale))[~np.eye(coils, dtype=bool)]
    assert (off < 0.97).all()


def test_a_birdcage_is_nearly_uniform() -> None:
    axis = np.arange(-60.0, 61.0, 12.0)
    maps = np.abs(coil_array(1, rng()).on_grid(axis, axis, np.zeros(1)))
    assert maps.std() / maps.mean() < 0.2


def test_maps_do_not_depend_on_the_matrix_and_are_smooth() -> None:
    array = coil_array(6, rng(1))
    coarse, fine = np.linspace(-90, 90, 19), np.linspace(-90, 90, 181)
    middle = np.array([10.0])
    few, many = array.on_grid(coarse, coarse, middle), array.on_grid(fine, fine, middle)
    np.testing.assert_allclose(many[:, ::10, ::10], few, atol=1e-5)
    # On a plane of a head's size the change over 1 mm is a small share of the map's range.
    head = np.hypot(fine[:, None] / 75, fine[None] / 90) < 1
    step = np.abs(np.diff(many[..., 0], axis=1))[:, head[:-1]]
    assert step.max() < 0.06 * np.abs(many[..., 0][:, head]).max()


def test_interpolated_maps_are_the_field_itself() -> None:
    # One coil of an array, found again by placing the same loop by hand at other points.
    array = coil_array(4, rng(2))
    generator = rng(2)
    start = generator.uniform(0, 2 * np.pi)
    turn = start + 2 * np.pi * generator.normal(0, 0.03) / 4
    place = np.array([138.0 * np.cos(turn), 155.0 * np.sin(turn), generator.normal(0, 4)])
    inward = -place * [1, 1, 0.5]
    inward /= np.linalg.norm(inward)
    side = np.cross([0.0, 0.0, 1.0], inward)
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(inward, side), inward])
    points = rng(3).uniform(-60, 60, (30, 3))
    field = loop_field((points - place) @ frame.T, 75.0, 10.0) @ frame
    exact = field[:, 0] - 1j * field[:, 1]
    values = np.array([array.on_grid(*np.split(point, 3))[0, 0, 0, 0] for point in points])
    ratio = np.vdot(exact, values) / np.vdot(exact, exact)
    np.testing.assert_allclose(values, ratio * exact, atol=2e-3 * np.abs(values).max())
    assert abs(ratio.imag) < 1e-3 * abs(ratio.real)


@pytest.mark.parametrize("coils", [1, 3, 15, 32])
@pytest.mark.parametrize("correlation", [0.0, 0.4, 0.95])
def test_noise_covariance_is_a_covariance(coils: int, correlation: float) -> None:
    covariance = noise_covariance(coil_array(coils, rng(4)), correlation, rng(5))
    np.testing.assert_allclose(covariance, covariance.conj().T)
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert np.trace(covariance).real == pytest.approx(coils)
    off = np.abs(covariance[~np.eye(coils, dtype=bool)])
    if coils > 1:
        assert (off.max() > 0.1 * correlation) if correlation else (off.max() == 0)


@pytest.mark.parametrize("coils", [1, 4])
def test_noise_has_its_covariance(coils: int) -> None:
    covariance = noise_covariance(coil_array(coils, rng(6)), 0.6, rng(7))
    samples = noise(covariance, (200, 500), rng(8)).reshape(coils, -1).astype(np.complex128)
    measured = samples @ samples.conj().T / samples.shape[1] / 2
    np.testing.assert_allclose(measured, covariance, atol=0.02)
    pseudo = samples @ samples.T / samples.shape[1] / 2
    np.testing.assert_allclose(pseudo, 0, atol=0.02)
    assert samples.real.var(axis=1) == pytest.approx(np.diag(covariance).real, rel=0.03)


@pytest.mark.parametrize("coils", [0, 33])
def test_impossible_arrays_are_refused(coils: int) -> None:
    with pytest.raises(BadInputError, match=f"field 'coils'.*got {coils}; expected 1 to 32"):
        coil_array(coils, rng())
