"""The versions of a registry in a table."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from adaptmr.workflows.gates.config import Verdict
from adaptmr.workflows.registry.log import Event
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.registry.trigger import Trigger


class Listed(BaseModel):
    """One version."""

    model_config = ConfigDict(frozen=True)

    version: str
    registered: datetime
    verdict: Verdict
    trigger: Trigger
    aliases: tuple[str, ...]
    pruned: bool


def listing(registry: Registry) -> tuple[Listed, ...]:
    """All versions, in the order in which they came.

    Raises:
        BadInputError: there is no registry, or it was edited by hand.
    """
    state = registry.state()
    names = ("champion", "challenger", "previous")
    return tuple(
        Listed(
            version=version,
            registered=entry.time,
            verdict=Verdict(entry.text("verdict")),
            trigger=Trigger(entry.text("trigger")),
            aliases=tuple(name for name in names if state.aliases.named(name) == version),
            pruned=version in state.pruned,
        )
        for entry in state.entries
        if entry.event is Event.REGISTERED
        for version in [entry.text("version")]
    )
