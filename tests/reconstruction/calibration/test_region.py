"""The region of the object."""

import pytest
import torch

from adaptmr.reconstruction.calibration.region import object_region


def head(scale: float = 1.0) -> torch.Tensor:
    """A ring of bright tissue around a dark one, in noise, with a spike."""
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(40.0), indexing="ij")
    radius = torch.hypot((rows - 24) / 20, (columns - 20) / 16)
    image = torch.where(radius < 1, 1.0, 0.0) - torch.where(radius < 0.5, 0.97, 0.0)
    noise = 0.02 * torch.rand(48, 40, generator=torch.Generator().manual_seed(0))
    image = image + noise
    image[24, 20] = 30.0
    return scale * image[None]


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_the_object_with_what_is_dark_in_it(scale: float) -> None:
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(40.0), indexing="ij")
    radius = torch.hypot((rows - 24) / 20, (columns - 20) / 16)
    found = object_region(head(scale))
    assert torch.equal(found[0], radius < 1)


def test_nothing_without_signal() -> None:
    assert not object_region(torch.zeros(2, 8, 9)).any()


def test_slices_are_apart() -> None:
    both = torch.cat([head(), head(100.0)])
    assert torch.equal(object_region(both)[0], object_region(both)[1])
