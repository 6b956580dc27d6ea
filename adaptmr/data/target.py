"""The reference image of a fully sampled scan, and the size that images of a scan have."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from adaptmr.data.crop import center_crop
from adaptmr.data.scan import Scan, Stack
from adaptmr.errors import BadInputError
from adaptmr.kernels.fourier import inverse_fourier


def image_size(scan: Scan) -> tuple[int, int]:
    """Rows and columns of the images of a scan: its target's, else its recon matrix.

    Some files (fastMRI's FLAIR_203) have fewer columns than their recon matrix: there is no more
    to crop to than what exists.
    """
    if scan.target is not None:
        return scan.target.shape[1], scan.target.shape[2]
    rows, columns = scan.header.recon_matrix[:2] if scan.header.recon_matrix else scan.matrix
    return min(rows, scan.matrix[0]), min(columns, scan.matrix[1])


def with_target(scan: Scan) -> Scan:
    """The scan with its root-sum-of-squares image as target, read when asked for.

    Raises:
        BadInputError: the scan is undersampled, so it has no reference.
    """
    if not scan.fully_sampled:
        raise BadInputError(
            "an undersampled scan has no reference image",
            file=scan.name,
            field="acquired",
            got=f"acceleration {scan.acceleration:.2f}",
            expected="a fully sampled scan",
        )
    size = image_size(scan)
    target = Stack((scan.slices, *size), partial(_root_sum_of_squares, scan.kspace, size))
    return replace(scan, target=target, maximum=max(float(image.max()) for image in target))


def _root_sum_of_squares(kspace: Stack, size: tuple[int, int], start: int, stop: int) -> Tensor:
    images = [
        torch.linalg.vector_norm(center_crop(inverse_fourier(kspace[index]), size), dim=0)
        for index in range(start, stop)
    ]
    return torch.stack(images) if images else torch.empty((0, *size))
