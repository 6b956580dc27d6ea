"""Schedules: each moment once, over missed times, changes of the clock and two at once."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptmr.errors import BadInputError, UsageError
from adaptmr.workflows.registry.trigger import Trigger
from adaptmr.workflows.scheduling.cron import Cron
from adaptmr.workflows.scheduling.due import Ran, run_due
from adaptmr.workflows.scheduling.schedules import Schedule, Schedules
from adaptmr.workflows.single_flight import single_flight

BERLIN = ZoneInfo("Europe/Berlin")
Run = Callable[..., tuple[int, str, str]]


class Workflow:
    """Counts how often it is run, and ends as it is told."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.ran: list[Trigger] = []

    def __call__(self, _: Schedule, trigger: Trigger) -> int:
        self.ran.append(trigger)
        return self.code


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    path = tmp_path / "retrain.yaml"
    path.write_text("workflow: retrain\n")
    return path


def berlin(*moment: int) -> datetime:
    return datetime(*moment, tzinfo=BERLIN).astimezone(UTC)  # type: ignore[misc, arg-type]


def weekly(tmp_path: Path, yaml: Path, created: datetime) -> Schedules:
    """Every Sunday at three in the morning."""
    schedules = Schedules(tmp_path / "schedules")
    cron = Cron.checked("0 3 * * SUN", "Europe/Berlin")
    schedules.add(yaml, cron, tmp_path / "out", now=created)
    return schedules


def due(schedules: Schedules, workflow: Workflow, now: datetime) -> Ran:
    (one,) = run_due(schedules, workflow, now=now)
    return one


def test_a_moment_runs_once(tmp_path: Path, yaml: Path) -> None:
    schedules, workflow = weekly(tmp_path, yaml, berlin(2026, 6, 1)), Workflow()
    assert due(schedules, workflow, berlin(2026, 6, 7, 2, 59)).moment is None
    ran = due(schedules, workflow, berlin(2026, 6, 7, 3, 4))
    assert ran.moment == berlin(2026, 6, 7, 3)
    assert (ran.exit_code, ran.trigger) == (0, Trigger.SCHEDULE)
    for minutes in (5, 6, 60):
        again = berlin(2026, 6, 7, 3) + timedelta(minutes=minutes)
        assert due(schedules, workflow, again).exit_code is None
    assert due(schedules, workflow, berlin(2026, 6, 14, 3)).exit_code == 0
    assert len(workflow.ran) == 2


def test_missed_moments_run_once_together(tmp_path: Path, yaml: Path) -> None:
    schedules, workflow = weekly(tmp_path, yaml, berlin(2026, 1, 1)), Workflow()
    ran = due(schedules, workflow, berlin(2026, 6, 10, 12))
    assert ran.moment == berlin(2026, 6, 7, 3)
    assert due(schedules, workflow, berlin(2026, 6, 10, 13)).moment is None
    assert len(workflow.ran) == 1


@pytest.mark.parametrize("change", [(2026, 3, 29), (2026, 10, 25)])
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 2 * * *", "0 3 * * *", "45 1 * * *"])
def test_a_daily_moment_fires_once_when_the_clock_changes(
    tmp_path: Path, yaml: Path, change: tuple[int, int, int], cron: str
) -> None:
    """Asked every ten minutes from the day before to the day after."""
    schedules, workflow = Schedules(tmp_path / "schedules"), Workflow()
    begin = berlin(*change) - timedelta(days=1)
    schedules.add(yaml, Cron.checked(cron, "Europe/Berlin"), tmp_path / "out", now=begin)
    fired = [
        ran.moment.astimezone(BERLIN).date()
        for step in range(6 * 24 * 3)
        if (ran := due(schedules, workflow, begin + timedelta(minutes=10 * step))).moment
    ]
    assert len(fired) == len(set(fired)) == 3


@pytest.mark.parametrize("code", [-9, 75, 130])
def test_what_did_not_end_is_due_still(tmp_path: Path, yaml: Path, code: int) -> None:
    schedules, workflow = weekly(tmp_path, yaml, berlin(2026, 6, 1)), Workflow(code)
    now = berlin(2026, 6, 7, 4)
    assert due(schedules, workflow, now).exit_code == code
    workflow.code = 0
    assert due(schedules, workflow, now).exit_code == 0
    assert due(schedules, workflow, now).exit_code is None


