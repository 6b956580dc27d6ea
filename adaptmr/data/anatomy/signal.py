"""Signal of a tissue in the common pulse sequences, in closed form."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adaptmr.data.anatomy.tissue import Relaxation, Tissue, relaxation


class Contrast(StrEnum):
    """Contrasts of a head examination, named as fastMRI names them (``AXT1``, ``AXFLAIR``...)."""

    T1 = "T1"
    T1POST = "T1POST"
    T2 = "T2"
    FLAIR = "FLAIR"
    PD = "PD"


class Sequence(Protocol):
    """A pulse sequence: the signal it draws from a tissue, per unit of magnetisation."""

    repetition_time: float
    echo_time: float

    def signal(self, tissue: Relaxation) -> float:
        """Steady-state signal; negative where inverted magnetisation has not recovered."""
        ...


@dataclass(frozen=True)
class SpoiledGradientEcho:
    """Spoiled gradient echo; times in ms, flip angle in degrees.

    Source: Ernst and Anderson, Rev Sci Instrum 37:93 (1966).
    """

    repetition_time: float
    echo_time: float
    flip_angle: float

    def signal(self, tissue: Relaxation) -> float:
        """M0 sin(a) (1 - E1) / (1 - E1 cos(a)) exp(-TE/T2*)."""
        recovery = math.exp(-self.repetition_time / tissue.t1)
        angle = math.radians(self.flip_angle)
        steady = math.sin(angle) * (1 - recovery) / (1 - recovery * math.cos(angle))
        return tissue.proton_density * steady * math.exp(-self.echo_time / tissue.t2_star)


@dataclass(frozen=True)
class SpinEcho:
    """90-180 degree spin echo, also the contrast of a turbo spin echo at its effective TE; ms.

    Source: Bernstein, King, Zhou, Handbook of MRI Pulse Sequences (2004), section 14.3.
    """

    repetition_time: float
    echo_time: float

    def signal(self, tissue: Relaxation) -> float:
        """M0 (1 - 2 exp(-(TR - TE/2)/T1) + exp(-TR/T1)) exp(-TE/T2)."""
        refocusing = math.exp(-(self.repetition_time - self.echo_time / 2) / tissue.t1)
        recovery = math.exp(-self.repetition_time / tissue.t1)
        longitudinal = 1 - 2 * refocusing + recovery
        return tissue.proton_density * longitudinal * math.exp(-self.echo_time / tissue.t2)


@dataclass(frozen=True)
class InversionRecovery:
    """Inversion-recovery spin echo (FLAIR when the inversion time nulls CSF); ms.

    Source: Bernstein, King, Zhou, Handbook of MRI Pulse Sequences (2004), section 14.2.
    """

    repetition_time: float
    echo_time: float
    inversion_time: float

    def signal(self, tissue: Relaxation) -> float:
        """M0 (1 - 2 exp(-TI/T1) + 2 exp(-(TR - TE/2)/T1) - exp(-TR/T1)) exp(-TE/T2)."""
        inversion = math.exp(-self.inversion_time / tissue.t1)
        refocusing = math.exp(-(self.repetition_time - self.echo_time / 2) / tissue.t1)
        recovery = math.exp(-self.repetition_time / tissue.t1)
        longitudinal = 1 - 2 * inversion + 2 * refocusing - recovery
        return tissue.proton_density * longitudinal * math.exp(-self.echo_time / tissue.t2)


SEQUENCES: dict[Contrast, SpoiledGradientEcho | SpinEcho | InversionRecovery] = {
    Contrast.T1: SpoiledGradientEcho(repetition_time=250.0, echo_time=2.5, flip_angle=70.0),
    Contrast.T1POST: SpoiledGradientEcho(repetition_time=250.0, echo_time=2.5, flip_angle=70.0),
    Contrast.T2: SpinEcho(repetition_time=6000.0, echo_time=100.0),
    Contrast.FLAIR: InversionRecovery(
        repetition_time=9000.0, echo_time=90.0, inversion_time=2500.0
    ),
    Contrast.PD: SpinEcho(repetition_time=3500.0, echo_time=15.0),
}
"""The sequence behind each contrast, in the range of clinical protocols."""

_RELAXIVITY = 4.5e-3
"""r1 of a gadolinium agent, 1 / (mmol/l ms): Rohrer et al., Invest Radiol 40:715 (2005)."""

_UPTAKE = {Tissue.TUMOUR: 0.6, Tissue.VESSEL: 0.8, Tissue.SKIN: 0.1, Tissue.MUSCLE: 0.05}
"""Agent in a tissue some minutes after injection, mmol/l; the blood-brain barrier keeps it out."""


def enhanced(tissue: Tissue, values: Relaxation) -> Relaxation:
    """The tissue after injection of contrast agent: 1/T1 grows by relaxivity x concentration."""
    rate = 1 / values.t1 + _RELAXIVITY * _UPTAKE.get(tissue, 0.0)
    return replace(values, t1=1 / rate)


def signals(
    contrast: Contrast, field_strength: float, variation: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """Signal of each tissue.

    Flowing blood leaves the slice between excitation and refocusing: vessels are void in the spin
    echo sequences and keep their signal in the gradient echo.

    Args:
        contrast: the contrast; its sequence is in `SEQUENCES`.
        field_strength: 1.5 or 3.0 tesla.
        variation: (tissues, 3) factors on T1, on T2 and T2*, and on the proton density, so that
            subjects differ; none when not given.

    Returns:
        (tissues,) float32, indexed by `Tissue`; signed.

    Raises:
        BadInputError: there is no table for this field strength.
    """
    sequence = SEQUENCES[contrast]
    factors = np.ones((len(Tissue), 3)) if variation is None else variation
    values = np.zeros(len(Tissue), dtype=np.float32)
    for tissue in Tissue:
        base = relaxation(tissue, field_strength)
        t1, t2, density = factors[tissue]
        varied = Relaxation(
            base.t1 * t1, base.t2 * t2, base.t2_star * t2, base.proton_density * density
        )
        if contrast is Contrast.T1POST:
            varied = enhanced(tissue, varied)
        if tissue is Tissue.VESSEL and not isinstance(sequence, SpoiledGradientEcho):
            continue
        values[tissue] = sequence.signal(varied)
    return values
