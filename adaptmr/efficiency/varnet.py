"""Inference-only forms of the networks of a bank: the same values, less work.

The image-space recursion is that of `adaptmr.reconstruction.networks.varnet.VarNet`. Here the
shifts of centred transforms are folded into maps and data, coils are worked on one after another
or some rows at a time, and no array of all coils is made but the maps and the data.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from adaptmr.efficiency.unet import FastNormalisedUNet
from adaptmr.kernels.centering import Folded, fold_data, image_phase, transformed_axes
from adaptmr.kernels.coil_reduce import coil_reduce
from adaptmr.kernels.fourier import inverse_fourier
from adaptmr.kernels.image_dc_step import image_dc_step
from adaptmr.kernels.normal_op import normal_op
from adaptmr.reconstruction.networks.checkpoint import Network
from adaptmr.reconstruction.networks.unet import NormalisedUNet, UNetReconstructor
from adaptmr.reconstruction.networks.varnet import VarNet

# Complex numbers that are worked on at once on a CPU: they stay in the second-level cache.
_BLOCK = 1 << 15


class Plan(Protocol):
    """What an accelerated network runs, all tensors on one device."""

    def __call__(self, measured: Tensor, mask: Tensor, low_frequency: Tensor) -> Tensor:
        """Reconstruct.

        Args:
            measured: (batch, coil, readout, phase) complex, zero outside the mask; overwritten.
            mask: (1, phase) or (readout, phase) bool.
            low_frequency: the same of the fully acquired block alone.

        Returns:
            (batch, readout, phase) magnitude images.
        """


def plan(network: Network, dtype: torch.dtype) -> Plan:
    """The inference-only form of a network, on its device.

    Args:
        network: later changes of its weights are not seen.
        dtype: of the convolutions.
    """
    if isinstance(network, VarNet):
        return VarNetPlan(network, dtype)
    return UNetPlan(network, dtype)


class UNetPlan:
    """A `UNetReconstructor` for inference."""

    def __init__(self, network: UNetReconstructor, dtype: torch.dtype) -> None:
        self._network = FastNormalisedUNet(network.network, dtype)

    def __call__(self, measured: Tensor, mask: Tensor, low_frequency: Tensor) -> Tensor:
        """As of `Plan`."""
        del mask, low_frequency
        return self._network(_root_sum_of_squares(measured)).clamp_(min=0)


class VarNetPlan:
    """A `VarNet` for inference."""

    def __init__(self, network: VarNet, dtype: torch.dtype) -> None:
        self._maps = FastNormalisedUNet(network.sensitivities.network, dtype)
        self._regularisers = [
            FastNormalisedUNet(cast(NormalisedUNet, one), dtype) for one in network.regularisers
        ]
        self._step_sizes = network.step_sizes.detach()

    def __call__(self, measured: Tensor, mask: Tensor, low_frequency: Tensor) -> Tensor:
        """As of `Plan`; on a CPU slice by slice, which needs less memory and no more time."""
        if measured.device.type == "cpu":
            singles = [self._slice(one[None], mask, low_frequency) for one in measured]
            return torch.cat(singles)
        return self._slice(measured, mask, low_frequency)

    def _slice(self, measured: Tensor, mask: Tensor, low_frequency: Tensor) -> Tensor:
        maps, energy = self._folded_maps(measured, mask, low_frequency)
        data = to_coil_images_(measured, mask)
        step_sizes = self._step_sizes.to(energy.dtype)
        return refined(self._regularisers, step_sizes, Folded(maps, data, mask), energy)

    def _folded_maps(
        self, measured: Tensor, mask: Tensor, low_frequency: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps of unit root sum of squares with folded phases, and their energy: 0 or 1."""
        maps = torch.empty_like(measured)
        for some in _coils(measured):
            low = torch.where(low_frequency, measured[:, some], _zero(measured))
            found = self._maps(inverse_fourier(low).flatten(0, 1))
            maps[:, some] = found.view_as(low)
        norm = _energy(maps).sqrt_()
        there = norm > 0
        scale = torch.where(there, 1 / norm, 0).unsqueeze(-3)
        return maps.mul_(image_phase(maps, mask) * scale), there.to(norm.dtype)


