"""What the training of a bank is made of."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from adaptmr.data.simulation import SimulationConfig
from adaptmr.reconstruction.networks.checkpoint import Architecture
from adaptmr.reconstruction.networks.width import WidthConfig
from adaptmr.reconstruction.training.config import Schedule
from adaptmr.sampling.bank import BankConfig, RefineConfig
from adaptmr.sampling.frame import Positions
from adaptmr.sampling.mixture import MixtureConfig
from adaptmr.sampling.persistence import SamplerConfig
from adaptmr.sampling.selection import UncertaintyConfig
from adaptmr.sampling.selectors import SelectorName
from adaptmr.sampling.training import SamplerTraining
from adaptmr.workflows.sampling import SamplerSettings

Fraction = Annotated[float, Field(ge=0, lt=1)]


class ScanFolder(BaseModel):
    """Scans to train on: fully sampled fastMRI HDF5 files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["scans"] = "scans"
    folder: Path
    """The files; or folders ``train`` and ``calibration`` of them."""
    calibration: Path | None = None
    """Folder of the scans to calibrate on, where it lies elsewhere."""


class PictureFolder(BaseModel):
    """Pictures in place of scans: single-coil Fourier compressed sensing of any images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["pictures"] = "pictures"
    folder: Path
    """PNG, JPEG, TIFF or NumPy files, a subject each; or folders ``train`` and ``calibration``."""
    matrix: tuple[PositiveInt, PositiveInt] = (128, 128)
    """Rows and columns that they are cut and resized to."""
    calibration: Path | None = None
    """Folder of the pictures to calibrate on, where it lies elsewhere."""


class SimulatedScans(BaseModel):
    """Scans that are simulated first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["simulated"] = "simulated"
    training: tuple[SimulationConfig, ...] = Field(min_length=1)
    calibration: tuple[SimulationConfig, ...] = ()
    """Of other seeds than those of the training; a part of the latter when not given."""


def _as_scans(given: Any) -> Any:
    """A name alone is that of a folder of scans."""
    return {"kind": "scans", "folder": given} if isinstance(given, str | Path) else given


DataConfig = Annotated[ScanFolder | PictureFolder | SimulatedScans, Field(discriminator="kind")]


class CapturedRefinement(RefineConfig):
    """Masks are changed to capture more of the variance of their cluster."""

    kind: Literal["captured"] = "captured"


class SurrogateRefinement(RefineConfig):
    """Masks are changed to lower the surrogate's loss on slices of their cluster."""

    kind: Literal["surrogate"] = "surrogate"
    slices: PositiveInt = 16
    """Largest number of slices of a cluster that a mask is scored on."""


Refinement = Annotated[CapturedRefinement | SurrogateRefinement, Field(discriminator="kind")]


class PairAdapter(BaseModel):
    """A small change of the surrogate in place of a network that is free."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: PositiveInt = 4
    """Of the change of each layer."""


class PairTraining(Schedule):
    """How the network of each mask is trained."""

    warm_start: bool = True
    """Whether it starts from the surrogate, where there is one."""
    shared_maps: bool = False
    """Whether all networks keep the surrogate's network of coil maps as it is; of a VarNet with a
    warm start."""
    adapter: PairAdapter | None = None
    """Whether each network is the surrogate with a low-rank change of its own; needs a warm start.
    A smaller class of banks, quicker to train from few scans. Each network is free when not
    given."""
    emphasis: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of an epoch's slices that is taken from the mask's own cluster, the rest being taken
    from all; with 0 every network sees all slices alike, as published."""

    @property
    def frozen(self) -> tuple[str, ...]:
        """Parts of the network that keep the surrogate's weights."""
        return ("sensitivities",) if self.shared_maps else ()


