import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptmr.data.anatomy.signal import (
    SEQUENCES,
    Contrast,
    InversionRecovery,
    SpinEcho,
    SpoiledGradientEcho,
    enhanced,
    signals,
)
from adaptmr.data.anatomy.tissue import FIELD_STRENGTHS, Relaxation, Tissue, relaxation
from adaptmr.errors import BadInputError

TISSUE = Relaxation(t1=1000.0, t2=100.0, t2_star=50.0, proton_density=0.8)


def test_spoiled_gradient_echo_by_hand() -> None:
    # E1 = exp(-0.5) = 0.606531, sin 30 = 0.5, cos 30 = 0.866025, exp(-5/50) = 0.904837
    expected = 0.8 * 0.5 * 0.393469 / (1 - 0.606531 * 0.866025) * 0.904837
    assert SpoiledGradientEcho(500.0, 5.0, 30.0).signal(TISSUE) == pytest.approx(expected, rel=1e-5)


def test_spin_echo_by_hand() -> None:
    # exp(-(1000 - 10)/1000) = 0.371577, exp(-1) = 0.367879, exp(-20/100) = 0.818731
    expected = 0.8 * (1 - 2 * 0.371577 + 0.367879) * 0.818731
    assert SpinEcho(1000.0, 20.0).signal(TISSUE) == pytest.approx(expected, rel=1e-5)


@given(t1=st.floats(200, 4000), t2=st.floats(20, 2000), echo=st.floats(5, 200))
@settings(max_examples=25, deadline=None)
def test_limits(t1: float, t2: float, echo: float) -> None:
    tissue = Relaxation(t1, t2, t2, 1.0)
    decay = math.exp(-echo / t2)
    # Fully recovered: only T2 is left; inverted just before: the same with its sign turned.
    assert SpinEcho(1e7, echo).signal(tissue) == pytest.approx(decay)
    assert InversionRecovery(1e7, echo, 1e6).signal(tissue) == pytest.approx(decay)
    assert InversionRecovery(1e7, echo, 0.0).signal(tissue) == pytest.approx(-decay)
    assert InversionRecovery(1e7, echo, t1 * math.log(2)).signal(tissue) == pytest.approx(
        0, abs=1e-9
    )
    assert SpoiledGradientEcho(1e7, echo, 90.0).signal(tissue) == pytest.approx(decay)


@given(t1=st.floats(200, 4000), repetition=st.floats(5, 500))
@settings(max_examples=25, deadline=None)
def test_gradient_echo_peaks_at_the_ernst_angle(t1: float, repetition: float) -> None:
    tissue = Relaxation(t1, 100.0, 50.0, 1.0)
    ernst = math.degrees(math.acos(math.exp(-repetition / t1)))
    best = SpoiledGradientEcho(repetition, 2.0, ernst).signal(tissue)
    for angle in (0.8 * ernst, 1.2 * ernst):
        assert SpoiledGradientEcho(repetition, 2.0, angle).signal(tissue) < best


@pytest.mark.parametrize("field", FIELD_STRENGTHS)
def test_contrasts_order_the_tissues_as_a_radiologist_expects(field: float) -> None:
    csf, grey, white, fat, lesion = (
        Tissue.CSF,
        Tissue.CORTEX,
        Tissue.WHITE_MATTER,
        Tissue.FAT,
        Tissue.WHITE_MATTER_LESION,
    )
    t1, t2, flair, pd = (
        signals(contrast, field)
        for contrast in (Contrast.T1, Contrast.T2, Contrast.FLAIR, Contrast.PD)
    )
    assert brightest_first(t1, fat, white, grey, csf)
    assert brightest_first(t2, csf, lesion, grey, white)
    assert flair[lesion] > flair[grey] > flair[white]
    assert abs(flair[csf]) < 0.1 * flair[white]
    assert pd[grey] > pd[white]
    for values in (t1, t2, flair, pd):
        assert values[Tissue.BACKGROUND] == 0
        assert abs(values[Tissue.BONE]) < 0.05


def brightest_first(values: np.ndarray, *order: Tissue) -> bool:
    return all(values[a] > values[b] for a, b in pairwise(order))


def test_flowing_blood_is_void_in_spin_echo_only() -> None:
    assert signals(Contrast.T2, 3.0)[Tissue.VESSEL] == 0
    assert signals(Contrast.T1, 3.0)[Tissue.VESSEL] > 0.1


def test_contrast_agent_brightens_tumour_and_vessels_and_leaves_brain() -> None:
    before, after = signals(Contrast.T1, 3.0), signals(Contrast.T1POST, 3.0)
    assert after[Tissue.TUMOUR] > 1.5 * before[Tissue.TUMOUR]
    assert after[Tissue.VESSEL] > 1.5 * before[Tissue.VESSEL]
    for tissue in (Tissue.CORTEX, Tissue.WHITE_MATTER, Tissue.OEDEMA, Tissue.NECROSIS):
        assert after[tissue] == before[tissue]
    plain = relaxation(Tissue.TUMOUR, 3.0)
    # 1/T1 = 1/1550 + 0.0045 * 0.6
    assert enhanced(Tissue.TUMOUR, plain).t1 == pytest.approx(1 / (1 / 1550 + 0.0027))


def test_variation_acts_on_the_signal() -> None:
    factors = np.ones((len(Tissue), 3))
    factors[Tissue.CORTEX] = 1.0, 1.0, 0.5
    plain, varied = signals(Contrast.T2, 3.0), signals(Contrast.T2, 3.0, factors)
    assert varied[Tissue.CORTEX] == pytest.approx(plain[Tissue.CORTEX] / 2)
    assert varied[Tissue.CSF] == plain[Tissue.CSF]


def test_every_contrast_has_a_sequence_and_every_tissue_physical_times() -> None:
    assert set(SEQUENCES) == set(Contrast)
    for field in FIELD_STRENGTHS:
        for tissue in Tissue:
            values = relaxation(tissue, field)
            assert 0 < values.t2_star <= values.t2 <= values.t1
            assert 0 <= values.proton_density <= 1


def test_unknown_field_strength_is_named() -> None:
    with pytest.raises(BadInputError, match=r"field 'field_strength'.*got 7\.0.*1\.5 T or 3\.0 T"):
        relaxation(Tissue.CSF, 7.0)
