"""Configurations that come with the package, by name."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from adaptmr.errors import UsageError
from adaptmr.workflows.bank_training.config import BankTraining
from adaptmr.workflows.bank_training.preset_names import BankPreset
from adaptmr.workflows.config import checked
from adaptmr.workflows.sampling import TrainSamplerConfig


def preset(name: BankPreset, data: Path | None = None) -> BankTraining:
    """The configuration of that name.

    Args:
        name: which one.
        data: folder to train on; in place of simulated scans where the preset has those.

    Raises:
        UsageError: the preset needs data and there are none.
    """
    values = _values(name)
    simulated = values["data"]["kind"] == "simulated"
    if data is not None:
        values["data"] = {**({"kind": "scans"} if simulated else values["data"]), "folder": data}
    elif not simulated:
        raise UsageError(
            "this preset does not bring its own data",
            field="data",
            got=f"preset {name} alone",
            hint="Name a folder of fully sampled scans with --data",
        )
    return checked(BankTraining, values, "the preset cannot be used")


def sampler_preset(name: BankPreset, data: Path | None) -> TrainSamplerConfig:
    """The part of a preset that trains a sampler, as a training of its own.

    Raises:
        UsageError: there are no data.
    """
    if data is None:
        raise UsageError(
            "a sampler by itself needs data",
            field="data",
            hint="Name a folder of fully sampled scans with --data",
        )
    config = preset(name, data)
    settings: Mapping[str, Any] = {
        **dict(config.sampler_settings),
        "data": data,
        "validation_fraction": config.selection_fraction,
    }
    return checked(TrainSamplerConfig, settings, "the preset cannot be used")


def _values(name: BankPreset) -> dict[str, Any]:
    text = (files("adaptmr") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values
