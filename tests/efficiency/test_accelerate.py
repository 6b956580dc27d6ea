"""An accelerated network is the network, or refuses."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from adaptmr.data.positions import centred_block
from adaptmr.data.weights import initialise
from adaptmr.efficiency import accelerate as accelerating
from adaptmr.efficiency.accelerate import TOLERANCE, Accelerated, accelerate
from adaptmr.efficiency.graphs import GraphedPlan
from adaptmr.efficiency.unet import FastNormalisedUNet
from adaptmr.efficiency.varnet import plan
from adaptmr.errors import BadInputError, GateError, UsageError
from adaptmr.kernels import compiled, dispatch
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.checkpoint import Network
from adaptmr.reconstruction.networks.unet import NormalisedUNet, UNetConfig
from adaptmr.reconstruction.networks.varnet import VarNet, VarNetConfig
from adaptmr.sampling.mask import Mask

VARNET = VarNetConfig(cascades=3, channels=4, pools=2, map_channels=4, map_pools=2)
MATRICES = [(32, 28), (33, 27), (34, 37), (23, 40)]


@pytest.fixture(autouse=True)
def small_slices_are_accelerated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerating, "_SMALL_PIXELS", 0)


def made(config: VarNetConfig | UNetConfig = VARNET) -> Network:
    network = checkpoint.build(config, 0)
    initialise(network, 1)
    if isinstance(network, VarNet):
        nn.init.uniform_(network.step_sizes, 0.4, 1.3, generator=torch.Generator().manual_seed(2))
    return network.eval()


def kspace(coils: int, matrix: tuple[int, int], batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn((batch, coils, *matrix), dtype=torch.complex64, generator=generator)


def masks(matrix: tuple[int, int]) -> list[Mask]:
    generator = torch.Generator().manual_seed(4)
    made = []
    for shape in (matrix[1:], matrix):
        positions = (torch.rand(shape, generator=generator) < 0.3).numpy()
        block = tuple(8 for _ in shape)
        positions[tuple(map(centred_block, shape, block))] = True
        made += [Mask(positions, block), Mask(positions | True, block)]
    return made


def error(found: Tensor, expected: Tensor) -> float:
    away = torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected)
    return float(away.detach())


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("coils", [1, 3, 15])
def test_varnet_is_itself_in_single_and_double_precision(
    coils: int, matrix: tuple[int, int]
) -> None:
    network = made()
    double = copy.deepcopy(network).double()
    fast = accelerate(network)
    data = kspace(coils, matrix, batch=2)
    for mask in masks(matrix):
        expected = double(data.to(torch.complex128), mask)
        assert error(fast(data, mask), expected) < 1e-5
        # Without rounding the recursion is exact: the plan in double precision.
        exact = plan(double, torch.float64)
        low = mask.low_frequency_only().tensor()
        found = exact(mask.apply(data.to(torch.complex128)), mask.tensor(), low)
        assert error(found, expected) < 1e-12


@pytest.mark.parametrize("coils", [1, 4])
def test_unet_is_itself(coils: int) -> None:
    network = made(UNetConfig(channels=4, pools=3))
    for matrix in MATRICES:
        for mask in masks(matrix)[::2]:
            data = kspace(coils, matrix, batch=2)
            assert error(accelerate(network)(data, mask), network(data, mask)) < 1e-5


@pytest.mark.parametrize("numba", [True, False])
@pytest.mark.parametrize("pools", [1, 5])
def test_odd_levels_are_reflected_as_in_the_network(
    pools: int, numba: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not numba:
        monkeypatch.setattr(compiled, "has_numba", lambda: False)
    network = NormalisedUNet(1, 4, pools)
    initialise(network, 0)
    double = copy.deepcopy(network).double()
    # A side of 48 is halved to one: a variance of two pixels, which amplifies what is rounded in
    # single precision, in the network as well; without rounding nothing may differ.
    for size in ((80, 48), (112, 80)):
        image = torch.randn(2, *size, dtype=torch.float64)
        exact = double(image)
        assert error(FastNormalisedUNet(double, torch.float64)(image), exact) < 1e-12
    single = image.float()
    assert error(FastNormalisedUNet(network, torch.float32)(single), network(single)) < 1e-5
    assert not FastNormalisedUNet(network, torch.float32)(torch.zeros(1, 32, 32)).isnan().any()


def test_one_cascade_and_silent_coils() -> None:
    network = made(VARNET.model_copy(update={"cascades": 1}))
    data, mask = kspace(3, (32, 28)), masks((32, 28))[0]
    data[:, 1] = 0
    assert error(accelerate(network)(data, mask), network(data, mask)) < 1e-5
    assert not accelerate(network)(torch.zeros_like(data), mask).any()


def test_input_is_left_alone_and_views_are_understood() -> None:
    network, mask = made(), masks((32, 28))[0]
    fast, data = accelerate(network, batch=1), kspace(3, (32, 28), batch=3)
    before = data.clone()
    expected = fast(data, mask)
    assert torch.equal(data, before)
    torch.testing.assert_close(fast(data.conj().resolve_conj().conj(), mask), expected)
    strided = data.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    torch.testing.assert_close(fast(strided, mask), expected)
    assert not expected.requires_grad


def test_scale_goes_through() -> None:
    fast, data, mask = accelerate(made()), kspace(3, (32, 28)), masks((32, 28))[0]
    torch.testing.assert_close(fast(1e-6 * data, mask), 1e-6 * fast(data, mask), rtol=1e-4, atol=0)


def test_it_refuses_to_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    network, data, mask = made(), kspace(2, (32, 28)), masks((32, 28))[0]
    assert isinstance(network, VarNet)
    wrong = copy.deepcopy(network)
    wrong.step_sizes.data.add_(0.05)
    honest = plan
    monkeypatch.setattr(accelerating, "plan", lambda _, dtype: honest(wrong, dtype))
    with pytest.raises(GateError, match="differs from the network"):
        accelerate(network)(data, mask)
    wrong.step_sizes.data.fill_(torch.nan)
    with pytest.raises(GateError, match="nan"):
        accelerate(network)(data, mask)


def test_a_network_that_is_broken_stays_so() -> None:
    network, data, mask = made(), kspace(2, (32, 28)), masks((32, 28))[0]
    assert isinstance(network, VarNet)
    network.step_sizes.data.fill_(torch.nan)
    assert not network(data, mask).isfinite().any()
    assert not accelerate(network)(data, mask).isfinite().any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_precision_keeps_its_promise_or_refuses(dtype: torch.dtype) -> None:
    network, data, mask = made(), kspace(4, (32, 28)), masks((32, 28))[0]
    expected = network(data, mask)
    try:
        found = accelerate(network, dtype=dtype)(data, mask)
    except GateError as refusal:
        assert str(dtype) in str(refusal)
    else:
        assert 1e-6 < error(found, expected) < 3 * TOLERANCE[dtype]


def test_reference_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    network, data, mask = made(), kspace(2, (32, 28)), masks((32, 28))[0]
    monkeypatch.setenv(dispatch.SWITCH, "reference")
    assert torch.equal(accelerate(network)(data, mask), network(data, mask))


def test_copies_and_graphs() -> None:
    network, data, mask = made(), kspace(2, (32, 28)), masks((32, 28))[0]
    fast = accelerate(network)
    expected = fast(data, mask)
    copied = copy.deepcopy(fast)
    assert isinstance(copied, Accelerated)
    assert torch.equal(copied(data, mask), expected)
    assert len(list(copied.parameters())) == len(list(network.parameters()))
    if not torch.cuda.is_available():
        pytest.skip("CUDA graphs need a GPU; the plan that they capture was compared above")
    on_gpu = copied.cuda()
    assert error(on_gpu(data.cuda(), mask).cpu(), expected) < 1e-4
    assert isinstance(on_gpu._plan, GraphedPlan)


def test_small_slices_are_left_to_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    network, data, mask = made(), kspace(2, (32, 28)), masks((32, 28))[0]
    monkeypatch.setattr(accelerating, "_SMALL_PIXELS", 32 * 28 + 1)
    found = accelerate(network)(data, mask)
    assert torch.equal(found, network(data, mask))
    assert not found.requires_grad


def test_bad_input_is_refused() -> None:
    fast, data, mask = accelerate(made()), kspace(2, (32, 28)), masks((32, 28))[0]
    for wrong in (data.real, data[0], data[:, :0], data[..., :20], data.to("meta")):
        with pytest.raises(BadInputError):
            fast(wrong, mask)
    with pytest.raises(BadInputError, match="low-frequency"):
        fast(data, replace(mask, low_frequency=(0,)))
    with pytest.raises(UsageError, match="precision"):
        accelerate(made(), dtype=torch.float64)
    with pytest.raises(UsageError, match="batch"):
        accelerate(made(), batch=0)


def test_memory_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, data, mask = accelerate(made()), kspace(2, (32, 28)), masks((32, 28))[0]
    fast(data, mask)
    monkeypatch.setattr(dispatch, "_SMALL_BYTES", 0)
    monkeypatch.setattr(dispatch, "_free_bytes", lambda _: 1000)
    with pytest.raises(MemoryError, match=f"{2 * data.numel() * 8} bytes"):
        fast(data, mask)
