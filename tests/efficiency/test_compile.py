"""What of a network torch compiles without a graph break: all but the mask, which is no tensor.

`Mask` keeps read-only numpy arrays, which torch.compile cannot trace. All that follows the coil
maps, regularisers included, is one graph.
"""

import pytest
import torch
from torch import Tensor

from adaptmr.data.weights import initialise
from adaptmr.efficiency.varnet import refined
from adaptmr.kernels.centering import Folded
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.varnet import VarNet, VarNetConfig


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 12), (16, 12)], ids=["lines", "points"])
def test_all_that_follows_the_maps_is_one_graph(shape: tuple[int, int]) -> None:
    config = VarNetConfig(cascades=3, channels=2, pools=1, map_channels=2, map_pools=1)
    network = checkpoint.build(config, 0)
    initialise(network, 0)
    assert isinstance(network, VarNet)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5

    def cascades(maps: Tensor, data: Tensor, energy: Tensor) -> Tensor:
        folded = Folded(maps, data, mask)
        return refined(list(network.regularisers), network.step_sizes, folded, energy)

    maps, data = torch.randn(2, 1, 2, 16, 12, dtype=torch.complex64)
    energy = maps.abs().square().sum(1)
    compiled = torch.compile(cascades, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(maps, data, energy), cascades(maps, data, energy))
