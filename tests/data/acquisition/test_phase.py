import numpy as np
import pytest

from adaptmr.data.acquisition.phase import off_resonance, receive_phase


def plane(values: object) -> np.ndarray:
    axis = np.linspace(-70, 70, 71)
    return values.on_grid(axis, axis, np.zeros(1))[0, ..., 0]  # type: ignore[attr-defined]


def test_off_resonance_grows_with_the_field_and_is_of_human_size() -> None:
    for seed in range(5):
        low, high = (
            plane(off_resonance(np.random.default_rng(seed), field)) for field in (1.5, 3.0)
        )
        np.testing.assert_allclose(high, 2 * low, rtol=1e-4, atol=1e-3)
        assert 2 < high.std() < 200


def test_air_in_the_sinuses_disturbs_the_front_of_the_brain() -> None:
    z, y = np.array([-30.0, -10.0, 10.0, 50.0]), np.array([-60.0, 55.0])
    spread = [
        np.abs(
            np.diff(
                off_resonance(np.random.default_rng(seed), 3.0).on_grid(np.zeros(1), y, z)[0, 0],
                axis=1,
            )
        ).max(axis=1)
        for seed in range(20)
    ]
    back, front = np.mean(spread, axis=0)
    assert front > 2 * back


@pytest.mark.parametrize("seed", range(3))
def test_receive_phase_is_smooth_and_not_constant(seed: int) -> None:
    phase = plane(receive_phase(np.random.default_rng(seed)))
    assert phase.std() > 0.1
    assert np.abs(np.diff(phase, axis=0)).max() < 0.3
    # A polynomial of order 2: third differences vanish.
    np.testing.assert_allclose(np.diff(phase, n=3, axis=0), 0, atol=1e-4)
