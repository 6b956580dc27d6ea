"""The image-space VarNet against fastMRI's k-space VarNet."""

import copy
from pathlib import Path

import pytest
import torch
from fastmri.losses import SSIMLoss
from fastmri.models import VarNet as FastmriVarNet
from hypothesis import given, settings
from hypothesis import strategies as st
from network_reference import (
    complex_normal,
    fastmri_forward,
    fastmri_varnet,
    line_mask,
    point_mask,
    randomise,
)
from torch import Tensor

from adaptmr.data.fastmri import read_scan
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.networks.checkpoint import build
from adaptmr.reconstruction.networks.fastmri_weights import from_fastmri
from adaptmr.reconstruction.networks.varnet import VarNet, VarNetConfig
from adaptmr.sampling.mask import Mask

SMALL = VarNetConfig(cascades=3, channels=4, pools=2, map_channels=4, map_pools=2)


def relative(got: Tensor, expected: Tensor) -> float:
    return ((got - expected).abs().max() / expected.abs().max()).item()


def ours_from(theirs: FastmriVarNet) -> VarNet:
    network = from_fastmri(theirs.state_dict())
    assert isinstance(network, VarNet)
    return network


def assert_parity(theirs: FastmriVarNet, kspace: Tensor, mask: Mask) -> None:
    with torch.no_grad():
        ours = ours_from(theirs)
        assert relative(ours(kspace, mask), fastmri_forward(theirs, kspace, mask)) < 1e-12
        single = kspace.to(torch.complex64)
        expected = fastmri_forward(copy.deepcopy(theirs).float(), single, mask)
        difference = ours.float()(single, mask) - expected
        assert float(difference.norm() / expected.norm()) < 3e-5


@given(
    rows=st.integers(16, 37),
    columns=st.integers(16, 37),
    coils=st.sampled_from([1, 3]),
    cascades=st.integers(1, 4),
    low_frequency=st.integers(1, 7),
)
@settings(max_examples=12, deadline=None)
def test_equals_fastmri(
    rows: int, columns: int, coils: int, cascades: int, low_frequency: int
) -> None:
    mask = line_mask(columns, low_frequency, seed=rows)
    kspace = complex_normal((2, coils, rows, columns), rows)
    assert_parity(fastmri_varnet(cascades, 4, 2, seed=columns), kspace, mask)


def test_equals_fastmri_with_fifteen_coils() -> None:
    kspace = complex_normal((1, 15, 34, 37), 0)
    assert_parity(fastmri_varnet(2, 4, 2), kspace, line_mask(37, 6))


@pytest.mark.slow
@pytest.mark.parametrize("matrix", [(96, 80), (47, 63)])
def test_full_size_network_equals_fastmri(matrix: tuple[int, int]) -> None:
    theirs = FastmriVarNet(num_cascades=12, sens_chans=8, sens_pools=4, chans=18, pools=4).double()
    randomise(theirs, 1)
    kspace = complex_normal((1, 3, *matrix), 1)
    assert_parity(theirs, kspace, line_mask(matrix[1], 8))


@pytest.mark.slow
def test_full_size_network_equals_fastmri_on_real_kspace(shared_data: Path) -> None:
    theirs = FastmriVarNet(num_cascades=12, sens_chans=8, sens_pools=4, chans=18, pools=4).double()
    randomise(theirs, 2)
    kspace = read_scan(shared_data / "kspace" / "brain_gre_16ch.h5").kspace[:1].to(torch.complex128)
    assert_parity(theirs, kspace, line_mask(kspace.shape[-1], 10))


@pytest.mark.slow
def test_briefly_trained_network_equals_fastmri() -> None:
    theirs = fastmri_varnet(12, 18, 3)
    mask = line_mask(45, 6)
    kspace = complex_normal((1, 3, 48, 45), 2)
    kspace = kspace * torch.hann_window(45, periodic=False, dtype=torch.float64) ** 4
    everything = Mask(torch.ones(45, dtype=torch.bool).numpy(), (6,))
    target = fastmri_forward(fastmri_varnet(1, 4, 2), kspace, everything).detach()[:, None]
    optimiser = torch.optim.Adam(theirs.parameters(), lr=1e-3)
    criterion = SSIMLoss().double()
    losses = []
    for _ in range(4):
        optimiser.zero_grad()
        image = fastmri_forward(theirs, kspace, mask)[:, None]
        loss = criterion(image, target, target.amax((1, 2, 3)))
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert_parity(theirs, kspace, mask)


