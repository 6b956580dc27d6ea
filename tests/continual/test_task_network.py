import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tasks import Judge
from torch import Tensor, nn

from adaptmr.continual import task_network_files as files
from adaptmr.continual.task_network import Adapter, Intensity, Layout, Scale, TaskNetwork
from adaptmr.errors import BadInputError, UsageError


def images(slices: int = 2, rows: int = 24, columns: int = 20) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(slices, rows, columns, generator=generator)


def network_of(module: nn.Module, outputs: int = 3, **changes: object) -> TaskNetwork:
    values = {"adapter": Adapter(), "intensity": None, "fingerprint": "made"} | changes
    return TaskNetwork(module, outputs=outputs, **values)  # type: ignore[arg-type]


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_place_keeps_the_centre(rows: int, columns: int, size: tuple[int, int]) -> None:
    """Cutting what was padded, or padding what was cut, keeps the pixels that both have."""
    image = torch.arange(rows * columns).view(1, rows, columns) + 1
    placed = Adapter(size=size).place(image)
    assert placed.shape == (1, *size)
    kept = [min(have, want) for have, want in zip((rows, columns), size, strict=True)]
    assert int((placed > 0).sum()) == kept[0] * kept[1]
    back = Adapter(size=(rows, columns)).place(placed)
    assert bool(((back == image) | (back == 0)).all())


@pytest.mark.parametrize("scale", [Scale.MEAN, Scale.STANDARD, Scale.MAXIMUM])
@pytest.mark.parametrize("layout", Layout)
def test_scales_do_not_depend_on_the_unit(scale: Scale, layout: Layout) -> None:
    adapter = Adapter(layout=layout, scale=scale)
    assert torch.allclose(adapter(images() * 1e4), adapter(images()), atol=1e-5)
    dark = torch.zeros(2, 8, 8, requires_grad=True)
    adapter(dark).square().sum().backward()
    assert bool(torch.isfinite(dark.grad).all())


def test_slices_scale_alone_and_volumes_together() -> None:
    uneven = images() * torch.tensor([1.0, 9.0])[:, None, None]
    apart = Adapter(scale=Scale.MEAN)(uneven)
    together = Adapter(layout=Layout.VOLUMES, scale=Scale.MEAN)(uneven)
    assert apart.shape == (2, 1, 24, 20)
    assert together.shape == (1, 1, 2, 24, 20)
    assert torch.allclose(apart.mean((1, 2, 3)), torch.ones(2))
    assert float(together[0, 0, 1].mean()) > 5 * float(together[0, 0, 0].mean())


def test_frozen_and_in_evaluation_mode() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    network = network_of(module)
    assert not module.training
    assert not any(value.requires_grad for value in module.parameters())
    assert torch.equal(network(images()), network(images()))


class Hard(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return (image > 0).float().expand(-1, 3, -1, -1)


class Detached(Judge):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.detach())


class Flat(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return (0 * image).expand(-1, 3, -1, -1)


@pytest.mark.parametrize(
    "module", [Hard(), Detached(3, 2, dense=True), Flat()], ids=["steps", "detached", "zero"]
)
def test_networks_without_a_gradient_are_refused(module: nn.Module) -> None:
    with pytest.raises(BadInputError, match="not differentiable"):
        network_of(module).check(images())


def test_other_outputs_sizes_and_intensities_are_refused() -> None:
    good = Judge(3, 2, dense=True)
    network_of(good).check(images())
    with pytest.raises(BadInputError, match="another number of outputs"):
        network_of(good, outputs=4).check(images())
    with pytest.raises(BadInputError, match="fails on an image"):
        network_of(nn.Sequential(nn.Flatten(), nn.Linear(7, 3))).check(images())
    made_for = Intensity.of(Adapter(scale=Scale.NONE)(images()))
    raw = Adapter(scale=Scale.NONE)
    network_of(good, adapter=raw, intensity=made_for).check(images())
    with pytest.raises(BadInputError, match="another range of intensities"):
        network_of(good, adapter=raw, intensity=made_for).check(images() * 255)
    with pytest.raises(BadInputError, match="not finite"):
        network_of(good).check(images() * float("inf"))


ARCHITECTURES = [
    files.UNetJudge(outputs=3, channels=(4, 8)),
    files.ResNetJudge(outputs=2, channels=(4, 4, 4, 4)),
    files.DenseNetJudge(outputs=1, dimensions=3, features=4, growth=2, blocks=(1, 1)),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: each.kind)
def test_networks_come_back_from_disk(
    architecture: files.JudgeArchitecture, tmp_path: Path
) -> None:
    before = torch.random.get_rng_state()
    module = files.build(architecture, 5)
    assert torch.equal(before, torch.random.get_rng_state())
    layout = Layout.SLICES if architecture.dimensions == 2 else Layout.VOLUMES
    adapter = Adapter(layout=layout, size=(32, 32))
    volume = images(32 if layout is Layout.VOLUMES else 2)
    intensity = Intensity.of(adapter(volume))
    files.save(module, architecture, adapter, intensity, tmp_path / "a", {"made": "by a test"})
    loaded = files.load(tmp_path / "a")
    assert torch.equal(loaded(volume), network_of(module, adapter=adapter)(volume))
    loaded.check(volume)
    assert files.provenance(tmp_path / "a") == {"made": "by a test"}
    weights = tmp_path / "a" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(BadInputError, match="altered"):
        files.load(tmp_path / "a")


@pytest.mark.parametrize("suffix", [".pt2", ".pt"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_programs_are_adopted(suffix: str, tmp_path: Path) -> None:
    module = Judge(3, 2, dense=True).eval()
    example = Adapter()(images())
    if suffix == ".pt2":
        torch.export.save(torch.export.export(module, (example,)), tmp_path / "x.pt2")
    else:
        torch.jit.trace(module, example).save(tmp_path / "x.pt")
    files.adopt(tmp_path / f"x{suffix}", 3, Adapter(), tmp_path / "a")
    loaded = files.load(tmp_path / "a")
    assert torch.allclose(loaded(images()), network_of(module)(images()), atol=1e-6)
    loaded.check(images())
    (tmp_path / f"bad{suffix}").write_bytes(b"no program")
    with pytest.raises(BadInputError, match="cannot be read"):
        files.adopt(tmp_path / f"bad{suffix}", 3, Adapter(), tmp_path / "b")
    assert not (tmp_path / "b").exists()


@settings(max_examples=20)
@given(factor=st.floats(0.01, 100))
def test_intensities_accept_their_own_kind(factor: float) -> None:
    made_for = Intensity(mean=0.0, deviation=1.0)
    accepted = made_for.accepts(Intensity(mean=0.0, deviation=factor))
    assert accepted == (1 / 3 <= factor <= 3)


def test_without_monai_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.networks.nets.unet", None)
    with pytest.raises(UsageError, match=r"Install it with 'adaptmr\[continual\]'"):
        files.build(files.UNetJudge(outputs=2), 0)
