"""The network of a mask as a small change of the surrogate."""

from pathlib import Path

from adaptmr.continual.adapt import adapter as adapters
from adaptmr.continual.adapt.family import Strategy
from adaptmr.continual.adapt.network import AdaptationConfig, adapt_network, adapted
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.training.cohort import Cohort
from adaptmr.reconstruction.training.config import SeededSchedule
from adaptmr.reconstruction.training.data import Emphasis
from adaptmr.sampling.mask import Mask


def train_change(
    surrogate: Path,
    cohort: Cohort,
    mask: Mask,
    emphasis: Emphasis | None,
    schedule: SeededSchedule,
    rank: int,
    out: Path,
    work: Path,
) -> None:
    """Train a low-rank change of the surrogate for one mask, and write the changed network.

    Args:
        surrogate: folder of the network to change.
        cohort: scans.
        mask: the one mask.
        emphasis: slices that come more often.
        schedule: how.
        rank: of the change of each layer.
        out: folder for the network, with the change merged into it.
        work: folder of the training while it runs.

    Raises:
        BadInputError: as `adapt_network`.
    """
    network = checkpoint.load(surrogate)
    fields = {**schedule.model_dump(), "strategy": Strategy.LOW_RANK, "rank": rank}
    config = AdaptationConfig.model_validate(fields)
    change = adapt_network(
        network, cohort, mask, config, work / "change", work, emphasis=emphasis, overwrite=True
    )
    checkpoint.save(adapted(network, adapters.load(change)), out, adapters.provenance(change))