class WidthTraining(Schedule):
    """The network of interval widths, and how it is trained."""

    epochs: PositiveInt = 5
    architecture: WidthConfig = WidthConfig()
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Of the error, that the width is to be before it is calibrated."""


class LearnedSelector(StrEnum):
    """Selectors that are fitted on losses."""

    LOSS_AWARE = "loss-aware"
    """Predicts the loss of every mask from the low frequencies and their uncertainty."""
    PRIOR = "prior"
    """A table of losses by contrast, orientation and slice position."""


def _known(given: Any) -> Any:
    """Say all names at once when it is none of them."""
    names = [*SelectorName, *LearnedSelector]
    if isinstance(given, str) and given not in names:
        raise ValueError(f"should be one of {', '.join(names)}")
    return given


class BankRecipe(BaseModel):
    """How a bank is trained, whatever on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    selection_fraction: Fraction = 0.2
    """Share of the other subjects that no sampler and no network is trained on: the best epochs,
    the fixed best mask and a fitted selector are found on them, since losses of slices that a
    network was trained on flatter it. With 0 they are found on the training slices all the same."""
    positions: Positions = Positions.LINES
    """What the masks are made of."""
    acceleration: float = Field(default=4.0, ge=1, allow_inf_nan=False)
    """Of every mask."""
    center_fraction: float | None = Field(default=None, gt=0, le=1)
    """Share of each position axis in the low-frequency block; follows from the acceleration."""
    sampler: SamplerConfig = MixtureConfig()
    """What draws possible images from the low frequencies."""
    sampler_training: SamplerTraining = SamplerTraining()
    """How it is trained; of a mixture only the seed is used."""
    uncertainty: UncertaintyConfig = UncertaintyConfig()
    """How the uncertainty of a slice is found."""
    masks: BankConfig = BankConfig()
    """How many masks, and how they are drawn."""
    refinement: Refinement | None = None
    """How masks are made better; they stay as drawn when not given."""
    architecture: Architecture
    """Of the networks and of the surrogate."""
    surrogate: Schedule | None = None
    """How a network is trained over random masks, which then scores masks and starts the others;
    there is none when not given."""
    pairs: PairTraining = PairTraining()
    """How the network of each mask is trained."""
    em_rounds: NonNegativeInt = 0
    """Rounds in which every slice goes to the mask that loses least on it, and masks and networks
    are made anew."""
    selector: Annotated[SelectorName | LearnedSelector, BeforeValidator(_known)] = (
        SelectorName.NEAREST
    )
    """What chooses the mask of a slice."""
    width: WidthTraining | None = WidthTraining()
    """The network of interval widths; with null the bank gives no intervals."""
    alpha: float = Field(default=0.1, gt=0, lt=1)
    """Share of an object's pixels that intervals may miss."""
    seed: NonNegativeInt = 0
    """Of the splits, and of the first weights, orders and random masks of all networks. The
    samples, the clusters and the draw have seeds of their own."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if isinstance(self.refinement, SurrogateRefinement) and self.surrogate is None:
            raise ValueError("a refinement under the surrogate needs a surrogate")
        warm = self.surrogate is not None and self.pairs.warm_start
        if self.pairs.shared_maps and not (warm and self.architecture.kind == "varnet"):
            raise ValueError("shared_maps needs a varnet that starts from a surrogate")
        if self.pairs.adapter is not None and (self.pairs.shared_maps or not warm):
            raise ValueError("an adapter needs a warm start from a surrogate, and no shared_maps")
        return self

    @property
    def sampler_settings(self) -> SamplerSettings:
        """The part that trains a sampler."""
        return SamplerSettings(
            positions=self.positions,
            acceleration=self.acceleration,
            center_fraction=self.center_fraction,
            sampler=self.sampler,
            training=self.sampler_training,
        )


class BankTraining(BankRecipe):
    """One training of a bank; read from YAML by the command line."""

    data: Annotated[DataConfig, BeforeValidator(_as_scans)]
    """What to train and to calibrate on; a folder of scans when it is a name alone."""
    calibration_fraction: Fraction = 0.2
    """Share of the *subjects* that intervals are calibrated on, and nothing is trained on; for data
    that do not say whom. Without such subjects the bank gives no intervals."""

    @model_validator(mode="before")
    @classmethod
    def _of_a_bank(cls, values: Any) -> Any:
        if isinstance(values, dict) and {"validation_fraction", "training"} & values.keys():
            raise ValueError(
                "this is the file of one network or sampler: add --only network or --only sampler"
            )
        return values