@pytest.mark.parametrize("matrix", [(24, 20), (33, 27)])
@pytest.mark.parametrize("coils", [1, 3])
def test_points_with_given_maps_equal_fastmris_cascades(
    matrix: tuple[int, int], coils: int
) -> None:
    theirs = fastmri_varnet(3, 4, 2)
    mask = point_mask(matrix, (5, 6))
    kspace = complex_normal((2, coils, *matrix), 3)
    maps = complex_normal((2, coils, *matrix), 4)  # of any norm,
    maps[..., :4, :] = 0  # zero in part of the image
    positions = mask.tensor()[None, None, ..., None].expand(2, 1, *matrix, 1)
    masked = torch.view_as_real(mask.apply(kspace))
    state = masked.clone()
    for cascade in theirs.cascades:
        state = cascade(state, masked, positions, torch.view_as_real(maps))
    coil_images = torch.fft.ifft2(torch.fft.ifftshift(torch.view_as_complex(state), dim=(-2, -1)))
    expected = coil_images.abs().square().sum(1).sqrt() * (matrix[0] * matrix[1]) ** 0.5
    expected = torch.fft.fftshift(expected, dim=(-2, -1))
    got = ours_from(theirs).reconstruct(kspace, mask, maps)
    assert relative(got, expected) < 1e-12


def test_gradients_by_the_measured_kspace_equal_fastmri_also_outside_the_mask() -> None:
    theirs = fastmri_varnet(3, 4, 2)
    mask = line_mask(27, 5)
    measured = mask.apply(complex_normal((2, 3, 24, 27), 5))
    ours = measured.clone().requires_grad_()
    ours_from(theirs).from_measured(ours, mask).square().sum().backward()
    masked = torch.view_as_real(measured).clone().requires_grad_()
    columns = mask.tensor()[None, None, ..., None].expand(2, 1, 1, -1, 1)
    theirs(masked, columns, num_low_frequencies=5).square().sum().backward()
    assert ours.grad is not None
    assert masked.grad is not None
    assert relative(ours.grad, torch.view_as_complex(masked.grad)) < 1e-9
    outside = ours.grad[..., ~mask.tensor()[0]]
    assert bool((outside != 0).all())


def test_gradients_equal_fastmri() -> None:
    theirs = fastmri_varnet(4, 4, 2)
    ours = ours_from(theirs)
    mask = line_mask(21, 4)
    kspace = complex_normal((1, 3, 18, 21), 5)
    probe = complex_normal((1, 18, 21), 6).real
    (fastmri_forward(theirs, kspace, mask) * probe).sum().backward()
    (ours(kspace, mask) * probe).sum().backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    assert float(gradients["cascades.0.dc_weight"].abs()) == 0  # the term that ours leaves out
    expected = from_fastmri(gradients)
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert relative(parameter.grad, expected.get_parameter(name)) < 1e-9, name
        assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("mask", [line_mask(21, 4), point_mask((18, 21), (4, 5))])
def test_scales_exactly_and_sees_nothing_outside_the_mask(mask: Mask) -> None:
    network = build(SMALL, seed=0)
    randomise(network, 0)
    kspace = complex_normal((2, 3, 18, 21), 7, torch.complex64)
    image = network(kspace, mask)
    assert torch.equal(network(kspace * 2.0**-20, mask), image * 2.0**-20)
    torch.testing.assert_close(network(kspace * 1e6, mask), image * 1e6, rtol=1e-4, atol=1e-2)
    changed = torch.where(mask.tensor(), kspace, kspace + 5)
    assert torch.equal(network(changed, mask), image)


def test_zero_slices_and_coils_stay_finite_forwards_and_backwards() -> None:
    network = build(SMALL, seed=0)
    randomise(network, 0)
    kspace = complex_normal((2, 3, 18, 21), 8, torch.complex64)
    kspace[0], kspace[1, 1] = 0, 0
    kspace.requires_grad_()
    image = network(kspace, line_mask(21, 4))
    assert float(image[0].detach().abs().max()) == 0
    assert float(image[1].detach().abs().max()) > 0
    image.sum().backward()
    assert kspace.grad is not None
    assert kspace.grad.isfinite().all()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_output_does_not_depend_on_batch_mates() -> None:
    network = build(SMALL, seed=0)
    randomise(network, 0)
    kspace = complex_normal((3, 2, 18, 21), 9, torch.complex64)
    together = network(kspace, line_mask(21, 4))
    alone = torch.cat([network(one[None], line_mask(21, 4)) for one in kspace])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_a_mask_without_calibration_lines_or_of_another_size_is_refused() -> None:
    network = build(SMALL, seed=0)
    randomise(network, 0)
    kspace = complex_normal((1, 2, 18, 21), 0, torch.complex64)
    positions = line_mask(21, 4).positions
    with pytest.raises(BadInputError, match="no fully acquired low-frequency block"):
        network(kspace, Mask(positions, (0,)))
    with pytest.raises(BadInputError, match="does not fit the k-space"):
        network(kspace, line_mask(20, 4))
    with pytest.raises(BadInputError, match="coil maps do not fit"):
        network.reconstruct(kspace, line_mask(21, 4), kspace[:, :1])


def test_the_first_weights_change_no_phase_and_no_detail() -> None:
    """A new network subtracts means only, so its image is the zero-filled one up to those."""
    network = build(SMALL, seed=0)
    assert isinstance(network, VarNet)
    image = complex_normal((2, 18, 21), 1, torch.complex64)
    for regulariser in network.regularisers:
        mean = image.mean((-2, -1), keepdim=True).expand_as(image)
        torch.testing.assert_close(regulariser(image), mean, rtol=1e-5, atol=1e-6)
