"""The bank that comes with the package is the one that its preset makes, whole and small."""

from adaptmr.reconstruction.bank import persistence
from adaptmr.workflows.bank_training.config import BankTraining
from adaptmr.workflows.bank_training.preset_names import BankPreset
from adaptmr.workflows.bank_training.presets import preset
from adaptmr.workflows.banks import default_bank


def test_it_is_what_the_preset_makes() -> None:
    bank = persistence.load(default_bank())
    expected = preset(BankPreset.DEMO, None)
    assert BankTraining.model_validate(bank.provenance["config"]) == expected
    assert len(bank.networks) == len(bank.masks) == expected.masks.masks
    assert len({mask.fingerprint for mask in bank.masks.masks}) == len(bank.masks)


def test_its_intervals_are_calibrated_on_enough_subjects() -> None:
    calibration = persistence.load(default_bank()).calibration
    assert calibration is not None
    assert calibration.pooled.subjects >= 72
    assert calibration.pooled.risk <= 0.1


def test_it_is_small() -> None:
    files = [file for file in default_bank().rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 10e6
