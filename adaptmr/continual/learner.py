"""`ContinualLearner`: fine-tunes networks for tasks that arrive one after another."""

from dataclasses import dataclass
from pathlib import Path

from adaptmr.continual.config import LearnerConfig
from adaptmr.continual.results import Learned
from adaptmr.continual.task import Task
from adaptmr.reconstruction.networks.checkpoint import Network
from adaptmr.sampling.mask import Mask


@dataclass(frozen=True)
class ContinualLearner:
    """Runs a strategy over a sequence of tasks.

    Attributes:
        tasks: in the order they are learned; the first is the reconstruction, which the network
            has learned already.
        strategy: one of `adaptmr.continual.strategies.STRATEGIES`.
        config: how.
    """

    tasks: tuple[Task, ...]
    strategy: object
    config: LearnerConfig

    def run(self, network: Network, mask: Mask, out: Path) -> Learned:
        """Learn the tasks with one network under one mask.

        Finished stages in ``out`` are not run again; one that was stopped continues, and ends with
        the weights that it would have had without the stop (bit by bit on one CPU).

        Args:
            network: trained for the reconstruction; it stays as it is.
            mask: the mask it is used with.
            out: folder of the stages, ``out/<index>``.

        Raises:
            BadInputError: the data or a task network cannot be used, or the loss became NaN twice.
            UsageError: ``out`` holds the stages of something else.
        """
        raise NotImplementedError

    def run_bank(self, bank: Path, out: Path) -> tuple[Learned, ...]:
        """Learn the tasks with every (mask, network) pair of a bank.

        Args:
            bank: folder of a bank; J = 1 is a plain network.
            out: ``out/<pair>/<index>`` are the stages, ``out/bank`` is the bank with the networks
                of the last stage. The intervals of a bank do not outlive its networks: the new
                bank has none.

        Returns:
            One for each pair, in the order of the bank.
        """
        raise NotImplementedError
