import pytest
import torch
from made_kspace import complex_normal

from adaptmr.kernels.energy import energy


@pytest.mark.parametrize("dims", [(0,), (1,), (0, 2), (1, 2, 3)])
def test_is_the_sum_of_squared_magnitudes(dims: tuple[int, ...]) -> None:
    values = complex_normal((2, 3, 5, 4))
    for given in (values, values.conj(), values[..., ::2]):
        torch.testing.assert_close(energy(given, dims), given.abs().square().sum(dims))


def test_has_a_gradient() -> None:
    values = complex_normal((2, 3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: energy(x, (1,)), (values,))
