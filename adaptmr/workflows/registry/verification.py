"""Whether a registry is what was written: every file hashed again, log and aliases compared."""

from pydantic import BaseModel, ConfigDict

from adaptmr.data.manifest import MANIFEST, sha256
from adaptmr.errors import BadInputError
from adaptmr.workflows.registry.log import Event
from adaptmr.workflows.registry.registry import Registry
from adaptmr.workflows.registry.version import check_version


class Verification(BaseModel):
    """What was found; nothing is wrong where ``problems`` is empty."""

    model_config = ConfigDict(frozen=True)

    versions: int
    entries: int
    head: str
    """Hash of the last entry of the log: noted elsewhere, it proves later that all entries up to
    here are still those."""
    problems: tuple[str, ...]


def verify(registry: Registry, head: str | None = None) -> Verification:
    """Hash all files of a registry again.

    Args:
        registry: the registry.
        head: hash of an entry that was noted elsewhere; the log has to hold it.

    Raises:
        BadInputError: log or aliases were edited by hand: nothing else can be trusted then.
    """
    state = registry.state()
    if head is not None and all(entry.hash != head for entry in state.entries):
        raise BadInputError(
            "the audit log does not hold the entry that was noted",
            file=registry.folder,
            field="head",
            got=state.aliases.head[:16],
            expected=head[:16],
            hint="It was written anew: put back the copy of a backup",
        )
    manifests = {
        e.text("version"): e.text("manifest") for e in state.entries if e.event is Event.REGISTERED
    }
    problems = []
    for version, manifest in manifests.items():
        folder = registry.version_folder(version)
        try:
            check_version(folder, pruned=version in state.pruned)
            if sha256(folder / MANIFEST) != manifest:
                raise BadInputError(
                    "the version was written anew: its manifest is not the one in the audit log",
                    file=folder / MANIFEST,
                )
        except BadInputError as error:
            problems.append(str(error))
    parent = registry.version_folder("").resolve()
    there = sorted(p.name for p in parent.iterdir()) if parent.is_dir() else []
    problems += [
        f"{parent / name}: the audit log knows no such version"
        for name in there
        if name not in manifests and not name.startswith(".")
    ]
    return Verification(
        versions=len(manifests),
        entries=len(state.entries),
        head=state.aliases.head,
        problems=tuple(problems),
    )
