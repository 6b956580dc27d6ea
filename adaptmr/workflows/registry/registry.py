"""`Registry`: versions of one bank, of which one serves.

Every change is first written to the log, then to the aliases, each in one step: a process that is
killed in between leaves a change that the next call finishes. Nothing else is ever rewritten.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from adaptmr.data.files import clear_left_over
from adaptmr.data.manifest import MANIFEST, sha256
from adaptmr.errors import BadInputError, UsageError
from adaptmr.workflows.gates.config import GateConfig
from adaptmr.workflows.gates.evidence import Evidence
from adaptmr.workflows.gates.result import GateReport
from adaptmr.workflows.registry import rules
from adaptmr.workflows.registry.aliases import (
    Aliases,
    derive,
    lineage,
    read_aliases,
    write_aliases,
)
from adaptmr.workflows.registry.log import Entry, Event, append, read_log
from adaptmr.workflows.registry.points import Point, point
from adaptmr.workflows.registry.version import (
    BANK,
    Candidate,
    Version,
    buffer_list,
    read_evidence,
    read_version,
    write_version,
)
from adaptmr.workflows.single_flight import single_flight

LOG: Final = "audit.jsonl"
_LOCK: Final = "lock"
_VERSIONS: Final = "versions"


@dataclass(frozen=True)
class State:
    """What a registry holds at one moment.

    Attributes:
        entries: the whole log.
        aliases: what follows from it.
    """

    entries: tuple[Entry, ...]
    aliases: Aliases

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions registered, in order."""
        return tuple(e.text("version") for e in self.entries if e.event is Event.REGISTERED)

    @property
    def pruned(self) -> frozenset[str]:
        """The versions of which only the records are kept."""
        return frozenset(e.text("version") for e in self.entries if e.event is Event.PRUNED)

    def resolved(self, name: str) -> str:
        """The version that a name, the beginning of one, or an alias stands for.

        Raises:
            UsageError: there is none, or there are several.
        """
        wanted = self.aliases.named(name)
        if wanted is not None:
            return wanted
        found = [version for version in self.versions if version.startswith(name)]
        if len(found) != 1 or not name:
            raise UsageError(
                "several versions begin like this" if len(found) > 1 else "no such version",
                field="version",
                got=name,
                expected=", ".join((found or self.versions)[-5:]) or "none is registered",
            )
        return found[0]


