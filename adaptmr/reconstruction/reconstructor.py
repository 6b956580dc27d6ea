"""The one signature of everything that makes an image of k-space."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from adaptmr.sampling.mask import Mask


@runtime_checkable
class Reconstructor(Protocol):
    """``(kspace, mask) -> image``.

    A reconstructor uses nothing outside the mask, scales with its input
    (``reconstruct(a * kspace) == a * reconstruct(kspace)`` for ``a > 0``), works on whatever
    device its input is on, and neither reads nor changes the global random state.
    """

    def __call__(self, kspace: Tensor, mask: Mask) -> Tensor:
        """Reconstruct a batch of slices.

        Args:
            kspace: (batch, coil, readout, phase) complex; positions outside ``mask`` are ignored.
            mask: the positions acquired, the same for the whole batch.

        Returns:
            (batch, readout, phase) magnitude images in the units of the k-space.
        """
        ...
