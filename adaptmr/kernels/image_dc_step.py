"""One cascade's data consistency of a VarNet in image space, as one pass over images.

Reference: `adaptmr.reconstruction.networks.varnet.VarNet` derives the recursion.
"""

from typing import Any

import torch
from torch import Tensor

from adaptmr.kernels.dispatch import alike, reference_forced, runs_triton, same_device, same_shape


def reference(
    start: Tensor,
    sigma: Tensor,
    rho: Tensor,
    update: Tensor,
    energy: Tensor,
    normal: Tensor,
    step_size: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The recursion in plain torch; any complex dtype."""
    sigma = sigma + update
    rho = (1 - step_size) * rho + update
    return start - energy * sigma - normal, sigma, rho


def image_dc_step(
    start: Tensor,
    sigma: Tensor,
    rho: Tensor,
    update: Tensor,
    energy: Tensor,
    normal: Tensor,
    step_size: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """From a regulariser's update to the image that the next one sees.

    Computes ``sigma + r``, ``(1 - eta) rho + r`` and ``x_0 - E (sigma + r) - normal``. The normal
    operator is of ``(1 - eta) rho - sigma``, in which the update cancels.

    Args:
        start: (..., readout, phase) complex, the adjoint of the data.
        sigma: the same shape, sum of the updates.
        rho: the same shape, discounted sum of the updates.
        update: the same shape, r.
        energy: the same shape, real: squared maps, summed over the coils.
        normal: the same shape, the normal operator of ``(1 - eta) rho - sigma``.
        step_size: one real number, eta.

    Returns:
        The image, sigma and rho.

    Raises:
        TypeError: dtypes do not fit.
        ValueError: shapes or devices do not fit.
    """
    alike(start=start, sigma=sigma, rho=rho, update=update, normal=normal)
    if not start.is_complex():
        raise TypeError(f"the images are {start.dtype}; they have to be complex")
    same_device(start=start, energy=energy, step_size=step_size)
    real = start.real.dtype
    for name, tensor in (("energy", energy), ("step_size", step_size)):
        if tensor.dtype != real:
            raise TypeError(f"{name} is {tensor.dtype}, not {real}")
    given = {"sigma": sigma, "rho": rho, "update": update, "energy": energy, "normal": normal}
    for name, tensor in given.items():
        same_shape(name, tensor, tuple(start.shape))
    if step_size.numel() != 1:
        raise ValueError(f"step_size holds {step_size.numel()} numbers, not one")
    image, sigma, rho = _step(start, sigma, rho, update, energy, normal, step_size.reshape(()))
    return image, sigma, rho


@torch.library.custom_op("adaptmr::image_dc_step", mutates_args=())
def _step(
    start: Tensor,
    sigma: Tensor,
    rho: Tensor,
    update: Tensor,
    energy: Tensor,
    normal: Tensor,
    step_size: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    images = tuple(one.resolve_conj() for one in (start, sigma, rho, update, normal))
    start, sigma, rho, update, normal = images
    if reference_forced():
        new = reference(start, sigma, rho, update, energy, normal, step_size)
        return new[0].contiguous(), new[1].contiguous(), new[2].contiguous()
    if runs_triton(start):
        from adaptmr.kernels.triton import images as launchers

        return launchers.dc_step(start, sigma, rho, update, energy, normal, step_size)
    sigma = torch.add(sigma, update).contiguous()
    rho = torch.mul(rho, 1 - step_size).contiguous().add_(update)
    image = torch.sub(start, normal).contiguous().addcmul_(energy.to(sigma.dtype), sigma, value=-1)
    return image, sigma, rho


@_step.register_fake
def _(
    start: Tensor,
    _sigma: Tensor,
    _rho: Tensor,
    _update: Tensor,
    _energy: Tensor,
    _normal: Tensor,
    _step_size: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = start.shape
    return start.new_empty(shape), start.new_empty(shape), start.new_empty(shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _start, _sigma, rho, _update, energy, _normal, step_size = inputs
    new_sigma = output[1]
    ctx.save_for_backward(rho, energy, step_size, new_sigma)


def _backward(
    ctx: Any,
    of_image: Tensor,
    of_sigma: Tensor,
    of_rho: Tensor,
) -> tuple[Tensor, ...]:
    rho, energy, step_size, new_sigma = ctx.saved_tensors
    into_sigma = of_sigma - energy * of_image
    of_energy = -(of_image.conj() * new_sigma).real
    of_step = -(of_rho.conj() * rho).real.sum()
    return (
        of_image,
        into_sigma,
        (1 - step_size) * of_rho,
        into_sigma + of_rho,
        of_energy,
        -of_image,
        of_step,
    )


_step.register_autograd(_backward, setup_context=_setup)