def refined(
    regularisers: Sequence[Callable[[Tensor], Tensor]],
    step_sizes: Tensor,
    folded: Folded,
    energy: Tensor,
) -> Tensor:
    """The cascades and the image of the coils: all that follows the coil maps.

    Args:
        regularisers: one for each cascade, (batch, readout, phase) complex to the same shape.
        step_sizes: one for each cascade but the first.
        folded: the maps, and as data the images of the coils.
        energy: (batch, readout, phase), squares of the maps, summed over the coils.

    Returns:
        (batch, readout, phase) root sum of squares.
    """
    maps, mask = folded.maps, folded.mask
    start = coil_reduce(folded.data, maps)
    sigma = rho = regularisers[0](start)
    image = torch.addcmul(start, energy.to(start.dtype), sigma, value=-1)
    normal = torch.zeros_like(image)
    last = len(step_sizes) - 1
    for index, (step_size, regulariser) in enumerate(
        zip(step_sizes, regularisers[1:], strict=True)
    ):
        update = regulariser(image)
        if index < last:
            normal = normal_op(torch.sub((1 - step_size) * rho, sigma), maps, mask)
        image, sigma, rho = image_dc_step(start, sigma, rho, update, energy, normal, step_size)
    return _root_sum_of_squares_after(folded, rho - sigma, sigma)


def _coils(coils: Tensor) -> Iterator[slice]:
    """Parts of the coils that are worked on at once: one on a CPU, which keeps memory low."""
    step = 1 if coils.device.type == "cpu" else coils.shape[1]
    return (slice(start, start + step) for start in range(0, coils.shape[1], step))


def _zero(like: Tensor) -> Tensor:
    return torch.zeros((), dtype=like.dtype, device=like.device)


def to_coil_images_(kspace: Tensor, mask: Tensor) -> Tensor:
    """Folded images of the coils, in the memory of their k-space."""
    axes = transformed_axes(mask)
    for some in _coils(kspace):
        folded = fold_data(kspace[:, some], mask)
        kspace[:, some] = torch.fft.ifftn(folded, dim=axes, norm="ortho")
    return kspace


def _energy(coils: Tensor) -> Tensor:
    """(batch, coil, readout, phase) complex to (batch, readout, phase): squares over the coils."""
    total = coils.real.new_zeros((*coils[:, 0].shape, 2))
    for coil in range(coils.shape[1]):
        parts = torch.view_as_real(coils[:, coil])
        total.addcmul_(parts, parts)
    return total.sum(-1)


def _root_sum_of_squares(kspace: Tensor) -> Tensor:
    """(batch, coil, readout, phase) k-space, which is overwritten, to (batch, readout, phase)."""
    for some in _coils(kspace):
        kspace[:, some] = inverse_fourier(kspace[:, some])
    return _energy(kspace).sqrt_()


def _root_sum_of_squares_after(folded: Folded, difference: Tensor, sigma: Tensor) -> Tensor:
    """Root sum of squares of ``F^-1 (k0 - M A (rho - sigma)) - S sigma`` over the coils.

    Args:
        folded: the maps, and as data the images of the coils.
        difference: (batch, readout, phase), rho - sigma.
        sigma: the same shape.
    """
    total = torch.zeros_like(sigma.real, memory_format=torch.contiguous_format)
    for coils, rows in _parts(folded):
        maps = folded.maps[:, coils, rows]
        kspace = torch.fft.fftn(maps * difference[:, None, rows], dim=folded.axes)
        kspace.masked_fill_(~folded.mask, 0)
        images = torch.fft.ifftn(kspace, dim=folded.axes)
        images.addcmul_(maps, sigma[:, None, rows]).sub_(folded.data[:, coils, rows])
        total[:, rows] += _energy(images)
    return total.sqrt_()


def _parts(folded: Folded) -> Iterator[tuple[slice, slice]]:
    """Coils and rows that are worked on at once: on a CPU what stays in the cache."""
    coils, rows, columns = folded.maps.shape[1:]
    everything = slice(None)
    if folded.maps.device.type != "cpu":
        yield everything, everything
    elif folded.axes == (-1,):
        step = max(1, _BLOCK // (coils * columns))
        yield from ((everything, slice(start, start + step)) for start in range(0, rows, step))
    else:
        yield from ((coil, everything) for coil in _coils(folded.maps))
