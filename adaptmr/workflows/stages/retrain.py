"""The stages of a retraining: from new scans to a bank that serves, or to the reason why not.

The bank that serves is trained further on all scans of the store; where none serves yet, one is
trained anew. Gates compare the two on sealed subjects, and only what passes is promoted.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from adaptmr.data.files import complete_file
from adaptmr.errors import BadInputError, GateError
from adaptmr.reconstruction.bank import persistence
from adaptmr.workflows.bank_training.config import PairTraining
from adaptmr.workflows.bank_training.course import Course
from adaptmr.workflows.bank_training.steps import NotDoneError, Step, Took
from adaptmr.workflows.gates.config import GateConfig, Verdict
from adaptmr.workflows.gates.result import GateReport
from adaptmr.workflows.registry.export import Exported, export, shown
from adaptmr.workflows.registry.judged import read_judged, write_judged
from adaptmr.workflows.registry.judging import JudgeConfig, judge_bank
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.registry.trigger import Trigger
from adaptmr.workflows.registry.version import Candidate
from adaptmr.workflows.stages.bank import BANK, BankStages
from adaptmr.workflows.stages.config import Retrain
from adaptmr.workflows.stages.further import Further, Taught
from adaptmr.workflows.stages.gathering import Stage, publish
from adaptmr.workflows.stages.split import Part

TASK: Final = "reconstruction"
"""What a bank is judged by."""
REGISTERED: Final = "registered.json"
GATES: Final = "gates"
_ASKED: Final = "asked"
_EXPORT: Final = "export"
_LENGTH: Final = 16
"""Characters of a hash that name a file."""


class _Pinned(BaseModel):
    """The bank that a retraining goes on from, whenever the same thing is asked for again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str | None
    """Name of the version that served then; None where none did."""
    bank: str | None
    """Its fingerprint."""
    trigger: Trigger
    """What asked for it first; who continues it does not change that."""


