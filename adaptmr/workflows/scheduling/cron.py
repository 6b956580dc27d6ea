"""Moments of a cron in a time zone, as Dagster's daemon counts them.

A moment that the change to summer time leaves out is the first one after it; one that the change
back repeats is the later of the two. So a daily cron fires once on these days too.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import islice
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field

from adaptmr.errors import UsageError


class Cron(BaseModel):
    """A cron expression and the zone whose clock it is meant for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expression: Annotated[str, Field(min_length=1)]
    """Minute, hour, day of the month, month, day of the week; or ``@daily`` and the like."""
    zone: str
    """Name of the time zone, for example ``Europe/Berlin``."""

    @classmethod
    def checked(cls, expression: str, zone: str) -> Self:
        """One that fires.

        Raises:
            UsageError: it is no cron, it never fires, or there is no such zone.
        """
        if zone not in available_timezones():
            near = get_close_matches(zone, sorted(available_timezones()), n=1, cutoff=0.0)
            raise UsageError(
                "there is no such time zone",
                field="tz",
                got=zone,
                hint=f"Did you mean '{near[0]}'?" if near else "Install the package tzdata",
            )
        _check(expression)
        return cls(expression=expression, zone=zone)

    def next(self, after: datetime, count: int) -> tuple[datetime, ...]:
        """The first moments later than ``after``, in the time zone."""
        moments = (moment for moment in self._moments(after, forward=True) if moment > after)
        return tuple(moment.astimezone(ZoneInfo(self.zone)) for moment in islice(moments, count))

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """The last moment in ``after < moment <= until``, UTC; None where there is none."""
        first = next(m for m in self._moments(until, forward=False) if m <= until)
        return first.astimezone(UTC) if first > after else None

    def _moments(self, start: datetime, *, forward: bool) -> Iterator[datetime]:
        from dagster._utils.schedules import cron_string_iterator

        return cron_string_iterator(
            start.timestamp(), self.expression, self.zone, ascending=forward
        )


def _check(expression: str) -> None:
    from dagster._utils.schedules import is_valid_cron_string
    from dagster._vendored.croniter.croniter import CroniterBadDateError
    from dagster._vendored.croniter.croniter import croniter as vendored

    croniter: Any = vendored  # has no types
    hint = "Minute, hour, day of the month, month, day of the week: '0 3 * * SUN'"
    if not croniter.is_valid(expression):
        raise UsageError("this is no cron", field="cron", got=repr(expression), hint=hint)
    try:
        croniter(expression, datetime(2024, 1, 1, tzinfo=UTC)).get_next()
    except CroniterBadDateError as error:
        raise UsageError(
            "this cron never fires",
            field="cron",
            got=repr(expression),
            hint="No such month has such a day",
        ) from error
    if not is_valid_cron_string(expression):
        raise UsageError(
            "this is no cron of minutes", field="cron", got=repr(expression), hint=hint
        )
