"""Which of the weights that a stage went through it ends with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adaptmr.continual.config import Selection
from adaptmr.continual.results import Checkpoint, Scores
from adaptmr.continual.task import Task


@dataclass(frozen=True)
class Chooser:
    """Ranks checkpoints by their validation scores; test scores never reach it.

    Attributes:
        rule: how.
        tasks: those seen, the one at hand last.
        zero_filled: validation scores on zero-filled images.
        full: validation scores on fully sampled images.
    """

    rule: Selection
    tasks: Sequence[Task]
    zero_filled: Mapping[str, Scores]
    full: Mapping[str, Scores]

    def rank(self, start: Checkpoint, checkpoint: Checkpoint) -> tuple[float, float]:
        """Larger is better.

        Args:
            start: that of step 0.
            checkpoint: to be ranked.
        """
        if self.rule is Selection.LAST:
            return 1.0, float(checkpoint.step)
        if self.rule is Selection.CURRENT_TASK:
            return 1.0, -checkpoint.loss
        kept = all(
            checkpoint.scores[task.name] >= start.scores[task.name] - task.margin
            for task in self.tasks[:-1]
        )
        scores = [self._normalised(task, checkpoint.scores[task.name]) for task in self.tasks]
        return float(kept), sum(scores) / len(scores)

    def _normalised(self, task: Task, score: float) -> float:
        """0 as on zero-filled images, 1 as on fully sampled ones.

        Where the two are nearly alike their distance is no scale: at least the margin is.
        """
        low, high = self.zero_filled[task.name].value, self.full[task.name].value
        return (score - low) / max(abs(high - low), task.margin)
