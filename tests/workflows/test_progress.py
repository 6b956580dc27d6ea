"""Progress goes to standard error: a bar on a terminal, few plain lines in a log."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from adaptmr.workflows import progress


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "monotonic", clock)
    return clock


def work(clock: Clock, items: Iterator[int], seconds: float) -> list[int]:
    done = []
    for item in items:
        clock.now += seconds
        done.append(item)
    return done


def test_short_work_is_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert work(clock, progress.track(range(19), "reading"), 0.1) == list(range(19))
    assert capsys.readouterr() == ("", "")


def test_log_lines_carry_count_elapsed_and_remaining_time(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    work(clock, progress.track(range(100), "reconstructing"), 1.0)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0] == "reconstructing: 10/100 (10 %), 10.0 s, 1:30 min left"
    assert lines[-1] == "reconstructing: 100/100 (100 %), 1:40 min"
    assert len(lines) == 10


def test_fast_items_do_not_flood_a_log(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    work(clock, progress.track(range(10_000), "reading"), 1 / 1024)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "reading: 3072/10000",
        "reading: 6144/10000",
        "reading: 9216/10000",
        "reading: 10000/10000",
    ]


def test_slow_work_shows_that_it_lives(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    work(clock, progress.track(range(1000), "training"), 40.0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1000
    assert lines[0] == "training: 1/1000 (0 %), 40.0 s, 11:06:00 left"


def test_unknown_total_is_counted(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    work(clock, progress.track(iter(range(45)), "reading"), 1.0)
    assert capsys.readouterr().err.splitlines() == ["reading: 30, 30.0 s", "reading: 45, 45.0 s"]


def test_given_total_is_used_and_may_be_wrong(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    work(clock, progress.track(iter(range(5)), "reading", total=4), 10.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "reading: 1/4 (25 %), 10.0 s, 30.0 s left"
    assert lines[-1] == "reading: 5/4 (125 %), 50.0 s"


def test_nothing_to_do_is_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert work(clock, progress.track([], "reading"), 5.0) == []
    assert capsys.readouterr() == ("", "")


def test_stage_tells_its_beginning_and_its_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.stage("simulating"):
        assert capsys.readouterr().err == "simulating ...\n"
        clock.now += 3.21
    assert capsys.readouterr() == ("", "simulating ... done in 3.2 s\n")


def test_failed_stage_says_so_and_passes_the_error_on(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="planted"), progress.stage("training"):
        clock.now += 75
        raise ValueError("planted")
    assert capsys.readouterr().err.endswith("training ... failed after 1:15 min\n")


def on_terminal(code: str) -> tuple[str, str]:
    """Run code with a pseudo terminal as standard error: (standard output, terminal)."""
    pty = pytest.importorskip("pty")
    reader, writer = pty.openpty()
    try:
        finished = subprocess.run(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=writer,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
            timeout=60,
            check=True,
        )
        os.set_blocking(reader, False)
        return finished.stdout.decode(), os.read(reader, 1 << 16).decode()
    finally:
        os.close(reader)
        os.close(writer)


WORK = """
from adaptmr.workflows import progress
progress.QUIET = {quiet}
for item in progress.track(range(5), "recon[structing]"):
    print(item)
"""


def test_terminal_gets_a_bar_and_standard_output_stays_clean() -> None:
    out, terminal = on_terminal(WORK.format(quiet=0.0))
    assert out.split() == ["0", "1", "2", "3", "4"]
    assert "recon[structing]" in terminal
    assert "5/5" in terminal


def test_bar_of_short_work_is_wiped_from_the_terminal() -> None:
    _, kept = on_terminal(WORK.format(quiet=0.0))
    _, wiped = on_terminal(WORK.format(quiet=1e9))
    erase_line = "\x1b[2K"
    assert wiped.rstrip().endswith(erase_line)
    assert not kept.rstrip().endswith(erase_line)
