"""What a super-resolution-space flow is made of."""

from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)


class FlowConfig(BaseModel):
    """Architecture of a `SuperResolutionFlow`; the defaults train within minutes at 64 x 64.

    The factors of super-resolution are not here: they follow from the matrix and the block.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["flow"] = "flow"
    levels: PositiveInt = 2
    """Each level halves both axes."""
    splits: NonNegativeInt = 1
    """Number of levels, from the finest, at whose end half of the channels leaves."""
    transitions: NonNegativeInt = 1
    """Steps without coupling at the start of each level."""
    steps: PositiveInt = 4
    """Steps with coupling in each level."""
    noise_steps: tuple[NonNegativeInt, ...] = (0, 2)
    """Number of steps of each level, the last ones, with the noise-conditional coupling."""
    width: PositiveInt = 32
    """Hidden channels of the coupling networks."""
    box: PositiveFloat = 8.0
    """Width of the interval that the splines act on, about 0, in standard deviations."""
    noise: Annotated[float, Field(ge=0)] = 0.01
    """Largest standard deviation of the noise added in training, in units of the images."""
    spectral_harmonics: NonNegativeInt | None = 2
    """Angular harmonics of the spectrum predicted from the low-frequency image. The residual is
    whitened by it, and by predicted means and deviations of the pixels, before all else; without a
    number it is not, as published."""
    features: PositiveInt = 32
    """Channels of the conditioner."""
    growth: PositiveInt = 16
    """Channels that each convolution of its dense blocks adds."""
    blocks: PositiveInt = 2
    """Its residual-in-residual dense blocks."""
    stacked_blocks: tuple[NonNegativeInt, ...] = ()
    """Blocks, counted from 0, whose outputs are part of the features of all levels."""
    oversampling: PositiveInt = 2
    """Samples of the low-frequency image per position of the block and axis. The image is a root
    sum of squares, with twice the band of the block, so 2 lose nothing."""
    conditioner_precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the conditioner's convolutions; the flow itself keeps its own."""
    temperature: Annotated[float, Field(ge=0)] = 0.9
    """Standard deviation of the latents that samples are made of."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.splits >= self.levels:
            raise ValueError("splits must be fewer than levels: something has to go on")
        if len(self.noise_steps) != self.levels or max(self.noise_steps) > self.steps:
            raise ValueError("noise_steps needs one number for each level, none above steps")
        if any(block >= self.blocks for block in self.stacked_blocks):
            raise ValueError("stacked_blocks names a block that does not exist")
        return self


HONG2024: Final = FlowConfig(
    levels=4,
    splits=2,
    transitions=2,
    steps=20,
    noise_steps=(0, 0, 16, 16),
    width=64,
    box=1.0,
    noise=0.03,
    spectral_harmonics=None,
    features=64,
    growth=32,
    blocks=23,
    stacked_blocks=(1, 8, 15, 22),
    oversampling=1,
)
"""The sizes of Hong et al. 2024 (arXiv:2409.11738), made for 320 x 320 with a block of 40 x 40."""
