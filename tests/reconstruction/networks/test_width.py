"""The network of interval widths."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptmr.errors import BadInputError
from adaptmr.reconstruction.networks import width
from adaptmr.reconstruction.networks.width import WidthConfig, pinball


def images(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, rows, columns, generator=torch.Generator().manual_seed(seed))


@given(
    rows=st.integers(17, 40),
    columns=st.integers(17, 40),
    scale=st.floats(1e-6, 1e6),
)
@settings(max_examples=10, deadline=None)
def test_widths_are_not_negative_and_scale_with_the_images(
    rows: int, columns: int, scale: float
) -> None:
    network = width.build(WidthConfig(channels=4, pools=2), 0).eval()
    image, zero_filled = images(rows, columns), images(rows, columns, 1)
    with torch.inference_mode():
        found = network(image, zero_filled)
        scaled = network(scale * image, scale * zero_filled)
    assert found.shape == image.shape
    assert bool((found >= 0).all())
    torch.testing.assert_close(scaled / scale, found, rtol=1e-3, atol=1e-4)


def test_an_image_without_signal_has_width_zero() -> None:
    network = width.build(WidthConfig(channels=4, pools=2), 0).eval()
    zero = torch.zeros(1, 20, 20)
    assert not network(zero, zero).any()


def test_the_pinball_loss_is_least_at_the_quantile() -> None:
    error = torch.rand(10001, generator=torch.Generator().manual_seed(0))
    widths = torch.linspace(0, 1, 101)
    losses = torch.stack([pinball(error, each.expand_as(error), 0.9).mean() for each in widths])
    assert float(widths[losses.argmin()]) == pytest.approx(0.9, abs=0.02)


def test_a_network_is_kept_bit_by_bit(tmp_path: Path) -> None:
    network = width.build(WidthConfig(channels=4, pools=2), 3)
    width.save(network, tmp_path / "width", {"seed": 3})
    loaded = width.load(tmp_path / "width")
    ours, theirs = network.state_dict(), loaded.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)
    assert not loaded.training
    weights = tmp_path / "width" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BadInputError, match="altered"):
        width.load(tmp_path / "width")
