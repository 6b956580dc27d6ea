"""Changes of weights: nothing at first, merged as live, taken off without a trace."""

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from adaptmr.continual.adapt.adapter import (
    Adapter,
    attach,
    detach,
    fingerprint,
    layers_of,
    merge,
    switched,
    unmerge,
)
from adaptmr.continual.adapt.bases import Layer, LowRank
from adaptmr.continual.adapt.family import FAMILY, Change, Family, Strategy, waves
from adaptmr.errors import BadInputError, UsageError

every_strategy = pytest.mark.parametrize("strategy", list(Strategy))


class Mixed(nn.Module):
    """One layer of each kind, and a vector of its own."""

    def __init__(self, inputs: int, hidden: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, groups * hidden, kernel, padding=kernel // 2)
        self.second = nn.ConvTranspose2d(groups * hidden, groups, kernel, groups=groups, bias=False)
        self.last = nn.Linear(groups, 3)
        self.sizes = nn.Parameter(torch.tensor([1.0, -0.5, 2.0]))

    def forward(self, image: Tensor) -> Tensor:
        seen: Tensor = self.last(self.second(torch.tanh(self.first(image))).mean((-2, -1)))
        return self.sizes * seen


networks = st.builds(
    Mixed,
    inputs=st.integers(1, 3),
    hidden=st.integers(1, 5),
    kernel=st.sampled_from([1, 2, 3, 5]),
    groups=st.integers(1, 3),
)


def adapter_of(network: nn.Module, strategy: Strategy, rank: int = 2, seed: int = 0) -> Adapter:
    return Adapter(strategy, layers_of(network, rank), fingerprint(network), seed=seed)


def trained(adapter: Adapter, seed: int = 0) -> Adapter:
    """As if training had changed all that it may change."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in adapter.parameters():
            if each.requires_grad:
                each += 0.3 * torch.randn(each.shape, generator=generator)
    return adapter


def image_for(network: Mixed) -> Tensor:
    return torch.randn(
        2, network.first.in_channels, 7, 6, generator=torch.Generator().manual_seed(4)
    )


@every_strategy
@given(network=networks, rank=st.integers(1, 9))
@settings(max_examples=12, deadline=None)
def test_an_untrained_adapter_changes_nothing_exactly(
    strategy: Strategy, network: Mixed, rank: int
) -> None:
    image = image_for(network)
    before = network(image)
    attach(network, adapter_of(network, strategy, rank))
    assert torch.equal(network(image), before)


@every_strategy
@given(network=networks, rank=st.integers(1, 9), seed=st.integers(0, 100))
@settings(max_examples=12, deadline=None)
def test_merged_is_as_live_and_unmerged_is_as_before(
    strategy: Strategy, network: Mixed, rank: int, seed: int
) -> None:
    image, weights = image_for(network), copy.deepcopy(network.state_dict())
    before = network(image)
    adapter = trained(adapter_of(network, strategy, rank), seed)
    attach(network, adapter)
    live = network(image)
    assert not torch.allclose(live, before, rtol=1e-3, atol=1e-3)
    merge(network)
    assert type(network) is Mixed
    torch.testing.assert_close(network(image), live, rtol=1e-5, atol=1e-5)
    unmerge(network, adapter)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=1e-5, atol=1e-5)


@every_strategy
@given(network=networks)
@settings(max_examples=5, deadline=None)
def test_switching_leaves_no_trace(strategy: Strategy, network: Mixed) -> None:
    image, identity = image_for(network), fingerprint(network)
    before = network(image)
    sites = [trained(adapter_of(network, strategy), seed) for seed in (1, 2)]
    network.last.requires_grad_(False)
    outputs = []
    for adapter in (*sites, None, sites[0]):
        with switched(network, adapter):
            outputs.append(network(image).detach())
        assert fingerprint(network) == identity
    assert not torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[2], before)
    assert torch.equal(outputs[3], outputs[0])
    assert not network.last.weight.requires_grad
    assert network.first.weight.requires_grad


@every_strategy
def test_gradients_reach_the_adapter_alone(strategy: Strategy) -> None:
    network = Mixed(2, 3, 3, 2)
    adapter = adapter_of(network, strategy)
    attach(network, adapter)
    network(image_for(network)).square().sum().backward()
    own = {id(each) for each in adapter.parameters()}
    for each in network.parameters():
        assert (each.grad is not None) == (id(each) in own and each.requires_grad)
    # After the first step nothing of it is at rest but what is never trained.
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    network.zero_grad()
    network(image_for(network)).square().sum().backward()
    for name, each in adapter.named_parameters():
        if each.requires_grad:
            assert each.grad is not None and bool(each.grad.any()), name


def test_low_rank_is_of_that_rank_and_size() -> None:
    layer = Layer(name="conv", shape=(8, 5, 3, 3), inputs=1, rank=3)
    for strategy in (Strategy.LOW_RANK, Strategy.FIXED_DOWN, Strategy.GATED):
        change = FAMILY[strategy].change(layer, torch.Generator().manual_seed(0))
        with torch.no_grad():
            for each in change.parameters():
                if not bool(each.any()):
                    each.normal_()
        base = torch.zeros(layer.shape)
        assert torch.linalg.matrix_rank((change(base) - base).flatten(1)) == 3
    numbers = {
        strategy: sum(
            each.numel()
            for each in FAMILY[strategy].change(layer, torch.Generator()).parameters()
            if each.requires_grad
        )
        for strategy in Strategy
    }
    assert numbers == {
        Strategy.FULL: 360,
        Strategy.SCALE_SHIFT: 5,
        Strategy.LOW_RANK: 3 * (8 + 45),
        Strategy.CONTRIBUTION: 3 * (8 + 45),
        Strategy.FIXED_DOWN: 3 * 8,
        Strategy.FOURIER: 3 * (8 + 45),
        Strategy.GATED: 3 * (8 + 45) + 3,
    }


def test_fixed_rows_are_orthonormal() -> None:
    layer = Layer(name="conv", shape=(8, 5, 3, 3), inputs=1, rank=6)
    basis = FAMILY[Strategy.FIXED_DOWN].change(layer, torch.Generator().manual_seed(0)).basis
    assert isinstance(basis, LowRank)
    torch.testing.assert_close(basis.down @ basis.down.T, torch.eye(6))


def test_scales_are_of_input_channels() -> None:
    network = Mixed(3, 4, 3, 1)
    adapter = adapter_of(network, Strategy.SCALE_SHIFT)
    with torch.no_grad():
        for name in ("first.weight", "second.weight", "last.weight"):
            adapter.change(name).basis.values.view(-1)[0] = 1.0
    weights = copy.deepcopy(network.state_dict())
    attach(network, adapter)
    doubled = {
        "first": (slice(None), 0),
        "second": (0,),  # a transposed convolution has its inputs first
        "last": (slice(None), 0),
    }
    for name, index in doubled.items():
        expected = weights[f"{name}.weight"].clone()
        expected[index] *= 2
        torch.testing.assert_close(network.get_submodule(name).weight, expected)


def test_a_spectrum_is_of_waves() -> None:
    """A single coefficient at frequency (u, v) is a cosine over the whole matrix."""
    rows, columns, u, v = 5, 6, 2, 1
    matrix = torch.zeros(rows, columns)
    matrix[u, v] = 1
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    wave = torch.cos(2 * torch.pi * (u * y / rows + v * x / columns)) / (rows * columns) ** 0.5
    torch.testing.assert_close(waves(matrix), wave)


def test_gates_are_penalised() -> None:
    network = Mixed(2, 3, 3, 2)
    adapter = adapter_of(network, Strategy.GATED)
    loss = FAMILY[Strategy.GATED].loss(adapter)
    assert isinstance(loss, Tensor)
    assert loss.item() == pytest.approx(FAMILY[Strategy.GATED].penalty)  # all gates are open: 1
    loss.backward()
    assert all(
        each.grad is not None and bool((each.grad > 0).all())
        for name, each in adapter.named_parameters()
        if name.endswith("gate")
    )
    assert FAMILY[Strategy.LOW_RANK].loss(adapter_of(network, Strategy.LOW_RANK)) == 0


def test_a_new_member_is_a_few_lines() -> None:
    """A family made here, of a basis of its own, is attached, trained and merged like any."""

    class Diagonal(nn.Module):
        def __init__(self, layer: Layer, generator: torch.Generator, gate: bool) -> None:
            del generator, gate
            super().__init__()
            self.values = nn.Parameter(torch.zeros(layer.full_rank))

        def forward(self, base: Tensor) -> Tensor:
            del base
            return torch.diag_embed(self.values)

    layer = Layer(name="weight", shape=(3, 3), inputs=1, rank=1)
    family = Family(Diagonal, 1e-3, transform=lambda matrix: matrix.T)
    change = family.change(layer, torch.Generator())
    assert isinstance(change, Change)
    with torch.no_grad():
        change.basis.values.fill_(2.0)
    torch.testing.assert_close(change(torch.zeros(3, 3)), 2 * torch.eye(3))


def test_the_same_seed_begins_alike() -> None:
    network = Mixed(2, 3, 3, 2)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    one, again, other = (adapter_of(network, Strategy.LOW_RANK, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(
        torch.equal(mine, yours)
        for mine, yours in zip(one.parameters(), again.parameters(), strict=True)
    )
    assert not torch.equal(
        one.change("first.weight").basis.down, other.change("first.weight").basis.down
    )


@pytest.mark.parametrize(
    "altered",
    [
        lambda network: network.first.weight.data.view(-1)[0].add_(1e-6),
        lambda network: network.sizes.data.neg_(),
    ],
)
def test_another_base_is_refused(altered: Callable[[Mixed], object]) -> None:
    network = Mixed(2, 3, 3, 2)
    adapter = adapter_of(network, Strategy.LOW_RANK)
    altered(network)
    before = fingerprint(network)
    with pytest.raises(BadInputError, match="another network"):
        attach(network, adapter)
    assert fingerprint(network) == before


def test_one_adapter_at_a_time() -> None:
    network = Mixed(2, 3, 3, 2)
    adapter = adapter_of(network, Strategy.LOW_RANK)
    attach(network, adapter)
    with pytest.raises(UsageError, match="already"):
        attach(network, adapter)
    with pytest.raises(UsageError, match="already"):
        layers_of(network, 2)
    detach(network)
    with pytest.raises(BadInputError, match=r"first\.weight"):
        unmerge(Mixed(1, 3, 3, 2), adapter)
