"""Small flows with weights that are not trivial, for the tests of this folder."""

import torch

from adaptmr.sampling.flow.config import FlowConfig
from adaptmr.sampling.flow.flow import SuperResolutionFlow
from adaptmr.sampling.flow.layers import fitting

SMALL = FlowConfig(
    levels=2,
    splits=1,
    transitions=1,
    steps=2,
    noise_steps=(0, 1),
    width=6,
    features=6,
    growth=3,
    blocks=2,
    stacked_blocks=(0,),
)
PUBLISHED = SMALL.model_copy(
    update={"box": 1.0, "spectral_harmonics": None, "oversampling": 1, "transitions": 2}
)


def perturbed(
    config: FlowConfig,
    matrix: tuple[int, int],
    block: tuple[int, int],
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    by: float = 0.1,
) -> SuperResolutionFlow:
    """A flow whose weights are all moved at random, fitted to noise."""
    flow = SuperResolutionFlow(config, matrix, block, seed).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in flow.named_parameters():
            # Means and deviations of the residuals keep to the size of the residuals.
            size = 0.1 * by if "moments" in name else by
            weight += size * torch.randn(weight.shape, generator=generator, dtype=dtype)
    if flow.standardising is not None:
        noise = torch.randn(4, *matrix, generator=generator, dtype=dtype)
        flow.standardising.fit(0.1 * noise.cumsum(-1))
    with torch.no_grad(), fitting(flow):
        flow.encode(*data(flow, 8, seed + 100))
    return flow.eval()


def data(
    flow: SuperResolutionFlow, batch: int, seed: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Arguments of `SuperResolutionFlow.encode` of the flow's size, residuals of usual size."""
    dtype = next(flow.parameters()).dtype
    generator = torch.Generator().manual_seed(seed)
    residual = 0.1 * torch.randn(batch, *flow.matrix, generator=generator, dtype=dtype)
    margin = torch.randn(batch, *flow.canvas, generator=generator, dtype=dtype)
    low = torch.rand(batch, *flow.matrix, generator=generator, dtype=dtype)
    noise = 0.05 * torch.rand(batch, generator=generator, dtype=dtype)
    return residual, margin, low, noise, torch.zeros_like(low)