@pytest.mark.parametrize("code", [1, 3, 4])
def test_what_ended_badly_waits_for_the_next_moment(tmp_path: Path, yaml: Path, code: int) -> None:
    schedules, workflow = weekly(tmp_path, yaml, berlin(2026, 6, 1)), Workflow(code)
    assert due(schedules, workflow, berlin(2026, 6, 7, 4)).exit_code == code
    assert due(schedules, workflow, berlin(2026, 6, 8)).exit_code is None
    fired = schedules.fired(schedules.named("retrain"))
    assert fired is not None
    assert fired.exit_code == code


def test_a_clock_that_jumps_back_a_little_waits(tmp_path: Path, yaml: Path) -> None:
    schedules, workflow = weekly(tmp_path, yaml, berlin(2026, 6, 1)), Workflow()
    due(schedules, workflow, berlin(2026, 6, 7, 3, 1))
    ran = due(schedules, workflow, berlin(2026, 6, 7, 1))
    assert (ran.moment, ran.problem) == (None, None)
    assert due(schedules, workflow, berlin(2026, 6, 7, 3, 1)).moment is None, "not twice"
    assert due(schedules, workflow, berlin(2026, 6, 14, 3)).exit_code == 0


def test_a_clock_that_was_far_ahead_is_named_and_nothing_is_lost(
    tmp_path: Path, yaml: Path
) -> None:
    schedules, workflow = weekly(tmp_path, yaml, berlin(2026, 6, 1)), Workflow()
    due(schedules, workflow, berlin(2031, 1, 1))
    ran = due(schedules, workflow, berlin(2026, 6, 10))
    assert ran.problem is not None
    assert "the clock is" in ran.problem
    assert due(schedules, workflow, berlin(2026, 6, 10)).problem is None
    assert due(schedules, workflow, berlin(2026, 6, 14, 3)).exit_code == 0
    assert len(workflow.ran) == 2


def test_two_at_once(tmp_path: Path, yaml: Path) -> None:
    schedules, workflow = weekly(tmp_path, yaml, berlin(2026, 6, 1)), Workflow()
    schedules.add(yaml, Cron.checked("@daily", "UTC"), tmp_path, name="b", now=berlin(2026, 6, 1))
    with single_flight(schedules.lock(schedules.named("retrain")), "it"):
        first, second = run_due(schedules, workflow, now=berlin(2026, 6, 7, 4))
    assert (first.schedule, first.exit_code) == ("b", 0), "the other one is run"
    assert (second.schedule, second.exit_code) == ("retrain", 75)
    assert due_names(schedules, workflow) == ["retrain"]


def due_names(schedules: Schedules, workflow: Workflow) -> list[str]:
    ran = run_due(schedules, workflow, now=berlin(2026, 6, 7, 4))
    return [one.schedule for one in ran if one.moment]


def test_schedules_are_kept_named_and_removed(tmp_path: Path, yaml: Path) -> None:
    schedules = weekly(tmp_path, yaml, berlin(2026, 6, 1))
    (one,) = schedules.all()
    assert (one.name, one.workflow, one.out) == ("retrain", yaml, tmp_path / "out")
    with pytest.raises(BadInputError, match="exists already"):
        weekly(tmp_path, yaml, berlin(2026, 6, 1))
    due(schedules, Workflow(), berlin(2026, 6, 8))
    schedules.remove("retrain")
    assert schedules.all() == ()
    assert [file.suffix for file in schedules.folder.iterdir()] == [".lock"]
    with pytest.raises(UsageError, match="no such schedule"):
        schedules.remove("retrain")


def test_bad_schedules(tmp_path: Path, yaml: Path) -> None:
    schedules, cron = Schedules(tmp_path / "schedules"), Cron.checked("@daily", "UTC")
    with pytest.raises(BadInputError, match="no such workflow"):
        schedules.add(tmp_path / "none.yaml", cron, tmp_path)
    with pytest.raises(UsageError, match="cannot name"):
        schedules.add(yaml, cron, tmp_path, name="../out")
    schedule = schedules.add(yaml, cron, tmp_path)
    (schedules.folder / "retrain.state").write_text("{}")
    with pytest.raises(BadInputError, match="state of a schedule"):
        schedules.fired(schedule)
    (schedules.folder / "retrain.json").write_text('{"name": "x"}')
    with pytest.raises(BadInputError, match="a schedule"):
        schedules.all()


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31 2 *"])
def test_a_cron_that_never_fires_is_named(cron: str) -> None:
    with pytest.raises(UsageError, match="never fires"):
        Cron.checked(cron, "UTC")


@pytest.mark.parametrize("cron", ["", "0 3 * *", "61 * * * *", "* * * * * *", "@reboot", "hello"])
def test_no_cron(cron: str) -> None:
    with pytest.raises(UsageError, match="no cron"):
        Cron.checked(cron, "UTC")


