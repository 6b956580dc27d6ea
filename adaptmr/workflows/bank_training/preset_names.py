"""Names of the configurations in ``adaptmr/presets``; apart, for the command line loads it."""

from enum import StrEnum


class BankPreset(StrEnum):
    """Which configuration."""

    DEMO = "demo"
    """Small, on simulated heads: minutes on a laptop."""
    BRAIN60 = "brain60"
    """Real anatomy at 64 x 64, mixed contrasts and orientations."""
    FASTMRI_KNEE = "fastmri-knee"
    """fastMRI's multi-coil knees."""
    FASTMRI_BRAIN = "fastmri-brain"
    """fastMRI's multi-coil brains."""
    HONG2024 = "hong2024"
    """Hong, Bae, Lee, Chun, ECCV 2024, as published."""
