"""Selectors as folders: ``selector.json``, and ``loss-aware`` where there are learned weights."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from adaptmr.data.manifest import read_description
from adaptmr.errors import UsageError
from adaptmr.sampling import loss_aware
from adaptmr.sampling.loss_aware import LossAware
from adaptmr.sampling.protocol_prior import ProtocolPrior
from adaptmr.sampling.selector import Selector
from adaptmr.sampling.selectors import SelectorName, name_of, selector

SCHEMA: Final = 1
_DESCRIPTION = "selector.json"
_WEIGHTS = "loss-aware"


class _Named(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["named"] = "named"
    name: SelectorName


class _Prior(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["protocol-prior"] = "protocol-prior"
    table: ProtocolPrior


class _LossAware(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["loss-aware"] = "loss-aware"


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA
    rule: Annotated[_Named | _Prior | _LossAware, Field(discriminator="kind")]


def save(selector: Selector, folder: Path) -> None:
    """Write a selector into an empty folder, so that `load` gives an equal one back.

    The folder has no manifest of its own: it is part of an artefact that has one.

    Raises:
        UsageError: a selector that no file can hold, as the oracle.
    """
    rule: _Named | _Prior | _LossAware
    if isinstance(selector, LossAware):
        rule = _LossAware()
        loss_aware.save(selector, folder / _WEIGHTS)
    elif isinstance(selector, ProtocolPrior):
        rule = _Prior(table=selector)
    elif (name := name_of(selector)) is not None:
        rule = _Named(name=name)
    else:
        raise UsageError(
            "this selector cannot be stored",
            field="selector",
            got=selector.name,
            expected=f"{', '.join(SelectorName)}, a protocol prior or a loss-aware one",
        )
    text = _Description(rule=rule).model_dump_json(indent=1)
    (folder / _DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> Selector:
    """Read a selector that `save` wrote.

    Raises:
        BadInputError: the folder is missing, incomplete, or of a newer version.
    """
    rule = read_description(folder / _DESCRIPTION, _Description, "a selector").rule
    if isinstance(rule, _LossAware):
        return loss_aware.load(folder / _WEIGHTS)
    return rule.table if isinstance(rule, _Prior) else selector(rule.name)
