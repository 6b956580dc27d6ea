"""Erasing a subject from all that a learner left on disk."""

import shutil
from pathlib import Path

from adaptmr.continual import stage_files
from adaptmr.continual.results import Scores, Stage
from adaptmr.data.files import clear_left_over


def erase(out: Path, subject: str) -> tuple[Path, ...]:
    """Erase a subject from the buffers and records of all stages below a folder.

    Its scans and what was recorded of them leave the buffers, its scores leave the records, and
    what stopped or killed stages left, which may hold what was derived from it, is thrown away.
    Each buffer remembers a salted hash of its key, so that it cannot come back. Finished stages are
    no longer compared with the data when a sequence goes on. What was recorded of other subjects
    stays. Weights, and what a strategy remembers of them, may retain an influence: train again to
    be rid of it.

    Args:
        out: what `adaptmr.continual.learner.ContinualLearner` wrote, of one network or a bank.
        subject: its key.

    Returns:
        The stages that held something of it.

    Raises:
        BadInputError: a stage is damaged.
    """
    held = []
    for folder in (out, *sorted(path for path in out.rglob("*") if path.is_dir())):
        clear_left_over(folder)
    for state in sorted(out.rglob("*.run")):
        shutil.rmtree(state)
    for record in sorted(out.rglob("stage.json")):
        stage = stage_files.load(record.parent)
        if _erase(stage, subject):
            held.append(stage.folder)
    return tuple(held)


def _erase(stage: Stage, subject: str) -> bool:
    buffer, record = stage_files.load_buffer(stage), stage.record
    cleared = record.model_copy(
        update={
            "scores": {name: _without(of, subject) for name, of in record.scores.items()},
            "subjects": tuple(each for each in record.subjects if each != subject),
            # The data are others from now on, and no longer those of a stage that is continued.
            "provenance": {**record.provenance, "training": None, "tasks": None},
        }
    )
    stage_files.rewrite(stage, cleared, None if buffer is None else buffer.erase(subject))
    return (
        cleared.subjects != record.subjects
        or cleared.scores != record.scores
        or (buffer is not None and any(item.subject == subject for item in buffer.items))
    )


def _without(scores: Scores, subject: str) -> Scores:
    """Scores without a subject; their mean as it was, for it names nobody."""
    return scores.model_copy(
        update={
            field: {
                name: value for name, value in getattr(scores, field).items() if name != subject
            }
            for field in ("subjects", "outputs", "labels")
        }
    )