class Registered(BaseModel):
    """What became of a candidate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    verdict: Verdict
    serves: bool
    """Whether it was promoted."""
    why_not: str | None = None

    @property
    def settled(self) -> bool:
        """Whether its promotion was tried."""
        return self.serves or self.why_not is not None


@dataclass(frozen=True, eq=False)
class RetrainStages(BankStages):
    """The stages of a retraining."""

    config: Retrain

    @property
    def stages(self) -> tuple[Stage, ...]:
        """In an order in which they can be run."""
        gathering = super(BankStages, self).stages
        first, *others = self.training_stages
        return (
            *gathering,
            Stage("champion", ("validate",), self.pin),
            replace(first, needs=("champion",)),
            *others,
            Stage(GATES, (BANK,), lambda: self.judged, self.check),
            Stage("register", (GATES,), lambda: self.registered),
            *([Stage(_EXPORT, ("register",), self.export)] if self.config.mlflow else []),
        )

    @property
    def published(self) -> tuple[str, ...]:
        """Names of what is made for people and other commands, within the folder."""
        return (BANK, GATES, REGISTERED)

    @cached_property
    def registry(self) -> Registry:
        """Where versions are kept."""
        return Registry(self.config.registry)

    def pin(self) -> Step:
        """Settle what is gone on from, and by which gates, before anything is trained."""
        pinned, serves = self._pinned, self._serving
        mine = self._registered.version if self._registered else None
        if pinned is None or serves not in (pinned.version, mine):
            if self.steps.look_only:
                raise NotDoneError("champion")
            self.registry.freeze_gates(self.gates)
            self._file("registered").unlink(missing_ok=True)
            bank = None if serves is None else persistence.fingerprint(self._bank_of(serves))
            self._write("champion", _Pinned(version=serves, bank=bank, trigger=self.config.trigger))
        if self._registered is None:
            (self.out / REGISTERED).unlink(missing_ok=True)  # of what was asked for before
        return self.champion

    @cached_property
    def champion(self) -> Step:
        """The bank that is gone on from; a step without a folder's content where there is none."""
        if self._pinned is None:
            return self.pin()
        self._require_not_withdrawn()
        version = self._pinned.version
        folder = self.out if version is None else self._bank_of(version)
        return Step("champion", self._pinned.bank or "", folder)

    @cached_property
    def course(self) -> Course:
        """The training: further from the champion, or anew where none serves."""
        course = super().course
        if not self.champion.key:
            return course
        recipe, bank = self.config.training, persistence.load(self.champion.folder)
        if len(bank) != recipe.masks.masks:
            raise BadInputError(
                "the bank that serves has another number of masks",
                field="training.masks.masks",
                got=recipe.masks.masks,
                expected=len(bank),
                hint="Change the file, or train the other bank for a registry of its own",
            )
        pairs = PairTraining.model_validate(self.config.further.model_dump())
        config = course.config.model_copy(update={"pairs": pairs, "em_rounds": 0})
        steps, device = self.steps, course.device
        return Further(config, course.data, steps, device, self.champion, self.taught)

    @cached_property
    def taught(self) -> Taught | None:
        """The tasks, where there are any."""
        sequence = self.config.tasks
        return None if sequence is None else Taught(sequence, self.out / "tasks")

    @cached_property
    def gates(self) -> GateConfig:
        """What a candidate has to fulfil, in each of the tasks too."""
        gates = self.config.gates
        return gates if self.taught is None else gates.with_margins(self.taught.margins)

    @cached_property
    def judged(self) -> Step:
        """Measure the candidate beside the champion on the sealed subjects, and judge it."""
        tests = {TASK: self.prepared.folder / Part.TEST}
        config, taught = JudgeConfig(tests=tests, gates=self.gates), self.taught

        def compute(result: Path, _: Path) -> None:
            tasks = () if taught is None else taught.tasks[1:]
            found = judge_bank(self.bank.folder / BANK, self.registry, config, tasks)
            write_judged(result / GATES, *found)

        needs = (self.bank, self.champion, self.validated)
        reads: Any = self.gates.fingerprint
        if taught is not None:
            reads = [reads, taught.identity(self.steps)]
        step = self.steps.done(GATES, 1, reads, needs, compute)
        publish(step.folder / GATES, self.out / GATES)
        return step

    def check(self) -> None:
        """Refuse a candidate that the gates refuse.

        Raises:
            GateError: with each check that failed, and by how much.
        """
        report = self.report
        if report.verdict is Verdict.FAIL:
            failed = [check for check in report.checks if check.verdict is Verdict.FAIL]
            raise GateError(
                "the candidate does not pass the gates; the bank that serves stays",
                file=self.out / GATES / "gates.html",
                field=failed[0].gate if failed else None,
                got="; ".join(report.reasons[:3]),
            )

    @property
    def report(self) -> GateReport:
        """What the gates say."""
        return read_judged(self.judged.folder / GATES)[1]

    @cached_property
    def registered(self) -> Step:
        """Register the candidate, and promote it if nobody has to be asked."""
        told = self._registered
        known = self.registry.state().versions if self.registry.exists else ()
        if told is None or not told.settled or told.version not in known:
            if self.steps.look_only:
                raise NotDoneError("register")
            told = self._register()
            self.steps.took.append(Took("register", 0.0, reused=False, folder=self.registry.folder))
        publish(self._file("registered"), self.out / REGISTERED)
        return Step("register", told.version, self.registry.version_folder(told.version))

    def export(self) -> Step:
        """Copy the registry into MLflow; again whenever its log has grown."""
        config, path = self.config.mlflow, self._file(_EXPORT)
        assert self.registered and config  # noqa: S101 - there is no such stage without
        told = Exported.model_validate_json(path.read_bytes()) if path.exists() else None
        head = self.registry.state().aliases.head
        asked = head, shown(config.uri), config.model
        reused = told is not None and (told.head, told.where, told.model) == asked
        if not reused:
            if self.steps.look_only:
                raise NotDoneError(_EXPORT)
            self._write(_EXPORT, export(self.registry, config))
        self.steps.took.append(Took(_EXPORT, 0.0, reused=reused, folder=self.registry.folder))
        return Step(_EXPORT, head, self.registry.folder)

    def _require_not_withdrawn(self) -> None:
        """Refuse to go on from a bank that a person withdrew since this retraining began.

        Its images are what the networks start from, and what replay would teach them.

        Raises:
            GateError: it was withdrawn.
        """
        bank = self._pinned.bank if self._pinned else None
        if bank is not None and bank in self.registry.withdrawn_banks():
            raise GateError(
                "the bank that this retraining goes on from was withdrawn meanwhile",
                field="champion",
                got=bank[:16],
                hint="Run the workflow again, or its stage 'champion': it goes on from what serves",
            )

    def _register(self) -> Registered:
        self._require_not_withdrawn()
        evidence, report = read_judged(self.judged.folder / GATES)
        asked = {"data": self.ingested.key, "retraining": self._asked}
        trigger = self._pinned.trigger if self._pinned else self.config.trigger
        bank = self.bank.folder / BANK
        version = self.registry.register(Candidate(bank, evidence, report, asked, trigger=trigger))
        # Known before it serves: the next run must not take it for what it goes on from.
        before = Registered(version=version, verdict=report.verdict, serves=False)
        self._write("registered", before)
        done = self._promoted(version, report)
        self._write("registered", done)
        return done

    def _promoted(self, version: str, report: GateReport) -> Registered:
        try:
            self.registry.promote(version)
        except GateError as error:
            return Registered(
                version=version, verdict=report.verdict, serves=False, why_not=error.what
            )
        return Registered(version=version, verdict=report.verdict, serves=True)

    def _file(self, name: str) -> Path:
        """What is known of what is asked for; another thing that is asked for has others."""
        return self.out / _ASKED / self._asked[:_LENGTH] / f"{name}.json"

    def _write(self, name: str, value: BaseModel) -> None:
        with complete_file(self._file(name), overwrite=True) as partial:
            partial.write_text(value.model_dump_json(indent=1) + "\n")

    @property
    def _pinned(self) -> _Pinned | None:
        path = self._file("champion")
        return _Pinned.model_validate_json(path.read_bytes()) if path.exists() else None

    @property
    def _registered(self) -> Registered | None:
        path = self._file("registered")
        return Registered.model_validate_json(path.read_bytes()) if path.exists() else None

    @property
    def _serving(self) -> str | None:
        return self.registry.state().aliases.champion if self.registry.exists else None

    def _bank_of(self, version: str) -> Path:
        return self.registry.version_folder(version) / BANK

    @cached_property
    def _asked(self) -> str:
        """sha256 of data, tasks and configuration; not of where they lie."""
        free = {"executor", "registry", "ingest", "trigger", "mlflow"}
        config = self.config.model_dump(mode="json", exclude=free)
        asked = [self.validated.key, config]
        if self.taught is not None:
            asked.append(self.taught.identity(self.steps))
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
