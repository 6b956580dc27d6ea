"""K-space, masks, and fastMRI's own networks to compare with."""

import numpy as np
import torch
from fastmri.models import VarNet as FastmriVarNet
from torch import Tensor

from adaptmr.sampling.mask import Mask, centred_block


def complex_normal(
    shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.complex128
) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def line_mask(phase: int, low_frequency: int, seed: int = 0) -> Mask:
    positions = np.random.default_rng(seed).random(phase) < 0.35
    positions[centred_block(phase, low_frequency)] = True
    return Mask(positions, (low_frequency,))


def point_mask(matrix: tuple[int, int], low_frequency: tuple[int, int], seed: int = 0) -> Mask:
    positions = np.random.default_rng(seed).random(matrix) < 0.35
    rows, columns = (centred_block(n, k) for n, k in zip(matrix, low_frequency, strict=True))
    positions[rows, columns] = True
    return Mask(positions, low_frequency)


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Weights that make every term count, the data-consistency weights included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("dc_weight"):
                parameter.uniform_(0.3, 1.6, generator=generator)
            else:
                bound = 1 / max(1, parameter[0].numel()) ** 0.5
                parameter.uniform_(-bound, bound, generator=generator)


def fastmri_varnet(cascades: int, channels: int, pools: int, seed: int = 0) -> FastmriVarNet:
    network = FastmriVarNet(
        num_cascades=cascades, sens_chans=4, sens_pools=pools, chans=channels, pools=pools
    ).double()
    randomise(network, seed)
    return network


def fastmri_forward(network: FastmriVarNet, kspace: Tensor, mask: Mask) -> Tensor:
    """What fastMRI's VarNet makes of the k-space that the mask leaves."""
    columns = mask.tensor()[None, None, ..., None].expand(len(kspace), 1, 1, -1, 1)
    masked = torch.view_as_real(mask.apply(kspace))
    image: Tensor = network(masked, columns, num_low_frequencies=mask.low_frequency[0])
    return image
