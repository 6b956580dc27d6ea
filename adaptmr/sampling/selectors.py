"""The selectors that need nothing but a bank and a slice, by name."""

from enum import StrEnum

from adaptmr.sampling.selector import (
    Captured,
    FixedBest,
    NearestCentroid,
    Selector,
    Similarity,
    Uniform,
)


class SelectorName(StrEnum):
    """How the mask of a slice is chosen."""

    NEAREST = "nearest"
    """That of the centroid at the least Euclidean distance from the slice's uncertainty."""
    COSINE = "cosine"
    """That of the centroid at the least angle to it."""
    CORRELATION = "correlation"
    """That of the centroid that correlates most with it."""
    CAPTURED = "captured"
    """The one that acquires most of the predicted variance."""
    FIXED = "fixed"
    """The bank's fixed best mask for every slice."""
    UNIFORM = "uniform"
    """One at random."""


def selector(name: SelectorName) -> Selector:
    """The selector of that name."""
    return _SELECTORS[name]


def name_of(selector: Selector) -> SelectorName | None:
    """The name of a selector; None for one that needs more than a bank and a slice."""
    return next((name for name, known in _SELECTORS.items() if known == selector), None)


_SELECTORS: dict[SelectorName, Selector] = {
    SelectorName.NEAREST: NearestCentroid(),
    SelectorName.COSINE: NearestCentroid(Similarity.COSINE),
    SelectorName.CORRELATION: NearestCentroid(Similarity.CORRELATION),
    SelectorName.CAPTURED: Captured(),
    SelectorName.FIXED: FixedBest(),
    SelectorName.UNIFORM: Uniform(),
}
