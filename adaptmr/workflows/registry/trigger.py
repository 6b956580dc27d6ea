"""Why a bank is trained."""

from enum import StrEnum


class Trigger(StrEnum):
    """What asked for a retraining."""

    HAND = "hand"
    SCHEDULE = "schedule"
    SUBJECTS = "new-subjects"
    DRIFT = "drift"
