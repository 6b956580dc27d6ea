"""The registry: versions never change, one serves, and what may not serve does not."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_evidence import gates, scores
from made_registry import candidate, made_bank, serving

from adaptmr.data.manifest import check_manifest
from adaptmr.errors import AdaptMRError, BadInputError, BusyError, GateError, UsageError
from adaptmr.reconstruction.bank.persistence import fingerprint
from adaptmr.workflows.gates.config import Verdict
from adaptmr.workflows.registry.listing import listing
from adaptmr.workflows.registry.log import Event
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.registry.trigger import Trigger
from adaptmr.workflows.registry.verification import verify
from adaptmr.workflows.registry.version import read_version
from adaptmr.workflows.single_flight import single_flight


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry", by="tester")


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_a_version_holds_all_and_serves_only_when_promoted(
    registry: Registry, tmp_path: Path
) -> None:
    bank = made_bank(tmp_path / "bank")
    buffer = tmp_path / "buffer.json"
    buffer.write_text('{"subjects": ["a1"]}')
    assert registry.champion() is None
    registry.freeze_gates(gates())
    version = registry.register(
        candidate(bank, registry, provenance={"code": "abc"}, buffer=buffer)
    )
    folder = registry.version_folder(version)
    assert {file.name for file in folder.iterdir()} == {
        "bank", "version.json", "manifest.json", "card.md", "metrics.json", "gates.json",
        "gates.html", "environment.json", "buffer.json",
    }  # fmt: skip
    assert tree(folder / "bank") == tree(bank)
    assert "| knee | T1 | 12 | ssim |" in (folder / "card.md").read_text()
    assert "torch" in json.loads((folder / "environment.json").read_text())["packages"]
    assert registry.champion() is None
    assert registry.state().aliases.challenger == version
    registry.promote("challenger")
    assert registry.champion() == folder / "bank"
    assert registry.state().aliases.challenger is None
    (row,) = listing(registry)
    assert (row.version, row.aliases, row.verdict) == (version, ("champion",), Verdict.PASS)
    assert verify(registry).problems == ()


def test_the_same_candidate_twice_is_one_version(registry: Registry, tmp_path: Path) -> None:
    registry.freeze_gates(gates())
    one = candidate(made_bank(tmp_path / "bank"), registry)
    first = registry.register(one)
    before = tree(registry.folder)
    slow = replace(one, evidence=one.evidence.model_copy(update={"seconds_per_slice": 9.0}))
    assert registry.register(slow) == first
    assert tree(registry.folder) == before
    registry.promote(first)
    again = candidate(one.bank, registry)  # compared with itself: a retraining on equal data
    assert registry.register(again) == first
    assert len(registry.state().versions) == 1


def test_rollback_brings_back_the_one_before(registry: Registry, tmp_path: Path) -> None:
    first, second, third = serving(registry, tmp_path, ("a", "b", "c"))
    assert registry.state().aliases.previous == second
    withdrawn = read_version(registry.version_folder(third)).bank
    assert registry.rollback("champion", "blurred") == second
    aliases = registry.state().aliases
    assert (aliases.champion, aliases.previous) == (second, first)
    assert registry.withdrawn_banks() == {withdrawn}
    assert registry.state().entries[-1].details["buffer"] is None
    assert registry.rollback(third, "blurred") == second, "done already"
    assert registry.rollback(second, "that too") == first
    with pytest.raises(UsageError, match="served before"):
        registry.rollback(first, "nothing is left")
    assert registry.state().aliases.champion == first


def test_rollback_restores_the_buffer_of_that_version(registry: Registry, tmp_path: Path) -> None:
    registry.freeze_gates(gates())
    for name in ("a", "b"):
        listed = tmp_path / f"{name}.json"
        listed.write_text(json.dumps({"made with": name}))
        bank = made_bank(tmp_path / name, name)
        registry.promote(registry.register(candidate(bank, registry, buffer=listed)))
    registry.rollback("champion", "why")
    champion = registry.champion()
    assert champion is not None
    assert (champion.parent / "buffer.json").read_text() == (tmp_path / "a.json").read_text()
    assert registry.state().entries[-1].details["buffer"] == read_version(champion.parent).buffer


def test_a_withdrawn_version_needs_a_person(registry: Registry, tmp_path: Path) -> None:
    _, second = serving(registry, tmp_path, ("a", "b"))
    registry.rollback(second, "blurred")
    with pytest.raises(GateError, match="withdrawn before"):
        registry.promote(second)
    Registry(registry.folder, by="A. Physicist").approve(second, "it was the coil")
    assert registry.withdrawn_banks()
    assert registry.promote(second) == second
    assert not registry.withdrawn_banks(), "what serves may teach"


def test_a_failed_candidate_leaves_the_champion_and_a_note(
    registry: Registry, tmp_path: Path
) -> None:
    (first,) = serving(registry, tmp_path, ("a",))
    worse = candidate(made_bank(tmp_path / "b", "b"), registry, mean=0.85)
    with pytest.raises(GateError, match=r"non-inferiority.*gain -0\.05"):
        registry.register(worse)
    assert registry.state().aliases.champion == first
    last = registry.state().entries[-1]
    assert (last.event, last.details["verdict"]) == (Event.JUDGED, "fail")
    assert not registry.version_folder("").joinpath(fingerprint(worse.bank)).exists()
    assert len(list(registry.version_folder("").iterdir())) == 1


def test_gates_are_fixed_before(registry: Registry, tmp_path: Path) -> None:
    registry.freeze_gates(gates())
    lenient = gates(metrics={"ssim": {"margin": 0.5}})
    with pytest.raises(GateError, match="not frozen"):
        registry.register(candidate(made_bank(tmp_path / "a"), registry, config=lenient))
    registry.freeze_gates(gates())
    assert [e.event for e in registry.state().entries].count(Event.GATES_FROZEN) == 1


def test_review_and_drift_and_approvals_wait_for_persons(
    registry: Registry, tmp_path: Path
) -> None:
    few, two = gates(minimum_subjects=13), gates(approvals=2)
    for config in (few, two, gates()):
        registry.freeze_gates(config)
    (first,) = serving(registry, tmp_path, ("a",))
    review = candidate(made_bank(tmp_path / "b", "b"), registry, config=few)
    assert review.gates.verdict is Verdict.REVIEW
    drift = candidate(made_bank(tmp_path / "c", "c"), registry, trigger=Trigger.DRIFT)
    strict = candidate(made_bank(tmp_path / "d", "d"), registry, config=two)
    versions = {registry.register(one): why for one, why in (
        (review, "review"), (drift, "drift"), (strict, "persons who approve"))}  # fmt: skip
    for version, why in versions.items():
        with pytest.raises(GateError, match=why):
            registry.promote(version)
    last = registry.register(strict)
    for person in ("A. Physicist", "A. Physicist", "B. Radiologist"):
        with pytest.raises(GateError, match="persons"):
            registry.promote(last)
        Registry(registry.folder, by=person).approve(last, "looked at 20 images")
    assert registry.promote(last) == last
    with pytest.raises(GateError, match="another bank"):
        registry.promote(next(iter(versions)))
    assert registry.state().aliases.previous == first


def test_an_approval_has_a_name_and_a_reason(registry: Registry, tmp_path: Path) -> None:
    (first,) = serving(registry, tmp_path, ("a",))
    with pytest.raises(UsageError):
        Registry(registry.folder).approve(first, "why")
    with pytest.raises(UsageError):
        registry.approve(first, "  ")


def test_parts_of_other_banks_are_refused(registry: Registry, tmp_path: Path) -> None:
    registry.freeze_gates(gates())
    one = candidate(made_bank(tmp_path / "a"), registry)
    other = made_bank(tmp_path / "b", "other")
    with pytest.raises(BadInputError, match="of another bank"):
        registry.register(replace(one, bank=other))
    better = candidate(one.bank, registry, mean=0.99).evidence
    with pytest.raises(BadInputError, match="other numbers"):
        registry.register(replace(one, evidence=better))
    (tmp_path / "a" / "bank.json").write_text("{}")
    with pytest.raises(BadInputError, match="altered"):
        registry.register(one)
    with pytest.raises(BadInputError, match=r"buffer.*cannot be read"):
        registry.register(replace(one, buffer=tmp_path / "none.json"))
    assert not registry.version_folder("").exists()


def test_prune_keeps_aliases_and_records(registry: Registry, tmp_path: Path) -> None:
    versions = serving(registry, tmp_path, ("a", "b", "c", "d"))
    assert registry.prune(0) == versions[:2]
    assert registry.prune(0) == ()
    for version in versions[:2]:
        assert not (registry.version_folder(version) / "bank").exists()
        assert (registry.version_folder(version) / "gates.json").is_file()
    assert verify(registry).problems == ()
    assert [row.pruned for row in listing(registry)] == [True, True, False, False]
    registry.rollback("champion", "why")
    assert registry.state().aliases.previous is None
    with pytest.raises((UsageError, BadInputError, GateError)):
        registry.promote(versions[0])
    (registry.version_folder(versions[0]) / "gates.json").write_text("{}")
    assert "altered" in verify(registry).problems[0]


EDITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a weight": (
        lambda v: (v / "bank/networks/0/weights.safetensors").write_bytes(b"x"),
        "altered",
    ),
    "a record": (lambda v: (v / "metrics.json").write_text("{}"), "altered"),
    "a file more": (lambda v: (v / "note.txt").write_text("hello"), "added"),
    "a file less": (lambda v: (v / "card.md").unlink(), "missing"),
    "a version less": (lambda v: shutil.rmtree(v), "missing"),
    "a version more": (lambda v: shutil.copytree(v, v.with_name("abc")), "no such version"),
    "the verdict": (
        lambda v: (v / "version.json").write_text(
            (v / "version.json").read_text().replace('"pass"', '"review"')
        ),
        "name is not that",
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_edits_of_versions_are_named(registry: Registry, tmp_path: Path, what: str) -> None:
    (version,) = serving(registry, tmp_path, ("a",))
    edit, said = EDITS[what]
    edit(registry.version_folder(version))
    problems = verify(registry).problems
    assert len(problems) == 1
    assert said in problems[0]


def test_a_version_that_is_edited_does_not_come_back(registry: Registry, tmp_path: Path) -> None:
    first, second = serving(registry, tmp_path, ("a", "b"))
    shutil.rmtree(registry.version_folder(first) / "bank")
    with pytest.raises(BadInputError, match="no bank any more"):
        registry.rollback(second, "why")
    assert registry.state().aliases.champion == second


def test_the_second_is_told_busy(registry: Registry, tmp_path: Path) -> None:
    serving(registry, tmp_path, ("a",))
    before = tree(registry.folder)
    with single_flight(registry.folder / "lock", "the registry"):
        with pytest.raises(BusyError, match="another process is at the registry"):
            registry.freeze_gates(gates(seed=1))
        assert registry.champion() is not None, "reading needs no lock"
    before["lock"] = (registry.folder / "lock").read_bytes()
    assert tree(registry.folder) == before


def test_a_folder_of_other_things_is_no_registry(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(BadInputError, match="no registry"):
        Registry(tmp_path).freeze_gates(gates())
    assert [file.name for file in tmp_path.iterdir()] == ["photo.jpg"]
    with pytest.raises(BadInputError, match="no registry here"):
        Registry(tmp_path / "none").state()


@pytest.mark.parametrize("name", ["", "zz", "champions"])
def test_unknown_names(registry: Registry, tmp_path: Path, name: str) -> None:
    serving(registry, tmp_path, ("a", "b"))
    with pytest.raises(AdaptMRError, match=r"no such version|several"):
        registry.state().resolved(name)


def test_what_the_champion_scored_is_kept(registry: Registry, tmp_path: Path) -> None:
    serving(registry, tmp_path, ("a", "b"))
    champion, known = registry.champion(), registry.champion_evidence()
    assert champion is not None
    assert known is not None
    check_manifest(champion)
    assert known.bank == fingerprint(champion)
    assert [v.value for v in known.measurements[0].values] == scores().tolist()
    assert len(registry.history()) == 2
