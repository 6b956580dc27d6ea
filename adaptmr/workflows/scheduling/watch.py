"""Sensors: scans are looked at as they come, and ask for a candidate when there is a reason.

The scans that are there at the first look, and those of every run since, are the reference; what
came later is new. A candidate is all that is ever asked for: what serves is decided elsewhere.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, PositiveInt

from adaptmr.data.files import complete_file
from adaptmr.data.manifest import read_description
from adaptmr.errors import BadInputError, UsageError
from adaptmr.workflows.progress import track
from adaptmr.workflows.registry.trigger import Trigger
from adaptmr.workflows.scheduling.drift import Alarm, DriftConfig, Observation, drift


class _Seen(BaseModel):
    """What was seen so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    observations: tuple[Observation, ...] = ()
    refused: tuple[str, ...] = ()
    """Keys of files that cannot be read."""
    settled: int = 0
    """So many of the observations are the reference."""


class Watch(BaseModel):
    """What is looked at, and what has to be seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    """Folder that scans arrive in."""
    new_subjects: PositiveInt | None = None
    """So many subjects that no run has seen ask for one."""
    drift: DriftConfig | None = None
    """Whether, and when, acquisitions that changed ask for one."""
    decisions: Path | None = None
    """Folder of the records of selection, for the share of each mask."""

    def settle(self, seen: Path) -> None:
        """Have everything that was seen be the reference from now on.

        Raises:
            BadInputError: the file was edited, or cannot be written.
        """
        known = _read(seen)
        _write(seen, known.model_copy(update={"settled": len(known.observations)}))


class Sensed(NamedTuple):
    """What was seen.

    Attributes:
        trigger: what asks for a run; None where nothing does.
        reasons: what a person should know, be it that nothing does.
        alarms: the charts that gave alarm.
        new_subjects: how many subjects no run has seen.
    """

    trigger: Trigger | None
    reasons: tuple[str, ...]
    alarms: tuple[Alarm, ...]
    new_subjects: int


def watching(
    folder: Path | None, new_subjects: int | None, *, drift: bool, decisions: Path | None
) -> Watch | None:
    """What the options of a command ask to watch; None where they ask for nothing.

    Raises:
        UsageError: they do not fit together.
    """
    asked = new_subjects is not None or drift
    if (folder is None) is asked or (decisions is not None and not drift):
        raise UsageError(
            "these options do not fit together",
            field="watch",
            hint="--watch goes with --new-subjects, --drift or both, and --decisions with --drift",
        )
    if folder is None:
        return None
    return Watch(
        folder=folder.absolute(),
        new_subjects=new_subjects,
        drift=DriftConfig() if drift else None,
        decisions=None if decisions is None else decisions.absolute(),
    )


def sense(watch: Watch, seen: Path) -> Sensed:
    """Look at the scans that are new, and say whether they ask for a run.

    Args:
        watch: what is looked at.
        seen: file of what was seen before; the first look makes it.

    Raises:
        BadInputError: the folder is missing, or the file was edited or cannot be written.
    """
    if not watch.folder.is_dir():
        raise BadInputError(
            "the folder that is watched does not exist", file=watch.folder, hint="Check the path"
        )
    first, known = not seen.exists(), _read(seen)
    known = _looked(watch, known)
    if first:
        known = known.model_copy(update={"settled": len(known.observations)})
    _write(seen, known)
    reference, new = known.observations[: known.settled], known.observations[known.settled :]
    subjects = len({one.subject for one in new} - {one.subject for one in reference})
    alarms = () if watch.drift is None else drift(watch.drift, reference, new)
    reasons = [f"{len(new)} new scans, {subjects} new subjects"]
    if known.refused:
        reasons.append(f"{len(known.refused)} files that cannot be read")
    reasons += [
        f"drift ({one.kind}) of {one.statistic}, {one.stratum}: {one.reference:.4g} before,"
        f" {one.now:.4g} in {one.scans} scans ({one.chart})"
        for one in alarms
    ]
    trigger = None
    if alarms:
        trigger = Trigger.DRIFT  # first, since it promotes nothing: new subjects may drift as well
    elif watch.new_subjects is not None and subjects >= watch.new_subjects:
        trigger = Trigger.SUBJECTS
    return Sensed(trigger, tuple(reasons), alarms, subjects)


def _looked(watch: Watch, known: _Seen) -> _Seen:
    """What was seen, with the files that are new, in the order in which they came."""
    from adaptmr.workflows.scheduling.observation import observe  # loads torch

    before = {one.file for one in known.observations} | set(known.refused)
    fresh = [(path, key) for path, key in _files(watch.folder) if key not in before]
    observations, refused = list(known.observations), list(known.refused)
    for path, key in track(fresh, "looking at new scans"):
        try:
            observations.append(observe(path, watch.decisions))
        except BadInputError:
            refused.append(key)
    changes = {"observations": tuple(observations), "refused": tuple(refused)}
    return known.model_copy(update=changes)


def _files(folder: Path) -> Sequence[tuple[Path, str]]:
    from adaptmr.workflows.reconstruction import scan_files
    from adaptmr.workflows.scheduling.observation import file_key

    if not any(folder.iterdir()):
        return ()
    found = sorted(scan_files([folder]), key=lambda path: (path.stat().st_mtime_ns, path.name))
    return [(path, file_key(path)) for path in found]


def _read(path: Path) -> _Seen:
    return read_description(path, _Seen, "what was seen of scans") if path.exists() else _Seen()


def _write(path: Path, seen: _Seen) -> None:
    with complete_file(path, overwrite=True) as partial:
        partial.write_text(seen.model_dump_json() + "\n", encoding="utf-8")
