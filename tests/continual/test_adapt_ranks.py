"""Contributions and the ranks that follow from them."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from adaptmr.continual.adapt.bases import Layer
from adaptmr.continual.adapt.ranks import by_contribution, contributions

layers = st.lists(
    st.builds(
        lambda rows, columns, rank: Layer(
            name="", shape=(rows, columns), inputs=1, rank=min(rank, rows, columns)
        ),
        st.integers(1, 20),
        st.integers(1, 60),
        st.integers(1, 6),
    ),
    min_size=1,
    max_size=12,
).map(
    lambda found: [
        layer.model_copy(update={"name": f"{number}"}) for number, layer in enumerate(found)
    ]
)


def cost(found: list[Layer]) -> int:
    return sum(layer.rank * layer.per_rank for layer in found)


@given(layers=layers, values=st.lists(st.floats(0, 1e6), min_size=12, max_size=12))
@settings(max_examples=80, deadline=None)
def test_ranks_are_within_the_cost_and_follow_the_contributions(
    layers: list[Layer], values: list[float]
) -> None:
    found = {layer.name: value for layer, value in zip(layers, values, strict=False)}
    ranked = list(by_contribution(layers, found))
    assert cost(ranked) <= cost(layers)
    for one in ranked:
        assert 0 <= one.rank <= one.full_rank
        for other in ranked:
            if found[one.name] >= found[other.name] and one.rank < other.rank:
                assert one.rank == one.full_rank


def test_equal_contributions_give_equal_ranks() -> None:
    some = [Layer(name=f"{number}", shape=(16, 3, 3, 3), inputs=1, rank=4) for number in range(5)]
    assert by_contribution(some, {layer.name: 0.3 for layer in some}) == tuple(some)
    assert by_contribution(some, {layer.name: 0.0 for layer in some}) == tuple(some)


def test_what_contributes_nothing_gets_no_rank_and_vectors_keep_theirs() -> None:
    some = [
        Layer(name="idle", shape=(16, 20), inputs=1, rank=2),
        Layer(name="busy", shape=(16, 20), inputs=1, rank=2),
        Layer(name="bias", shape=(16,), inputs=0, rank=1),
    ]
    idle, busy, bias = by_contribution(some, {"idle": 0.0, "busy": 1.0, "bias": 0.0})
    assert (idle.rank, busy.rank, bias.rank) == (0, 4, 1)


def test_contributions_are_integrated_gradients() -> None:
    """For a quadratic loss the mean gradient along the way is known in closed form."""

    class Quadratic(nn.Module):
        def __init__(self, values: list[float]) -> None:
            super().__init__()
            self.used = nn.Parameter(torch.tensor(values))
            self.idle = nn.Parameter(torch.tensor(values))

    def loss(network: nn.Module) -> Tensor:
        assert isinstance(network, Quadratic)
        return network.used.square().sum()

    base, target = Quadratic([1.0, 2.0]), Quadratic([3.0, 1.0])
    before = copy.deepcopy(base.state_dict())
    steps = 200
    found = contributions(base, target, [loss], steps=steps)
    # delta * mean of 2 theta = theta_end^2 - theta_begin^2, but for the rule of rectangles
    expected = abs(9 - 1) + abs(1 - 4) + (2**2 - 1**2) / steps
    assert found["used"] == pytest.approx(expected, rel=1e-3)
    assert found["idle"] == 0
    assert all(torch.equal(base.state_dict()[name], before[name]) for name in before)
    assert base.used.grad is None
