"""The step of data consistency, and norm with activation, against plain formulas."""

import pytest
import torch
from made_operands import complex_numbers, layouts
from torch import Tensor
from torch.autograd import gradcheck
from torch.library import opcheck
from torch.nn import functional

from adaptmr.kernels import compiled
from adaptmr.kernels import instance_norm_act as norm
from adaptmr.kernels.image_dc_step import image_dc_step, reference

SIZES = [
    (1, 3, 33, 27),
    (2, 18, 16, 12),
    (2, 5, 7, 13),
    (1, 4, 1, 1),
    (3, 1, 6, 5),
    (1, 18, 9, 240),  # rows that are cut into pieces
    (1, 3, 4, 1009),  # long rows that cannot be
]


def step_operands() -> list[Tensor]:
    images = [complex_numbers(2, 5, 7, seed=seed) for seed in range(5)]
    energy = torch.rand(2, 5, 7, dtype=torch.float64)
    return [*images[:4], energy, images[4], torch.tensor(0.3, dtype=torch.float64)]


def test_step_is_the_recursion() -> None:
    start, sigma, rho, update, energy, normal, step = step_operands()
    new_sigma, new_rho = sigma + update, 0.7 * rho + update
    expected = start - energy * new_sigma - normal, new_sigma, new_rho
    for one, other in zip(layouts(start), layouts(rho), strict=True):
        found = image_dc_step(one, sigma, other, update, energy, normal, step)
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(reference(start, sigma, rho, update, energy, normal, step), expected)


def test_step_has_gradients_and_is_registered() -> None:
    leaves = [one.clone().requires_grad_() for one in step_operands()]
    assert gradcheck(image_dc_step, leaves)
    opcheck(torch.ops.adaptmr.image_dc_step.default, tuple(leaves))


def test_step_refuses_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    operands = step_operands()
    found = image_dc_step(*operands)
    for place, wrong, match in [
        (1, operands[1].to(torch.complex64), "sigma is torch.complex64"),
        (4, operands[4].float(), "energy is torch.float32"),
        (3, operands[3][:1], "update is"),
        (6, torch.ones(2, dtype=torch.float64), "2 numbers"),
        (5, operands[5].to("meta"), "on meta"),
    ]:
        with pytest.raises((TypeError, ValueError), match=match):
            image_dc_step(*operands[:place], wrong, *operands[place + 1 :])
    monkeypatch.setenv("ADAPTMR_KERNELS", "reference")
    torch.testing.assert_close(image_dc_step(*operands), found)


def defined(image: Tensor) -> Tensor:
    wide = image.double()
    mean = wide.mean((-2, -1), keepdim=True)
    variance = (wide - mean).square().mean((-2, -1), keepdim=True)
    normalised = (wide - mean) / (variance + 1e-5).sqrt()
    return torch.where(normalised > 0, normalised, 0.2 * normalised)


def images(size: tuple[int, ...], dtype: torch.dtype, mean: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = (torch.randn(size, dtype=torch.float64, generator=generator) + mean).to(dtype)
    return [*layouts(image), image.contiguous(memory_format=torch.channels_last)]


@pytest.fixture(params=["compiled", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two ways of a CPU."""
    wanted = request.param == "compiled"
    if wanted and not compiled.has_numba():
        pytest.skip("numba is not installed")
    monkeypatch.setattr(compiled, "has_numba", lambda: wanted)
    monkeypatch.setattr(compiled, "_MOST_THREADS", torch.get_num_threads())
    return str(request.param)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("dtype", "mean", "tolerance"),
    [
        (torch.float64, 0.3, 1e-12),
        (torch.float64, 30.0, 1e-12),
        (torch.float32, 0.3, 2e-6),
        (torch.float32, 30.0, 2e-5),
        (torch.bfloat16, 0.3, 2e-2),
    ],
)
def test_norm_in_every_layout(
    size: tuple[int, ...], dtype: torch.dtype, mean: float, tolerance: float
) -> None:
    for image in images(size, dtype, mean):
        expected = defined(image)
        pools = min(size[2:]) > 1
        small = functional.avg_pool2d(expected, 2) if pools else None
        if size[2:] == (1, 1) and dtype == torch.float32:
            tolerance = 2e-5  # no variance: rounding is amplified by 1 / sqrt(epsilon)
        close = {"atol": tolerance, "rtol": tolerance}
        torch.testing.assert_close(norm.instance_norm_act(image).double(), expected, **close)
        wide = torch.full((size[0], 2 * size[1], *size[2:]), torch.nan, dtype=dtype)
        for out in (
            torch.full_like(image, torch.nan),
            wide.to(memory_format=torch.channels_last)[:, size[1] :],
            image.clone(),  # in place
        ):
            source = out if not out.isnan().any() else image
            pooled = norm.instance_norm_act_into(source, out, pool=pools)
            torch.testing.assert_close(out.double(), expected, **close)
            if pooled is not None:
                torch.testing.assert_close(pooled.double(), small, **close)


def test_norm_of_rows_that_lie_apart(path: str) -> None:
    image = torch.randn(1, 6, 10, 32).contiguous(memory_format=torch.channels_last) + 7
    rows = image[0].permute(1, 2, 0)
    parts = torch.stack((rows[::2], rows[1::2])).flatten(2)
    out = torch.full_like(rows, torch.nan)
    norm.norm_rows(parts, 1e-5, 0.2, out.unflatten(0, (5, 2)))
    found = out.permute(2, 0, 1)[None].double()
    torch.testing.assert_close(found, defined(image), atol=1e-6, rtol=1e-6)
    assert compiled.runs_compiled(parts) == (path == "compiled")


@pytest.mark.usefixtures("path")
def test_norm_hides_nothing_that_is_not_finite() -> None:
    image = torch.randn(1, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    image[0, 1, 2, 3], image[0, 2, 0, 0] = torch.nan, torch.inf
    found = norm.instance_norm_act(image.requires_grad_())
    assert found[0, 0].isfinite().all()
    assert found[0, 1].isnan().all()
    assert found[0, 2].isnan().any()


def test_compiled_norm_is_for_single_precision_and_few_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "has_numba", lambda: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert compiled.runs_compiled(torch.zeros(1))
    assert not compiled.runs_compiled(torch.zeros(1, dtype=torch.bfloat16))
    assert not compiled.runs_compiled(torch.zeros(1, device="meta"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert not compiled.runs_compiled(torch.zeros(1))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_norm_has_gradients_and_is_registered(layout: torch.memory_format) -> None:
    image = torch.randn(2, 3, 5, 4, dtype=torch.float64).contiguous(memory_format=layout)
    image.requires_grad_()
    assert gradcheck(norm.instance_norm_act, (image,))
    opcheck(torch.ops.adaptmr.instance_norm_act.default, (image, 1e-5, 0.2))


def test_norm_refuses_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.randn(1, 2, 4, 4)
    with pytest.raises(TypeError, match="real"):
        norm.instance_norm_act(image.to(torch.complex64))
    with pytest.raises(ValueError, match="batch, channels"):
        norm.instance_norm_act(image[0])
    with pytest.raises(ValueError, match="out is"):
        norm.instance_norm_act_into(image, image[:, :1])
    with pytest.raises(TypeError, match="out is torch"):
        norm.instance_norm_act_into(image, image.double())
    expected = norm.instance_norm_act(image)
    monkeypatch.setenv("ADAPTMR_KERNELS", "reference")
    torch.testing.assert_close(norm.instance_norm_act(image), expected)
