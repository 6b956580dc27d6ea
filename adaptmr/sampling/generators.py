"""The standard sampling masks, made from a specification, a matrix size and a seed.

Two families:

* ``random``, ``vd-1d``, ``random-2d``, ``vd-2d``, ``poisson`` are ours and spend their budget
  exactly: ``round(encoded / acceleration)`` positions, the low-frequency block included and zero
  padding excluded.
* ``fastmri-random``, ``equispaced``, ``equispaced-fraction``, ``magic`` are fastMRI's own masks,
  position by position the same for the same seed. Their acceleration is what fastMRI's rules make
  of it (expected, not exact, for ``fastmri-random``; below the nominal one for ``equispaced`` and
  ``magic``), so quote `Mask.acceleration`, which is measured.
"""

from collections.abc import Callable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from adaptmr.data.positions import centred_block
from adaptmr.errors import BadInputError, UsageError
from adaptmr.sampling import draws, fastmri_lines
from adaptmr.sampling.mask import Mask

Seed = int | tuple[int, ...] | str


class MaskKind(StrEnum):
    """How the positions outside the low-frequency block are chosen."""

    RANDOM = "random"
    """Lines, uniformly at random; exact budget."""
    VARIABLE_DENSITY_1D = "vd-1d"
    """Lines, with a density that falls off from the centre; exact budget."""
    FASTMRI_RANDOM = "fastmri-random"
    """Lines, fastMRI's ``RandomMaskFunc``: the budget is met in expectation only."""
    EQUISPACED = "equispaced"
    """Lines, fastMRI's ``EquiSpacedMaskFunc``: the centre comes on top of the budget."""
    EQUISPACED_FRACTION = "equispaced-fraction"
    """Lines, fastMRI's ``EquispacedMaskFractionFunc``: spacing widened to pay for the centre."""
    MAGIC = "magic"
    """Lines, fastMRI's ``MagicMaskFunc``: equispaced, offset between the halves of k-space."""
    RANDOM_2D = "random-2d"
    """Points, uniformly at random; exact budget."""
    VARIABLE_DENSITY_2D = "vd-2d"
    """Points, with a density that falls off from the centre; exact budget."""
    POISSON = "poisson"
    """Points, Poisson disc with a radius that grows from the centre; exact budget."""

    @property
    def axes(self) -> int:
        """1 for lines, 2 for points, which need two phase-encode axes (a 3-D scan)."""
        return 2 if self in _POINTS else 1

    @property
    def exact(self) -> bool:
        """Whether the number of positions is exactly the budget."""
        return self not in _FASTMRI


