"""What a benchmark of adaptive selection is made of."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from adaptmr.reconstruction.learned.policy import PolicyConfig
from adaptmr.sampling.frame import Positions
from adaptmr.workflows.bank_training.config import BankTraining


class Baseline(StrEnum):
    """What selection is compared with, besides J = 1 and the pairs themselves."""

    RANDOM = "random"
    """A uniformly random mask, a new one for every batch of the training and every test volume."""
    EQUISPACED = "equispaced"
    """Lines at equal distances outside the block: one mask."""
    VARIABLE_DENSITY = "variable-density"
    """A density that falls off from the centre: one mask, drawn with the seed."""
    LOUPE = "loupe"
    """One mask, learned with its network."""
    POLICY = "policy"
    """A mask for each slice from a network of policies, learned with the reconstruction network."""
    PER_SCAN = "per-scan"
    """The mask of each slice's own uncertainty, reconstructed by the surrogate: J = infinity."""
    SEED_CONTROL = "seed-control"
    """As many networks as pairs, of other seeds, all for the mask of J = 1."""


class Metric(StrEnum):
    """What the oracle, the best single pair and the learned selectors go by."""

    SSIM = "ssim"
    PSNR = "psnr"


class BenchmarkChoices(BaseModel):
    """What is compared, whatever it is trained and tested on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    masks: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 3)
    """Values of J; 1 and that of the training are added."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0, 1, 2)
    """Everything is trained once for each: a seed sets the split of training and selection
    subjects, the first weights, the order of the data and the draws of masks."""
    rows: tuple[Baseline, ...] | None = None
    """What to compare with; all that fit when not given."""
    metric: Metric = Metric.SSIM
    """What the oracle, the best single pair and the learned selectors go by."""
    policy: PolicyConfig = PolicyConfig()
    """Size of the policy's network."""
    mask_learning_rate: PositiveFloat = 1e-2
    """First learning rate of learned masks."""


class BenchmarkConfig(BenchmarkChoices):
    """One benchmark; read from YAML by the command line."""

    training: BankTraining
    """How sampler, surrogate, masks and networks are made, as for ``adaptmr train``. Its selector
    and its number of masks are those of the verdict; its seed is replaced by each of ``seeds``."""
    test: Path
    """Folder of fully sampled scans of subjects that are neither trained nor calibrated on."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands there twice")
        if self.main < 2:
            raise ValueError("the verdict needs a choice: set training.masks.masks to 2 or more")
        unfit = [row.value for row in self.rows or () if row not in self._possible]
        if unfit:
            raise ValueError(
                f"{', '.join(unfit)}: equispaced masks are of lines, and masks of single scans"
                " need a surrogate"
            )
        return self

    @property
    def counts(self) -> tuple[int, ...]:
        """All values of J, in order."""
        return tuple(sorted({1, self.main, *self.masks}))

    @property
    def main(self) -> int:
        """The J of the verdict."""
        return self.training.masks.masks

    @property
    def baselines(self) -> tuple[Baseline, ...]:
        """What to compare with, in the order of the tables."""
        return tuple(row for row in self._possible if self.rows is None or row in self.rows)

    def trained_with(self, seed: int, masks: int) -> BankTraining:
        """The training of a bank of so many masks with a seed."""
        base = self.training
        rule = base.masks.rule.model_copy(update={"seed": base.masks.rule.seed + seed})
        bank = {"masks": masks, "seed": base.masks.seed + seed, "rule": rule}
        sampler = {"seed": base.sampler_training.seed + seed}
        return base.model_copy(
            update={
                "seed": seed,
                "masks": base.masks.model_copy(update=bank),
                "sampler_training": base.sampler_training.model_copy(update=sampler),
            }
        )

    @property
    def _possible(self) -> tuple[Baseline, ...]:
        left_out = set()
        if self.training.positions is Positions.POINTS:
            left_out.add(Baseline.EQUISPACED)
        if self.training.surrogate is None:
            left_out.add(Baseline.PER_SCAN)
        return tuple(row for row in Baseline if row not in left_out)
