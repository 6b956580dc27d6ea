import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptmr.data.acquisition.trajectory import lines


@given(
    phase=st.integers(8, 200),
    resolution=st.floats(0.3, 1.0),
    partial=st.floats(0.55, 1.0),
    dropped=st.floats(0, 0.5),
    seed=st.integers(0, 100),
)
@settings(max_examples=25, deadline=None)
def test_lines(phase: int, resolution: float, partial: float, dropped: float, seed: int) -> None:
    layout = lines(
        phase,
        phase_resolution=resolution,
        partial_fourier=partial,
        dropped=dropped,
        generator=np.random.default_rng(seed),
    )
    left, right = layout.padding
    assert 0 <= left <= phase // 2 < right <= phase
    assert not layout.acquired[:left].any()
    assert not layout.acquired[right:].any()
    assert layout.acquired[phase // 2]
    encoded = round(phase * resolution)
    measured = round(encoded * partial)
    assert abs((right - left) - measured) <= 1
    lost = (right - left) - layout.acquired.sum()
    assert lost <= round(dropped * (right - left))


def test_a_plain_scan_measures_everything() -> None:
    layout = lines(
        33, phase_resolution=1, partial_fourier=1, dropped=0, generator=np.random.default_rng(0)
    )
    assert layout.padding == (0, 33)
    assert layout.acquired.all()


@pytest.mark.parametrize(("dropped", "lost"), [(0.1, 10), (0.3, 30)])
def test_losses_spare_the_centre(dropped: float, lost: int) -> None:
    layout = lines(
        100,
        phase_resolution=1,
        partial_fourier=1,
        dropped=dropped,
        generator=np.random.default_rng(0),
    )
    assert (~layout.acquired).sum() == lost
    assert layout.acquired[42:59].all()
