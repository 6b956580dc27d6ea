"""Training pairs of posterior samplers: low-frequency image and full image of a slice."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adaptmr.data.scan import Scan
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.sampling.low_frequency import acquire


@dataclass(frozen=True, eq=False)
class Pairs:
    """Slices in memory, all of one matrix and one low-frequency block.

    Attributes:
        low: (slices, rows, columns) float, `LowFrequency.image`.
        full: (slices, rows, columns) float, root-sum-of-squares of the full k-space divided by
            `LowFrequency.scale`: the image in the units of ``low``.
        block: (rows, columns) acquired about the centre.
    """

    low: Tensor
    full: Tensor
    block: tuple[int, int]

    def __post_init__(self) -> None:
        if self.low.ndim != 3 or self.low.shape != self.full.shape:
            raise BadInputError(
                "the images of training pairs do not fit each other",
                field="full",
                got=tuple(self.full.shape),
                expected=f"(slices, rows, columns) as low, {tuple(self.low.shape)}",
            )

    def __len__(self) -> int:
        return self.low.shape[0]

    def __getitem__(self, index: slice | Tensor) -> "Pairs":
        """Some of the pairs."""
        return replace(self, low=self.low[index], full=self.full[index])

    @property
    def matrix(self) -> tuple[int, int]:
        """(rows, columns) of the images."""
        return self.low.shape[1], self.low.shape[2]

    @property
    def fingerprint(self) -> str:
        """sha256 of the pairs: the same for the same data in the same order."""
        digest = hashlib.sha256(repr((self.block, tuple(self.low.shape), self.low.dtype)).encode())
        for images in (self.low, self.full):
            digest.update(images.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> "Pairs":
        """The same pairs on another device."""
        return replace(self, low=self.low.to(device), full=self.full.to(device))


def training_pairs(
    scans: Iterable[Scan], block_of: Callable[[tuple[int, int]], tuple[int, int]]
) -> Pairs:
    """Make pairs of all slices of fully sampled scans, one slice at a time.

    Slices whose low-frequency block is zero throughout are left out: they have no scale, and
    teach nothing.

    Args:
        scans: the scans, all of one matrix; numbers of coils may differ.
        block_of: low-frequency block (rows, columns) of a matrix (rows, columns).

    Raises:
        BadInputError: no slice is left, a scan is undersampled or of another matrix than the
            first, or a slice is not finite.
    """
    low: list[Tensor] = []
    full: list[Tensor] = []
    matrix: tuple[int, int] | None = None
    for scan in scans:
        matrix = matrix or scan.matrix
        _check(scan, matrix)
        for index, kspace in enumerate(scan.kspace):
            if not bool(torch.isfinite(torch.view_as_real(kspace)).all()):
                raise BadInputError(
                    "the k-space is not finite",
                    file=scan.name,
                    slice_index=index,
                    field="kspace",
                    hint="Export the scan again, or leave it out",
                )
            known = acquire(kspace[None], block_of(matrix))
            if bool(known.image.any()):
                image = torch.linalg.vector_norm(inverse_fourier(kspace), dim=0)
                low.append(known.image[0].float())
                full.append((image / known.scale[0]).float())
    if matrix is None or not low:
        raise BadInputError(
            "there is no slice to train a sampler on",
            got="no scan" if matrix is None else "only slices without low-frequency data",
            expected="fully sampled scans",
        )
    return Pairs(torch.stack(low), torch.stack(full), block_of(matrix))


def _check(scan: Scan, matrix: tuple[int, int]) -> None:
    if not scan.fully_sampled:
        raise BadInputError(
            "a sampler cannot be trained on an undersampled scan",
            file=scan.name,
            got=f"acceleration {scan.acceleration:.2f}",
            expected="fully sampled k-space",
            hint="Leave the file out",
        )
    if scan.matrix != matrix:
        raise BadInputError(
            "the scans to train a sampler on are of different sizes",
            file=scan.name,
            field="kspace",
            got=scan.matrix,
            expected=f"{matrix}, as the first scan",
            hint="Train one sampler for each matrix, or crop the scans to one size",
        )
