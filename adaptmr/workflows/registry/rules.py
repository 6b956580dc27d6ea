"""What may be registered and promoted."""

from adaptmr.errors import GateError
from adaptmr.workflows.gates.config import Verdict
from adaptmr.workflows.gates.result import GateReport
from adaptmr.workflows.registry.log import Entry, Event
from adaptmr.workflows.registry.trigger import Trigger
from adaptmr.workflows.registry.version import Version


def frozen(entries: tuple[Entry, ...]) -> frozenset[str]:
    """Fingerprints of the gate configurations that were frozen."""
    return frozenset(e.text("gates") for e in entries if e.event is Event.GATES_FROZEN)


def check_registration(entries: tuple[Entry, ...], gates: GateReport) -> None:
    """Refuse what the gates refuse, and gates that were thought of afterwards.

    Raises:
        GateError: the gates failed, or their configuration was not frozen.
    """
    if gates.config not in frozen(entries):
        raise GateError(
            "the gates were not frozen before the candidate was judged",
            field="gates",
            got=gates.config[:16],
            hint="Call 'adaptmr registry freeze GATES' before the training",
        )
    if gates.verdict is Verdict.FAIL:
        raise GateError(
            "the candidate does not pass the gates; the bank that serves stays",
            got="; ".join(gates.reasons[:3]),
        )


def check_promotion(
    entries: tuple[Entry, ...], name: str, version: Version, serving: str | None
) -> None:
    """Refuse a version that nobody compared with what serves, or that waits for a person.

    Args:
        entries: the log.
        name: of the version.
        version: its description.
        serving: fingerprint of the bank that serves.

    Raises:
        GateError: it may not serve.
    """
    if version.parent != serving:
        raise GateError(
            "the version was compared with another bank than the one that serves",
            field="champion",
            got=version.parent and version.parent[:16],
            expected=serving and serving[:16],
            hint="Judge the candidate again, then register what the gates say",
        )
    withdrawn = [
        e.number
        for e in entries
        if e.event is Event.ROLLED_BACK and e.details["void_pseudo_targets_of"] == version.bank
    ]
    since = max(withdrawn, default=-1)
    persons = {
        e.by
        for e in entries
        if e.event is Event.APPROVED and e.text("version") == name and e.number > since
    }
    drifted = any(
        e.event is Event.REGISTERED
        and e.text("version") == name
        and e.text("trigger") == Trigger.DRIFT
        for e in entries
    )
    asked = {
        "the gates ask for a review": 1 if version.verdict is Verdict.REVIEW else 0,
        "it was withdrawn before": 1 if withdrawn else 0,
        "a drift alarm asked for it, which promotes nothing": 1 if drifted else 0,
        "the gates ask for persons who approve": version.approvals,
    }
    why, needed = max(asked.items(), key=lambda one: one[1])
    if len(persons) < needed:
        raise GateError(
            f"the version waits for approval: {why}",
            field=name,
            got=f"{len(persons)} persons",
            expected=needed,
            hint="Call 'adaptmr registry approve VERSION --by NAME --reason WHY'",
        )