@dataclass(frozen=True)
class Registry:
    """A registry in a folder.

    Attributes:
        folder: its folder; made by the first change.
        by: who asks for the changes; the account of the process when None.
        now: what the clock says, for tests.
    """

    folder: Path
    by: str | None = None
    now: datetime | None = None

    @property
    def exists(self) -> bool:
        """Whether anything was registered or frozen yet."""
        return (self.folder / LOG).is_file()

    def state(self) -> State:
        """Log and aliases, checked against each other; needs no lock.

        Raises:
            BadInputError: there is no registry, or it was edited by hand.
        """
        if not self.exists:
            raise BadInputError(
                "there is no registry here",
                file=self.folder,
                hint="The first 'adaptmr registry register' makes it",
            )
        entries = read_log(self.folder / LOG)
        read_aliases(self.folder, entries)
        return State(entries, derive(entries))

    def version_folder(self, version: str) -> Path:
        """Where the files of a version are."""
        return self.folder / _VERSIONS / version

    def champion(self) -> Path | None:
        """Folder of the bank that serves; None where none does.

        Raises:
            BadInputError: the registry was edited by hand.
        """
        version = self.state().aliases.champion if self.exists else None
        return None if version is None else self.version_folder(version) / BANK

    def champion_evidence(self) -> Evidence | None:
        """What is known of the version that serves; None where none does."""
        bank = self.champion()
        return None if bank is None else read_evidence(bank.parent)

    def history(self) -> tuple[Evidence, ...]:
        """What is known of all versions that served and were not withdrawn."""
        served = lineage(self.state().entries) if self.exists else []
        return tuple(read_evidence(self.version_folder(each)) for each in dict.fromkeys(served))

    def freeze_gates(self, config: GateConfig) -> None:
        """Write the hash of a gate configuration into the log; do so before the training begins.

        Raises:
            BusyError: another process changes the registry.
            BadInputError: it was edited by hand, or cannot be written.
        """
        with self._alone() as state:
            if config.fingerprint not in rules.frozen(state.entries):
                self._record(state, Event.GATES_FROZEN, {"gates": config.fingerprint})

    def register(self, candidate: Candidate) -> str:
        """Copy a candidate in as a version, which becomes the challenger.

        Registering the same candidate again changes nothing, and finishes what was cut short; nor
        does the bank that serves become another version.

        Returns:
            The name of the version.

        Raises:
            GateError: the gates failed, or their configuration was not frozen before.
            BusyError: another process changes the registry.
            BadInputError: the parts are not of each other, the bank is damaged, or there is no
                room.
        """
        version = Version.of(candidate)
        with self._alone() as state:
            self._judged(state, candidate.gates)
            state = self._now()
            rules.check_registration(state.entries, candidate.gates)
            champion = state.aliases.champion
            if champion is not None and self._bank_of(champion) == version.bank:
                return champion  # a retraining on equal data gives the bank that serves
            if version.name in state.versions:
                return version.name
            folder = self.version_folder(version.name)
            if folder.is_dir():
                read_version(folder)  # complete, since it has its name; its command was killed
            else:
                write_version(folder, version, candidate)
            details: dict[str, JsonValue] = {
                "version": version.name,
                "bank": version.bank,
                "manifest": sha256(folder / MANIFEST),
                "verdict": version.verdict.value,
                "trigger": candidate.trigger.value,
            }
            self._record(state, Event.REGISTERED, details)
            return version.name

    def approve(self, name: str, reason: str) -> str:
        """Note that a person approves a version; `by` is the person.

        Raises:
            UsageError: no such version, or nobody is named.
        """
        if not self.by or not reason.strip():
            raise UsageError("an approval needs a name and a reason", field="by, reason")
        with self._alone() as state:
            version = state.resolved(name)
            self._record(state, Event.APPROVED, {"version": version, "reason": reason})
            return version

    def promote(self, name: str) -> str:
        """Have a version serve; the one that does becomes the previous one.

        Raises:
            GateError: it was not passed or not approved, or was compared with another champion.
            UsageError: no such version.
            BusyError: another process changes the registry.
            BadInputError: the version is incomplete.
        """
        with self._alone() as state:
            version = state.resolved(name)
            if version == state.aliases.champion:
                return version
            self._check_present(version)
            described = read_version(self.version_folder(version))
            champion = state.aliases.champion
            serving = None if champion is None else self._bank_of(champion)
            rules.check_promotion(state.entries, version, described, serving)
            details: dict[str, JsonValue] = {"version": version, "instead_of": champion}
            self._record(state, Event.PROMOTED, details)
            return version

    def rollback(self, name: str, reason: str) -> str:
        """Withdraw the version that serves; the one before serves again.

        The pseudo targets that the withdrawn bank made are void: see `withdrawn_banks`. The list of
        the replay buffer that holds from now on is that of the version that serves again.

        Args:
            name: the version to withdraw. One that was withdrawn just before is done already.
            reason: why, for the log.

        Returns:
            The version that serves now.

        Raises:
            UsageError: it does not serve, or there is none before it.
            BusyError: another process changes the registry.
        """
        with self._alone() as state:
            version, aliases = state.resolved(name), state.aliases
            last = state.entries[-1]
            done = last.event is Event.ROLLED_BACK and last.text("version") == version
            if done and aliases.champion is not None:
                return aliases.champion
            if version != aliases.champion or aliases.previous is None:
                raise UsageError(
                    "only the version that serves can be withdrawn, and only if one served before",
                    field="version",
                    got=version,
                    expected=aliases.champion if aliases.previous else "two versions that served",
                )
            self._check_present(aliases.previous)
            buffer = buffer_list(self.version_folder(aliases.previous))
            details: dict[str, JsonValue] = {
                "version": version,
                "restored": aliases.previous,
                "void_pseudo_targets_of": self._bank_of(version),
                "buffer": None if buffer is None else sha256(buffer),
                "reason": reason,
            }
            self._record(state, Event.ROLLED_BACK, details)
            return aliases.previous

    def prune(self, keep: int) -> tuple[str, ...]:
        """Remove the banks of old versions; the records stay, and what an alias names.

        Args:
            keep: how many of the newest versions are kept besides.

        Returns:
            The versions pruned.

        Raises:
            UsageError: ``keep`` is negative.
            BusyError: another process changes the registry.
        """
        if keep < 0:
            raise UsageError("so many versions cannot be kept", field="keep", got=keep)
        done = []
        with self._alone() as state:
            named = {state.aliases.named(alias) for alias in ("champion", "challenger", "previous")}
            old = state.versions[: len(state.versions) - keep]
            for version in old:
                if version in named:
                    continue
                if version not in state.pruned:
                    self._record(self._now(), Event.PRUNED, {"version": version})
                    done.append(version)
                point(Point.PRUNING)
                shutil.rmtree(self.version_folder(version) / BANK, ignore_errors=True)
        return tuple(done)

    def repair(self) -> Aliases:
        """Write the aliases anew from the log, which has to be whole.

        Raises:
            BadInputError: the log was edited too.
            BusyError: another process changes the registry.
        """
        with single_flight(self.folder / _LOCK, "the registry"):
            entries = read_log(self.folder / LOG)
            entry = append(self.folder / LOG, entries, Event.REPAIRED, {}, by=self.by, now=self.now)
            aliases = derive((*entries, entry))
            write_aliases(self.folder, aliases)
            return aliases

    def withdrawn_banks(self) -> frozenset[str]:
        """Fingerprints of the banks that were withdrawn: their pseudo targets teach nobody.

        One that serves again, since a person approved it, is none of them.
        """
        entries = self.state().entries if self.exists else ()
        bank_of = {
            e.text("version"): e.text("bank") for e in entries if e.event is Event.REGISTERED
        }
        withdrawn: set[str] = set()
        for entry in entries:
            if entry.event is Event.ROLLED_BACK:
                withdrawn.add(entry.text("void_pseudo_targets_of"))
            elif entry.event is Event.PROMOTED:
                withdrawn.discard(bank_of[entry.text("version")])
        return frozenset(withdrawn)

    def _bank_of(self, version: str) -> str:
        return read_version(self.version_folder(version)).bank

    def _check_present(self, version: str) -> None:
        folder = self.version_folder(version)
        read_version(folder)
        if not (folder / BANK / MANIFEST).is_file():
            raise BadInputError(
                "the version has no bank any more",
                file=folder / BANK,
                hint="It was pruned, or removed by hand: put it back from a backup",
            )

    def _judged(self, state: State, gates: GateReport) -> None:
        """Have the log know what the gates said, be it that they failed."""
        details: dict[str, JsonValue] = {
            "bank": gates.candidate,
            "champion": gates.champion,
            "gates": gates.config,
            "verdict": gates.verdict.value,
            "reasons": list(gates.reasons[:20]),
        }
        known = (e.details for e in state.entries if e.event is Event.JUDGED)
        if details not in known:
            self._record(state, Event.JUDGED, details)

    @contextmanager
    def _alone(self) -> Iterator[State]:
        """The state, with all others kept out and what was cut short finished."""
        if not self.exists and self.folder.is_dir():
            strange = [p.name for p in self.folder.iterdir() if p.name not in (_LOCK, LOG)]
            if strange:
                raise BadInputError(
                    "the folder is no registry, and not empty",
                    file=self.folder,
                    got=", ".join(sorted(strange)[:3]),
                    hint="Name an empty folder, or one that does not exist yet",
                )
        with single_flight(self.folder / _LOCK, "the registry"):
            point(Point.LOCKED)
            clear_left_over(self.folder)
            clear_left_over(self.version_folder(""))
            log = self.folder / LOG
            entries = read_log(log) if self.exists else ()
            if not entries:
                created = append(log, (), Event.CREATED, {"schema": 1}, by=self.by, now=self.now)
                entries = (created,)
            if read_aliases(self.folder, entries) is None:
                write_aliases(self.folder, derive(entries))
            yield State(entries, derive(entries))

    def _now(self) -> State:
        entries = read_log(self.folder / LOG)
        return State(entries, derive(entries))

    def _record(self, state: State, event: Event, details: dict[str, JsonValue]) -> None:
        entry = append(self.folder / LOG, state.entries, event, details, by=self.by, now=self.now)
        point(Point.LOGGED, event)
        write_aliases(self.folder, derive((*state.entries, entry)))
        point(Point.ALIASED, event)
