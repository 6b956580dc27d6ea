"""Registries of folders that look like banks, for tests that need no network."""

from pathlib import Path
from typing import Any

from made_evidence import evidence, gates, scores

from adaptmr.data.manifest import write_manifest
from adaptmr.reconstruction.bank.persistence import fingerprint
from adaptmr.workflows.gates.config import GateConfig, Verdict
from adaptmr.workflows.gates.judge import judge
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.registry.version import Candidate


def made_bank(folder: Path, content: str = "weights") -> Path:
    """A folder with a manifest, which is all that a registry asks of a bank."""
    (folder / "networks" / "0").mkdir(parents=True)
    (folder / "bank.json").write_text('{"kind": "reconstruction-bank"}\n')
    (folder / "networks" / "0" / "weights.safetensors").write_bytes(content.encode() * 1000)
    write_manifest(folder)
    return folder


def candidate(
    bank: Path, registry: Registry, mean: float = 0.9, config: GateConfig | None = None, **told: Any
) -> Candidate:
    """A bank, measured and judged beside what serves."""
    known = evidence({"knee": scores(mean=mean)}, fingerprint(bank))
    report = judge(config or gates(), known, registry.champion_evidence(), registry.history())
    return Candidate(bank, known, report, **told)


def serving(registry: Registry, folder: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """Versions of banks of these names, each registered and promoted after the other."""
    registry.freeze_gates(gates())
    versions = []
    for name in names:
        one = candidate(made_bank(folder / name, name), registry)
        assert one.gates.verdict is Verdict.PASS
        versions.append(registry.promote(registry.register(one)))
    return tuple(versions)
