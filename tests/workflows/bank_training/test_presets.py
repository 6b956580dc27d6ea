"""The configurations of the package."""

from pathlib import Path

import pytest

from adaptmr.errors import BadInputError, UsageError
from adaptmr.sampling.selection import HONG2024
from adaptmr.workflows.bank_training.config import (
    BankTraining,
    PictureFolder,
    ScanFolder,
    SimulatedScans,
)
from adaptmr.workflows.bank_training.preset_names import BankPreset
from adaptmr.workflows.bank_training.presets import preset, sampler_preset
from adaptmr.workflows.config import load_config


@pytest.mark.parametrize("name", list(BankPreset))
def test_every_preset_can_be_read(name: BankPreset, tmp_path: Path) -> None:
    config = preset(name, tmp_path)
    assert not isinstance(config.data, SimulatedScans | PictureFolder)
    assert config.data == ScanFolder(folder=tmp_path)
    sampler = sampler_preset(name, tmp_path)
    assert sampler.sampler == config.sampler
    assert sampler.data == tmp_path
    with pytest.raises(UsageError, match="--data"):
        sampler_preset(name, None)


def test_only_the_demonstration_brings_its_own_data() -> None:
    assert isinstance(preset(BankPreset.DEMO).data, SimulatedScans)
    for name in set(BankPreset) - {BankPreset.DEMO}:
        with pytest.raises(UsageError, match="--data"):
            preset(name)


def test_the_published_method_is_the_published_one(tmp_path: Path) -> None:
    config = preset(BankPreset.HONG2024, tmp_path)
    assert config.sampler == HONG2024.sampler
    assert config.uncertainty == HONG2024.uncertainty
    assert config.masks == HONG2024.bank
    assert config.selector == HONG2024.selector
    assert config.surrogate is None
    assert config.refinement is None
    assert (config.pairs.epochs, config.pairs.batch_size, config.pairs.emphasis) == (50, 4, 0)


@pytest.mark.parametrize("example", ["varnet-small.yaml", "sampler-small.yaml"])
def test_the_file_of_a_single_part_is_told_as_that(example: str) -> None:
    file = Path(__file__).parents[3] / "examples" / example
    with pytest.raises(BadInputError, match="add --only network or --only sampler"):
        load_config(file, BankTraining)
