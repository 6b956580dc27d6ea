"""Tissue classes and their relaxation times and proton densities at 1.5 T and 3 T."""

from dataclasses import dataclass
from enum import IntEnum

from adaptmr.errors import BadInputError


class Tissue(IntEnum):
    """Classes of a tissue label map; 0 to 4 number the brain as atlases of tissue usually do."""

    BACKGROUND = 0
    CSF = 1
    CORTEX = 2
    WHITE_MATTER = 3
    DEEP_GREY = 4
    FAT = 5
    SKIN = 6
    BONE = 7
    MARROW = 8
    MUSCLE = 9
    VESSEL = 10
    EYE = 11
    WHITE_MATTER_LESION = 12
    OEDEMA = 13
    TUMOUR = 14
    NECROSIS = 15


LESIONS = (Tissue.WHITE_MATTER_LESION, Tissue.OEDEMA, Tissue.TUMOUR, Tissue.NECROSIS)
"""Lesion classes; a lesion map numbers them 1 to 4 in this order, 0 where there is none."""

BRAIN = (Tissue.CORTEX, Tissue.WHITE_MATTER, Tissue.DEEP_GREY)
"""Brain tissue proper."""


@dataclass(frozen=True)
class Relaxation:
    """What a tissue brings to the signal.

    Attributes:
        t1: longitudinal relaxation time, ms.
        t2: transverse relaxation time, ms.
        t2_star: apparent transverse relaxation time, ms.
        proton_density: visible protons relative to CSF.
    """

    t1: float
    t2: float
    t2_star: float
    proton_density: float


# Sources. Grey, white matter and blood T1/T2: Stanisz et al., Magn Reson Med 54:507 (2005) for
# 1.5 T and T2; Wansapura et al., J Magn Reson Imaging 9:531 (1999) for T1 at 3 T. T2* of brain:
# Peters et al., Magn Reson Imaging 25:748 (2007). CSF and deep grey T1: Rooney et al., Magn Reson
# Med 57:308 (2007). Muscle, fat, marrow: Gold et al., Am J Roentgenol 183:343 (2004). Cortical
# bone: Reichert et al., Magn Reson Imaging 23:611 (2005). Proton densities: Tofts (ed.),
# Quantitative MRI of the Brain, Wiley 2003. Skin, eye and lesions: rounded values in the range of
# the published ones, chosen so that lesions differ from white matter as they do in practice.
_RELAXATION: dict[float, dict[Tissue, Relaxation]] = {
    1.5: {
        Tissue.BACKGROUND: Relaxation(1000.0, 1.0, 1.0, 0.0),
        Tissue.CSF: Relaxation(4300.0, 2000.0, 1000.0, 1.00),
        Tissue.CORTEX: Relaxation(1124.0, 95.0, 84.0, 0.82),
        Tissue.WHITE_MATTER: Relaxation(700.0, 72.0, 66.0, 0.70),
        Tissue.DEEP_GREY: Relaxation(980.0, 84.0, 57.0, 0.80),
        Tissue.FAT: Relaxation(288.0, 165.0, 40.0, 0.90),
        Tissue.SKIN: Relaxation(870.0, 30.0, 15.0, 0.60),
        Tissue.BONE: Relaxation(220.0, 0.5, 0.4, 0.20),
        Tissue.MARROW: Relaxation(400.0, 90.0, 15.0, 0.60),
        Tissue.MUSCLE: Relaxation(1130.0, 35.0, 28.0, 0.75),
        Tissue.VESSEL: Relaxation(1441.0, 200.0, 100.0, 0.85),
        Tissue.EYE: Relaxation(3500.0, 1200.0, 400.0, 1.00),
        Tissue.WHITE_MATTER_LESION: Relaxation(1200.0, 150.0, 110.0, 0.85),
        Tissue.OEDEMA: Relaxation(1350.0, 160.0, 120.0, 0.87),
        Tissue.TUMOUR: Relaxation(1300.0, 120.0, 85.0, 0.86),
        Tissue.NECROSIS: Relaxation(2300.0, 450.0, 200.0, 0.95),
    },
    3.0: {
        Tissue.BACKGROUND: Relaxation(1000.0, 1.0, 1.0, 0.0),
        Tissue.CSF: Relaxation(4300.0, 2000.0, 700.0, 1.00),
        Tissue.CORTEX: Relaxation(1331.0, 99.0, 66.0, 0.82),
        Tissue.WHITE_MATTER: Relaxation(832.0, 69.0, 53.0, 0.70),
        Tissue.DEEP_GREY: Relaxation(1200.0, 78.0, 36.0, 0.80),
        Tissue.FAT: Relaxation(371.0, 133.0, 25.0, 0.90),
        Tissue.SKIN: Relaxation(1000.0, 28.0, 12.0, 0.60),
        Tissue.BONE: Relaxation(260.0, 0.4, 0.3, 0.20),
        Tissue.MARROW: Relaxation(500.0, 80.0, 10.0, 0.60),
        Tissue.MUSCLE: Relaxation(1420.0, 32.0, 22.0, 0.75),
        Tissue.VESSEL: Relaxation(1932.0, 150.0, 55.0, 0.85),
        Tissue.EYE: Relaxation(3800.0, 1000.0, 300.0, 1.00),
        Tissue.WHITE_MATTER_LESION: Relaxation(1400.0, 140.0, 85.0, 0.85),
        Tissue.OEDEMA: Relaxation(1600.0, 150.0, 90.0, 0.87),
        Tissue.TUMOUR: Relaxation(1550.0, 115.0, 65.0, 0.86),
        Tissue.NECROSIS: Relaxation(2600.0, 400.0, 150.0, 0.95),
    },
}

FIELD_STRENGTHS = tuple(_RELAXATION)
"""Field strengths with a table of relaxation times, tesla."""


def relaxation(tissue: Tissue, field_strength: float) -> Relaxation:
    """Relaxation times and proton density of a tissue.

    Args:
        tissue: the tissue.
        field_strength: 1.5 or 3.0 tesla.

    Raises:
        BadInputError: there is no table for this field strength.
    """
    if field_strength not in _RELAXATION:
        raise BadInputError(
            "relaxation times are not known at this field strength",
            field="field_strength",
            got=field_strength,
            expected=" or ".join(f"{field} T" for field in FIELD_STRENGTHS),
        )
    return _RELAXATION[field_strength][tissue]
