"""Steps that are computed once: folders named by a hash of all that they depend on.

``<folder>/<name>/<key>`` appears when the step is done, complete, and is never changed: an equal
key is not computed again, and another configuration has other keys. A step that is stopped leaves
its state in ``<key>.work``, from which it may continue. Any number of processes may work in one
folder: a step that one is at the others wait for.
"""

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from adaptmr import __version__
from adaptmr.data.files import clear_left_over, complete_folder
from adaptmr.workflows.progress import stage

MANIFEST: Final = "step.json"
"""What a step was made from, by what version, and how long it took; in its folder."""
_LENGTH: Final = 16
"""Characters of a key that name a folder."""


@dataclass(frozen=True)
class Step:
    """A step that is done.

    Attributes:
        name: what it is called.
        key: sha256 of all that its result depends on.
        folder: its result.
    """

    name: str
    key: str
    folder: Path


class NotDoneError(Exception):
    """A step was only looked for, and is not there.

    Args:
        name: what it is called.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


@dataclass(frozen=True)
class Took:
    """How long a step took.

    Attributes:
        step: its name.
        seconds: since it was last begun.
        reused: whether it was done before.
        folder: its result.
    """

    step: str
    seconds: float
    reused: bool
    folder: Path


@dataclass(frozen=True)
class Steps:
    """The steps of a training.

    Attributes:
        folder: where their results are kept.
        look_only: whether steps are only looked for, and nothing is computed or written.
        took: of every step asked for, in order; grows.
    """

    folder: Path
    look_only: bool = False
    took: list[Took] = field(default_factory=list)

    def done(
        self,
        name: str,
        version: int,
        reads: Any,
        needs: Sequence[Step],
        compute: Callable[[Path, Path], object],
    ) -> Step:
        """The step with these inputs, computed unless it was before.

        Args:
            name: what it is called.
            version: of the code that computes it; raise it when its result changes.
            reads: the part of the configuration that it reads, as JSON holds it.
            needs: the steps whose results it reads.
            compute: called as ``compute(result, work)``: writes its result into the folder
                ``result``, which exists, and may keep what it continues from in the folder
                ``work``, which need not.

        Raises:
            AdaptMRError: whatever ``compute`` raises.
            NotDoneError: steps are only looked for, and this one is not there.
        """
        inputs = [name, version, reads, [step.key for step in needs]]
        key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        folder = self.folder / name / key[:_LENGTH]
        work = folder.with_suffix(".work")
        if self.look_only:
            if not folder.is_dir():
                raise NotDoneError(name)
            return Step(name, key, folder)
        with _alone(folder.with_suffix(".lock"), name):
            reused = folder.is_dir()
            if not reused:
                clear_left_over(folder.parent, folder.name)
                begun = time.monotonic()
                with stage(name), complete_folder(folder) as result:
                    compute(result, work)
                    made = {
                        "step": name,
                        "key": key,
                        "version": version,
                        "reads": reads,
                        "needs": {step.name: step.key for step in needs},
                        "adaptmr": __version__,
                        "seconds": round(time.monotonic() - begun, 1),
                    }
                    (result / MANIFEST).write_text(json.dumps(made, indent=1) + "\n")
            shutil.rmtree(work, ignore_errors=True)
        seconds = json.loads((folder / MANIFEST).read_text())["seconds"]
        self.took.append(Took(name, seconds, reused, folder))
        return Step(name, key, folder)


@contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    """Keep other processes out; the lock of a process that is killed is free."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with stage(f"waiting for another process at {name}"):
                fcntl.flock(stream, fcntl.LOCK_EX)
        yield
