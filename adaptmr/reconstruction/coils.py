"""Receive coils: combination, noise and compression.

Noise is described by its covariance between coils, (coil, coil) or (..., coil, coil) complex.
It is taken, best first, from a noise-only measurement (`noise_covariance` of `Scan.noise`), or
else from the corners of k-space, where there is hardly any signal (`periphery_covariance`).
"""

import torch
from torch import Tensor

from adaptmr.errors import BadInputError
from adaptmr.sampling.mask import Mask


def root_sum_of_squares(coil_images: Tensor) -> Tensor:
    """(..., coil, rows, columns) complex to (..., rows, columns) magnitude."""
    # Much faster than a norm of complex numbers, which is careful about overflow.
    return torch.view_as_real(coil_images.resolve_conj()).square().sum((-4, -1)).sqrt()


def sense_combine(coil_images: Tensor, maps: Tensor) -> Tensor:
    """Least-squares combination of coil images with white noise (Roemer et al., MRM 1990).

    Args:
        coil_images: (..., coil, rows, columns) complex.
        maps: of the same axes.

    Returns:
        (..., rows, columns) complex, zero where all maps are.
    """
    energy = torch.view_as_real(maps.resolve_conj()).square().sum((-4, -1))
    combined = (maps.conj() * coil_images).sum(-3)
    return torch.where(energy > 0, combined / energy, 0)


def noise_covariance(samples: Tensor) -> Tensor:
    """Covariance of noise samples of zero mean.

    Args:
        samples: (..., coil, sample) complex.

    Returns:
        (..., coil, coil) complex: the mean of ``n n^H``.

    Raises:
        BadInputError: fewer samples than coils.
    """
    coils, count = samples.shape[-2:]
    if count < coils:
        raise BadInputError(
            "too few noise samples for a covariance",
            field="noise",
            got=f"{count} samples of {coils} coils",
            expected=f"at least {coils}",
        )
    return samples @ samples.mH / count


def periphery_covariance(kspace: Tensor, mask: Mask, share: float = 0.2) -> Tensor:
    """Noise covariance where no noise was measured: from the outermost acquired k-space.

    The outermost positions still hold a little signal, so this is an upper estimate; their
    correlation between coils is what prewhitening needs. Do not use it on k-space that was zero
    filled or filtered at its edges.

    Args:
        kspace: (..., coil, readout, phase) complex.
        mask: the positions acquired.
        share: of the acquired positions, those farthest from the centre (in units of the
            half-width of each axis), that are used.

    Returns:
        (..., coil, coil) complex.

    Raises:
        BadInputError: fewer positions than coils.
    """
    rows, columns = kspace.shape[-2:]
    down = (torch.arange(rows, device=kspace.device) - rows // 2).double() / max(1, rows)
    right = (torch.arange(columns, device=kspace.device) - columns // 2).double() / max(1, columns)
    distance = down.square()[:, None] + right.square()
    acquired = mask.tensor(kspace.device).expand(rows, columns)
    count = max(1, round(share * int(acquired.sum())))
    farthest = torch.where(acquired, distance, -1).flatten().topk(count).indices
    return noise_covariance(kspace.flatten(-2)[..., farthest])


def whitening_matrix(covariance: Tensor) -> Tensor:
    """Matrix that makes noise of this covariance white with unit variance.

    It is the inverse of the lower Cholesky factor (Pruessmann et al., MRM 2001, appendix A).

    Args:
        covariance: (..., coil, coil) Hermitian.

    Returns:
        (..., coil, coil) lower triangular.

    Raises:
        BadInputError: the covariance is not positive definite.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if bool(failed.any()):
        raise BadInputError(
            "the noise covariance is not positive definite",
            field="noise",
            hint="Leave out coils that are dead or copies of others, or give more noise samples",
        )
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    matrix: Tensor = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    return matrix


def mix_coils(kspace: Tensor, matrix: Tensor) -> Tensor:
    """Linear combinations of coils: for prewhitening and for compression.

    Args:
        kspace: (..., coil, readout, phase) k-space or images.
        matrix: (..., new coil, coil).

    Returns:
        (..., new coil, readout, phase).
    """
    return torch.einsum("...nc,...cyx->...nyx", matrix, kspace)


def compression_matrix(kspace: Tensor, coils: int) -> Tensor:
    """Matrix to the ``coils`` orthonormal combinations of coils that hold the most energy.

    Prewhiten first, or a noisy coil counts as signal. Use with `mix_coils`; its adjoint leads
    back. Source: Buehrer et al., MRM 57:1131 (2007), Huang et al., MRI 26:133 (2008).

    Args:
        kspace: (..., coil, readout, phase) complex.
        coils: how many to keep.

    Returns:
        (..., coils, coil) with orthonormal rows.

    Raises:
        BadInputError: more coils than there are, or none.
    """
    if not 1 <= coils <= kspace.shape[-3]:
        raise BadInputError(
            "coils cannot be compressed to that number",
            field="coils",
            got=coils,
            expected=f"1 to {kspace.shape[-3]}",
        )
    samples = kspace.flatten(-2)
    _, vectors = torch.linalg.eigh(samples @ samples.mH)
    matrix: Tensor = vectors[..., -coils:].flip(-1).mH
    return matrix
