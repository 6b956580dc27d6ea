import numpy as np
import pytest
import sigpy.mri as mr
import torch
from made_kspace import complex_normal, line_mask, point_mask

from adaptmr.errors import BadInputError
from adaptmr.reconstruction.encoding import Encoding


@pytest.mark.parametrize("matrix", [(12, 10), (11, 13)])
@pytest.mark.parametrize("axes", [1, 2])
def test_equals_sigpy(matrix: tuple[int, int], axes: int) -> None:
    maps, image = complex_normal((3, *matrix)), complex_normal(matrix)
    mask = line_mask(matrix[1], 3) if axes == 1 else point_mask(matrix, (3, 3))
    weights = mask.tensor().expand(matrix).numpy().astype(float)
    other = mr.linop.Sense(maps.numpy(), weights=weights)
    ours = Encoding(maps, mask)
    np.testing.assert_allclose(ours.forward(image).numpy(), other(image.numpy()), atol=1e-12)
    kspace = complex_normal((3, *matrix), 1)
    np.testing.assert_allclose(ours.adjoint(kspace).numpy(), other.H(kspace.numpy()), atol=1e-12)
    np.testing.assert_allclose(ours.normal(image).numpy(), other.N(image.numpy()), atol=1e-12)


def test_energy_bounds_the_normal_operator() -> None:
    maps = complex_normal((2, 4, 9, 8))
    encoding = Encoding(maps, point_mask((9, 8), (2, 2)))
    image = complex_normal((2, 9, 8), 1)
    for _ in range(30):
        image = encoding.normal(image)
        length = torch.linalg.vector_norm(image, dim=(1, 2), keepdim=True)
        image = image / length
    assert bool((length.flatten() <= encoding.energy.amax((1, 2)) * (1 + 1e-12)).all())
    torch.testing.assert_close(encoding.energy, maps.abs().square().sum(1))


def test_maps_broadcast_over_a_batch() -> None:
    maps, images = complex_normal((3, 9, 8)), complex_normal((2, 9, 8), 1)
    encoding = Encoding(maps, line_mask(8, 2))
    assert encoding.forward(images).shape == (2, 3, 9, 8)
    torch.testing.assert_close(encoding.normal(images)[1], encoding.normal(images[1]))


def test_a_mask_of_another_size() -> None:
    with pytest.raises(BadInputError, match=r"field 'mask'.*got \(7,\); expected \(8,\)"):
        Encoding(complex_normal((3, 9, 8)), line_mask(7, 2))


def test_maps_that_are_not_maps() -> None:
    with pytest.raises(BadInputError, match="sensitivity maps are complex"):
        Encoding(torch.ones(3, 9, 8), line_mask(8, 2))
    with pytest.raises(BadInputError, match="sensitivity maps are complex"):
        Encoding(complex_normal((9, 8)), line_mask(8, 2))