class MaskSpec(BaseModel):
    """What mask to make; the seed and the matrix come with each call of `make_mask`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: MaskKind
    acceleration: float = Field(ge=1, allow_inf_nan=False)
    """Positions that exist over positions acquired, the low-frequency block included."""
    center_fraction: float | None = Field(default=None, ge=0, le=1)
    """Share of each position axis that is fully acquired at the centre. When not given: for lines
    0.32 / acceleration (fastMRI's 0.08 at 4x and 0.04 at 8x), for points 0.125, less above 20x, so
    that the block never takes more than 32 % of the budget."""

    @property
    def low_frequency_fraction(self) -> float:
        """Share of each position axis in the low-frequency block, the default filled in."""
        if self.center_fraction is not None:
            return self.center_fraction
        share = 0.32 / self.acceleration
        return share if self.kind.axes == 1 else float(min(0.125, share**0.5))

    def low_frequency(self, matrix: tuple[int, int]) -> tuple[int, ...]:
        """Size of the low-frequency block for k-space of size (readout, phase)."""
        sizes = matrix[-self.kind.axes :]
        block = tuple(round(size * self.low_frequency_fraction) for size in sizes)
        return block if all(block) else (0,) * len(sizes)

    @property
    def fingerprint(self) -> str:
        """The specification as JSON: equal ones make equal masks."""
        return self.model_dump_json()

    def make(self, matrix: tuple[int, int], seed: Seed, padding: tuple[int, int] | None) -> Mask:
        """`make_mask`, as a `adaptmr.sampling.sources.MaskSource`."""
        return make_mask(self, matrix, seed=seed, padding=padding)


_POINTS = {MaskKind.RANDOM_2D, MaskKind.VARIABLE_DENSITY_2D, MaskKind.POISSON}

# One rule per kind. fastMRI's take (width, block, acceleration, generator), ours
# (candidates, block, count, generator); both return the positions outside the block.
_FASTMRI: dict[MaskKind, fastmri_lines.Rule] = {
    MaskKind.FASTMRI_RANDOM: fastmri_lines.random,
    MaskKind.EQUISPACED: fastmri_lines.equispaced,
    MaskKind.EQUISPACED_FRACTION: fastmri_lines.equispaced_fraction,
    MaskKind.MAGIC: fastmri_lines.magic,
}
_EXACT: dict[MaskKind, Callable[..., NDArray[np.bool_]]] = {
    MaskKind.RANDOM: draws.uniform,
    MaskKind.RANDOM_2D: draws.uniform,
    MaskKind.VARIABLE_DENSITY_1D: draws.variable_density,
    MaskKind.VARIABLE_DENSITY_2D: draws.variable_density,
    MaskKind.POISSON: draws.poisson_disc,
}


def make_mask(
    spec: MaskSpec,
    matrix: tuple[int, int],
    *,
    seed: Seed,
    padding: tuple[int, int] | None = None,
) -> Mask:
    """Make a mask; the same arguments always make the same mask.

    Args:
        spec: kind, acceleration and low-frequency share.
        matrix: size of k-space, (readout, phase).
        seed: non-negative number or numbers; a string seeds by the codes of its characters, as
            fastMRI does with the file name of a volume.
        padding: columns ``padding[0] <= column < padding[1]`` exist in the scan; all when not
            given. Columns outside are never chosen.

    Raises:
        UsageError: the low-frequency block alone exceeds the budget, or the acceleration or the
            seed does not suit the kind.
        BadInputError: the matrix or the padding makes no sense.
    """
    encoded = _encoded(spec.kind, matrix, padding)
    sizes = spec.low_frequency(matrix)
    block = np.zeros_like(encoded)
    block[tuple(centred_block(n, k) for n, k in zip(encoded.shape, sizes, strict=True))] = True
    if bool((block & ~encoded).any()):
        raise BadInputError(
            "the low-frequency block reaches into the zero padding of k-space",
            field="padding",
            got=padding,
            expected=f"a block of {_product(sizes)} within it",
            hint="Choose a smaller center fraction",
        )
    if spec.kind in _FASTMRI:
        # fastMRI draws over the full width and then blanks the padding.
        _check_block(spec, int(block.sum()), block.size / spec.acceleration)
        chosen = _FASTMRI[spec.kind](
            block.size, int(block.sum()), spec.acceleration, fastmri_lines.generator(numbers(seed))
        )
    else:
        budget = round(int(encoded.sum()) / spec.acceleration)
        _check_block(spec, int(block.sum()), budget)
        chosen = _EXACT[spec.kind](
            encoded & ~block, block, budget - int(block.sum()), np.random.default_rng(numbers(seed))
        )
    positions = (chosen | block) & encoded
    if not positions.any():
        raise UsageError(
            "the mask acquires nothing",
            field="acceleration",
            got=f"{spec.acceleration:g} for {int(encoded.sum())} positions",
            hint="Lower the acceleration",
        )
    return Mask(
        positions,
        sizes,
        encoded,
        nominal_acceleration=spec.acceleration,
        provenance={
            "generator": spec.kind.value,
            "acceleration": spec.acceleration,
            "center_fraction": spec.low_frequency_fraction,
            "matrix": list(matrix),
            "padding": None if padding is None else list(padding),
            "seed": list(seed) if isinstance(seed, tuple) else seed,
        },
    )


def numbers(seed: Seed) -> int | tuple[int, ...]:
    """The seed as numbers: a string becomes the codes of its characters, as in fastMRI.

    Raises:
        UsageError: the seed is empty, negative or beyond 32 bits.
    """
    values = tuple(map(ord, seed)) if isinstance(seed, str) else seed
    flat = (values,) if isinstance(values, int) else values
    if not flat or not all(0 <= value < 2**32 for value in flat):
        raise UsageError(
            "the seed cannot be used",
            field="seed",
            got=repr(seed),
            expected="numbers from 0 to 4294967295, at least one, or a string that is not empty",
        )
    return values


def _encoded(
    kind: MaskKind, matrix: tuple[int, int], padding: tuple[int, int] | None
) -> NDArray[np.bool_]:
    if len(matrix) != 2 or min(matrix) < 1:
        raise BadInputError(
            "the matrix has no positions", field="matrix", got=matrix, expected="(readout, phase)"
        )
    left, right = (0, matrix[1]) if padding is None else padding
    if not 0 <= left < right <= matrix[1]:
        raise BadInputError(
            "the padding leaves no columns, or some that do not exist",
            field="padding",
            got=padding,
            expected=f"0 <= first < last <= {matrix[1]}",
        )
    encoded = np.zeros(matrix[-kind.axes :], dtype=np.bool_)
    encoded[..., left:right] = True
    return encoded


def _check_block(spec: MaskSpec, block: int, budget: float) -> None:
    if block > budget:
        raise UsageError(
            "the low-frequency block alone exceeds the budget of the mask",
            field="center_fraction",
            got=f"{block} positions at center fraction {spec.low_frequency_fraction:.4g}",
            expected=f"at most {budget:.6g} positions at {spec.acceleration:g}x",
            hint="Lower the center fraction or the acceleration",
        )


def _product(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))
