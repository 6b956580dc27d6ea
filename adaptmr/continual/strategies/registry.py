"""All strategies by name. A new one joins the union by one line."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, get_args

from pydantic import Field

from adaptmr.continual.strategies.base import Strategy
from adaptmr.continual.strategies.plain import ImageGuided, Joint, Naive, PerTask
from adaptmr.continual.strategies.regularised import ElasticWeights, WithoutForgetting
from adaptmr.continual.strategies.replaying import (
    DarkExperienceReplay,
    ExperienceReplay,
    LogitReplay,
    Most,
)
from adaptmr.continual.strategies.sensitive import ForgettingPrioritised

_Any = (
    Naive
    | ImageGuided
    | ExperienceReplay
    | LogitReplay
    | Most
    | DarkExperienceReplay
    | ElasticWeights
    | WithoutForgetting
    | ForgettingPrioritised
    | Joint
    | PerTask
)
AnyStrategy = Annotated[_Any, Field(discriminator="kind")]
"""Any strategy with its settings, as a configuration names it by ``kind``."""

STRATEGIES: Mapping[str, type[Strategy]] = MappingProxyType(
    {strategy.model_fields["kind"].default: strategy for strategy in get_args(_Any)}
)
"""Strategies by ``kind``; their settings have defaults."""