def test_no_zone() -> None:
    with pytest.raises(UsageError, match=r"no such time zone.*Did you mean 'Europe/Berlin'"):
        Cron.checked("@daily", "Europe/Berln")


FIELDS = st.tuples(
    st.sampled_from(["0", "30", "*/15", "7,41"]),
    st.sampled_from(["*", "0", "5", "*/6", "13-15", "22"]),
    st.sampled_from(["*", "1", "15", "31"]),
    st.sampled_from(["*", "1", "*/3"]),
    st.sampled_from(["*"]),
) | st.tuples(
    st.sampled_from(["0", "10"]),
    st.sampled_from(["4", "12,20"]),
    st.just("*"),
    st.just("*"),
    st.sampled_from(["SUN", "1-5", "2,4"]),
)


def matches(field: str, value: int, first: int) -> bool:
    """Whether a value is one of a field, by itself."""
    names = {"SUN": "0"}
    for part in field.split(","):
        span, _, step = names.get(part, part).partition("/")
        if span == "*":
            low, high = first, 99
        else:
            low, high = (int(end) for end in (span.split("-") * 2)[:2])
        if low <= value <= high and (value - low) % int(step or 1) == 0:
            return True
    return False


@settings(max_examples=40, deadline=None)
@given(FIELDS, st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 1)))
def test_moments_are_those_of_a_count_by_hand(
    fields: tuple[str, str, str, str, str], start: datetime
) -> None:
    """Every minute of UTC is asked, one after the other."""
    cron = Cron.checked(" ".join(fields), "UTC")
    begin = start.replace(second=0, microsecond=0, tzinfo=UTC)
    minute, hour, day, month, weekday = fields
    expected = [
        at
        for step in range(1, 3 * 24 * 60)
        if matches(minute, (at := begin + timedelta(minutes=step)).minute, 0)
        and matches(hour, at.hour, 0)
        and matches(day, at.day, 1)
        and matches(month, at.month, 1)
        and matches(weekday, at.isoweekday() % 7, 0)
    ]
    got = cron.next(begin, len(expected) + 1)
    assert list(got[: len(expected)]) == expected
    end = begin + timedelta(days=3) - timedelta(minutes=1)
    assert got[-1] > end
    assert cron.latest(begin, end) == (expected[-1] if expected else None)


def test_commands(run: Run, tmp_path: Path, yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("add", yaml, "--out", "out", "--cron", "0 3 * * SUN", "--tz", "Europe/Berlin")
    code, text, _ = run("schedule", *arguments, "--json")
    assert code == 0
    told = json.loads(text)
    assert (told["name"], told["out"]) == ("retrain", str(tmp_path / "out"))
    assert len(told["next"]) == 5
    assert all("T03:00:00+0" in moment for moment in told["next"])
    assert run("schedule", *arguments)[0] == 3
    code, text, _ = run("schedule", "next", "retrain", "--count", "2", "--json")
    assert json.loads(text)["next"] == told["next"][:2]
    code, text, _ = run("schedule", "list", "--json")
    assert json.loads(text)["schedules"][0]["last"] is None
    assert run("schedule", "run-due")[:2] == (0, "retrain: nothing due\n")
    assert run("schedule", "remove", "retrain")[0] == 0
    code, _, err = run("schedule", "add", yaml, "--out", "out", "--cron", "0 0 30 2 *")
    assert code == 2
    assert "this cron never fires (got '0 0 30 2 *')" in err
    assert run("schedule", "add", yaml, "--out", "o", "--cron", "@daily", "--drift")[0] == 2


def test_exit_codes_of_run_due(
    run: Run, tmp_path: Path, yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    long_ago = datetime.now(UTC) - timedelta(days=3)
    schedules = Schedules(tmp_path / "schedules")
    for name, code in (("a", 0), ("b", 4), ("c", 3), ("d", 1)):
        schedules.add(yaml, Cron.checked("@daily", "UTC"), tmp_path, name=name, now=long_ago)
        monkeypatch.setattr("adaptmr.workflows.scheduling.due.by_command", Workflow(code))
        ended, text, _ = run("schedule", "run-due", name, "--json")
        assert (ended, json.loads(text)["schedules"][0]["exit_code"]) == (code, code)
    schedules.add(yaml, Cron.checked("@daily", "UTC"), tmp_path, name="e", now=long_ago)
    with single_flight(schedules.folder / "e.lock", "it"):
        code, _, err = run("schedule", "run-due")
    assert code == 75
    assert "another process is at the schedule e" in err
