"""Learning from what was measured: what is hidden stays hidden, and decides."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from training_scans import write_ellipses

from adaptmr.continual.adapt.held_out import SeenPart, held_out_loss
from adaptmr.continual.adapt.scans import open_scans_to_adapt_to
from adaptmr.data.fastmri import read_scan, write_scan
from adaptmr.data.scan import Stack
from adaptmr.data.weights import initialise
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.networks.varnet import VarNet, VarNetConfig
from adaptmr.sampling.mask import Mask

MATRIX = (24, 20)
LINES = Mask(np.isin(np.arange(20), (1, 4, 8, 9, 10, 11, 15, 16, 18)), (4,))


@pytest.fixture(scope="module")
def network() -> VarNet:
    network = VarNet(VarNetConfig(cascades=2, channels=4, pools=2, map_channels=4, map_pools=2))
    initialise(network, 0)
    return network.requires_grad_(False)


def noise(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, *MATRIX, dtype=torch.complex64, generator=generator)


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    axes = draw(st.sampled_from([1, 2]))
    shape = MATRIX[-axes:]
    positions = np.random.default_rng(draw(st.integers(0, 99))).random(shape) < 0.4
    block = tuple(draw(st.integers(1, 5)) for _ in shape)
    empty = Mask(np.ones(shape, np.bool_), block)
    positions[empty.block] = True
    positions.flat[[0, 1]] = True
    return Mask(positions, block)


@given(acquired=masks(), share=st.floats(0.05, 0.95), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_part_is_seen_and_a_part_is_not(acquired: Mask, share: float, seed: int) -> None:
    source = SeenPart(acquired, share)
    seen = source.make(MATRIX, seed, None)
    assert not (seen.positions & ~acquired.positions).any()
    assert seen.positions[acquired.block].all()
    assert seen.low_frequency == acquired.low_frequency
    outside = acquired.positions.copy()
    outside[acquired.block] = False
    hidden = int((acquired.positions & ~seen.positions).sum())
    assert hidden == min(max(1, round(share * outside.sum())), int(outside.sum()) - 1)
    assert source.make(MATRIX, seed, None) == seen


def test_draws_differ_and_all_are_hidden_at_some_time() -> None:
    source = SeenPart(LINES, 0.4)
    drawn = [source.make(MATRIX, seed, None) for seed in range(40)]
    assert len(set(drawn)) > 5
    seen_always = np.logical_and.reduce([mask.positions for mask in drawn])
    assert np.flatnonzero(seen_always).tolist() == [8, 9, 10, 11]
    assert SeenPart(LINES, 0.5).fingerprint != source.fingerprint


def test_the_network_never_sees_what_judges_it(network: VarNet) -> None:
    seen = SeenPart(LINES, 0.4).make(MATRIX, 0, None)
    hidden = LINES.tensor() & ~seen.tensor()
    kspace = noise().requires_grad_(True)
    network.coil_images(kspace, seen).abs().sum().backward()
    assert kspace.grad is not None
    assert not torch.where(hidden, kspace.grad.abs(), 0.0).any()
    assert torch.where(seen.tensor(), kspace.grad.abs(), 0.0).any()
    # Other hidden lines change the judgement, and not the prediction that is judged.
    other = torch.where(hidden, noise(1), noise())
    predicted = network.coil_images(other, seen)
    assert torch.equal(predicted, network.coil_images(noise(), seen))
    assert not torch.equal(
        held_out_loss(network, other, seen, LINES), held_out_loss(network, noise(), seen, LINES)
    )


def test_what_was_not_acquired_is_not_looked_at(network: VarNet) -> None:
    seen = SeenPart(LINES, 0.4).make(MATRIX, 0, None)
    absent = ~LINES.tensor()
    filled = torch.where(absent, torch.full((), torch.nan, dtype=torch.complex64), noise())
    torch.testing.assert_close(
        held_out_loss(network, filled, seen, LINES), held_out_loss(network, noise(), seen, LINES)
    )


def test_the_loss_is_the_published_one(network: VarNet) -> None:
    """Relative l2 and l1 over the hidden lines, in NumPy with its own transform."""
    seen = SeenPart(LINES, 0.4).make(MATRIX, 0, None)
    kspace = noise()
    images = network.coil_images(kspace, seen).numpy()
    axes = (-2, -1)
    shifted = np.fft.ifftshift(images, axes=axes)
    predicted = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=axes)
    lines = LINES.positions & ~seen.positions
    expected = []
    for ours, theirs in zip(kspace.numpy()[..., lines], predicted[..., lines], strict=True):
        missed, measured = (ours - theirs).ravel(), ours.ravel()
        expected.append(
            np.linalg.norm(missed) / np.linalg.norm(measured)
            + np.abs(missed).sum() / np.abs(measured).sum()
        )
    loss = held_out_loss(network, kspace, seen, LINES)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-4)


def test_an_empty_slice_is_no_division_by_zero(network: VarNet) -> None:
    seen = SeenPart(LINES, 0.4).make(MATRIX, 0, None)
    assert torch.equal(
        held_out_loss(network, torch.zeros_like(noise()), seen, LINES), torch.zeros(2)
    )


def test_too_little_to_hide() -> None:
    block = Mask(np.isin(np.arange(20), (8, 9, 10, 11, 15)), (4,))
    with pytest.raises(BadInputError, match=r"1 positions.*at least 2"):
        SeenPart(block, 0.4).make(MATRIX, 0, None)
    with pytest.raises(BadInputError, match="another matrix"):
        SeenPart(LINES, 0.4).make((24, 22), 0, None)


def write_acquired(folder: Path, name: str, subject: str, seed: int, mask: Mask) -> None:
    write_ellipses(folder / "full.h5", subject, seed, MATRIX)
    scan = read_scan(folder / "full.h5")
    scan = replace(
        scan,
        name=name,
        kspace=Stack.of(mask.apply(scan.kspace[:])),
        acquired=torch.from_numpy(mask.positions.copy()),
        target=None,
        maximum=None,
    )
    write_scan(scan, folder / name)
    (folder / "full.h5").unlink()


def test_undersampled_scans_open_without_targets(tmp_path: Path) -> None:
    for seed in range(3):
        write_acquired(tmp_path, f"{seed}.h5", f"s{seed}", seed, LINES)
    cohort = open_scans_to_adapt_to(tmp_path, 0.3, 0)
    assert (len(cohort.training), len(cohort.validation)) == (2, 1)
    for scan in cohort.scans:
        assert not scan.fully_sampled
        assert scan.target is not None
        assert not scan.target[:].any()


def test_scans_of_both_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="nothing to train on"):
        open_scans_to_adapt_to(tmp_path, 0.3, 0)
    write_acquired(tmp_path, "a.h5", "a", 0, LINES)
    write_ellipses(tmp_path / "b.h5", "b", 1, MATRIX)
    with pytest.raises(BadInputError, match="1 of 2 fully sampled"):
        open_scans_to_adapt_to(tmp_path, 0.3, 0)
    (tmp_path / "b.h5").unlink()
    with pytest.raises(BadInputError, match="too few subjects"):
        open_scans_to_adapt_to(tmp_path, 0.3, 0)
