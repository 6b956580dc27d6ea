"""LOUPE and policy together with a network: what they see, what they learn, how they are kept."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learned_reference import TINY, complex_normal, few_lines, learn, stripes

from adaptmr.data.manifest import write_manifest
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.learned import joint
from adaptmr.reconstruction.learned.diagnostics import adaptivity, collapsed, variation
from adaptmr.reconstruction.learned.joint import LearnedReconstruction
from adaptmr.reconstruction.learned.loupe import Loupe, LoupeConfig
from adaptmr.reconstruction.learned.policy import Policy, PolicyConfig
from adaptmr.reconstruction.networks.unet import UNetConfig
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.low_frequency import acquire
from adaptmr.sampling.training import generator_for

SMALL = PolicyConfig(channels=4, pools=2)
LINES = Frame.of((16, 20), (4,), 2.5)
POINTS = Frame.of((16, 20), (4, 5), 4)


def made(frame: Frame, learner: LoupeConfig | PolicyConfig, seed: int = 0) -> LearnedReconstruction:
    """With weights that are all different from zero, so that everything counts."""
    learned = joint.build(TINY, learner, frame, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in learned.learner.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return learned


@pytest.mark.parametrize("frame", [LINES, POINTS], ids=["lines", "points"])
def test_at_first_all_inputs_have_one_mask_and_the_policy_is_told_to_be_collapsed(
    frame: Frame,
) -> None:
    learned = joint.build(TINY, SMALL, frame, 0)
    masks = learned.masks(complex_normal((3, 2, 16, 20)))
    assert adaptivity(masks) == 0
    assert collapsed(masks)
    loupe = joint.build(TINY, LoupeConfig(), frame, 0).learner
    assert isinstance(loupe, Loupe)
    assert loupe.mask() == masks[0]


@given(
    rows=st.integers(7, 21),
    columns=st.integers(9, 21),
    points=st.booleans(),
    coils=st.integers(1, 3),
    seed=st.integers(0, 9),
)
@settings(max_examples=20, deadline=None)
def test_policies_take_any_size_and_meet_the_budget(
    rows: int, columns: int, points: bool, coils: int, seed: int
) -> None:
    frame = Frame.of((rows, columns), (3, 2) if points else (3,), 2, None)
    learned = made(frame, SMALL, seed)
    kspace = complex_normal((2, coils, rows, columns), seed)
    low = learned.acquire(kspace)
    masks = learned.learner.masks(low)
    assert [mask.budget for mask in masks] == [frame.budget] * 2
    assert all(mask.low_frequency == frame.low_frequency for mask in masks)
    assert masks[0].provenance == {"generator": "policy", "input": low.fingerprints[0]}
    policy = learned.learner
    assert isinstance(policy, Policy)
    assert policy.select(low[1:]) == masks[1]
    # Brighter images are no other images.
    assert learned.masks(4 * kspace) == masks


@pytest.mark.parametrize("frame", [LINES, POINTS], ids=["lines", "points"])
def test_only_low_frequency_data_reach_the_policy(frame: Frame) -> None:
    learned = made(frame, SMALL)
    kspace = complex_normal((3, 2, 16, 20))
    block = torch.from_numpy(frame.block_only.positions.copy())
    for other in (
        complex_normal(tuple(kspace.shape), 5),
        torch.full_like(kspace, float("nan")),
    ):
        changed = torch.where(block, kspace, other)
        assert torch.equal(
            learned.learner(learned.acquire(kspace)), learned.learner(learned.acquire(changed))
        )
        assert learned.masks(changed) == learned.masks(kspace)
    # Inside the block, data do count.
    assert variation(learned.learner(learned.acquire(kspace)), frame) > 0


@pytest.mark.parametrize("frame", [LINES, POINTS], ids=["lines", "points"])
@pytest.mark.parametrize("config", [LoupeConfig(), SMALL], ids=["loupe", "policy"])
def test_nothing_outside_the_mask_reaches_the_image(
    frame: Frame, config: LoupeConfig | PolicyConfig
) -> None:
    learned = made(frame, config)
    kspace = complex_normal((3, 2, 16, 20))
    masks = learned.masks(kspace)
    hidden = torch.stack([mask.apply(one) for mask, one in zip(masks, kspace, strict=True)])
    taken = torch.stack([mask.tensor().expand(16, 20) for mask in masks])[:, None]
    image = learned(kspace)
    for changed in (hidden, torch.where(taken, kspace, -kspace)):
        assert torch.equal(learned(changed), image)
    alone = torch.cat([learned(one[None]) for one in kspace])
    assert torch.allclose(alone, image, atol=1e-5)


@pytest.mark.parametrize("frame", [LINES, POINTS], ids=["lines", "points"])
@pytest.mark.parametrize("config", [LoupeConfig(), SMALL], ids=["loupe", "policy"])
def test_training_images_are_those_under_the_drawn_masks_and_leak_no_sign(
    frame: Frame, config: LoupeConfig | PolicyConfig
) -> None:
    learned = made(frame, config).double()
    kspace = complex_normal((2, 2, 16, 20), dtype=torch.complex128)
    before = torch.get_rng_state()
    image = learned.training_image(kspace, generator_for(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(image, learned.training_image(kspace, generator_for(3)))
    assert not torch.equal(image, learned.training_image(kspace, generator_for(4)))
    drawn = joint.draw(learned.learner(learned.acquire(kspace)), frame, generator_for(3))
    masks = [joint.as_mask(one, frame) for one in drawn.expand(2, *drawn.shape[1:])]
    expected = [
        learned.network(one[None], mask)[0] for one, mask in zip(kspace, masks, strict=True)
    ]
    assert torch.allclose(image, torch.stack(expected), rtol=1e-9)
    taken = torch.stack([mask.tensor().expand(16, 20) for mask in masks])[:, None]
    flipped = torch.where(taken, kspace, -kspace)
    assert torch.equal(learned.training_image(flipped, generator_for(3)), image)


@pytest.mark.parametrize("frame", [LINES, POINTS], ids=["lines", "points"])
@pytest.mark.parametrize("network", [TINY, UNetConfig(channels=4, pools=2)], ids=["varnet", "unet"])
def test_the_gradient_reaches_positions_that_were_not_taken(
    frame: Frame, network: UNetConfig
) -> None:
    learned = joint.build(network, LoupeConfig(), frame, 0)
    kspace = complex_normal((2, 2, 16, 20))
    learned.training_image(kspace, generator_for(1)).square().mean().backward()
    gradient = next(learned.learner.parameters()).grad
    assert gradient is not None
    candidates = torch.from_numpy(frame.candidates)
    assert bool((gradient[candidates] != 0).all())
    assert bool((gradient[~candidates] == 0).all())


def test_the_gradient_through_the_network_is_that_of_its_input() -> None:
    """The derivative by a position's mask value is that of scaling what is measured there."""
    learned = made(LINES, LoupeConfig()).double()
    network = learned.network
    kspace = complex_normal((1, 2, 16, 20), dtype=torch.complex128)
    with torch.no_grad():
        drawn = joint.draw(learned.learner(), LINES, generator_for(0))
    mask = joint.as_mask(drawn[0], LINES)
    drawn.requires_grad_()
    network.from_measured(joint.measured(kspace, drawn), mask).square().sum().backward()
    assert drawn.grad is not None
    step = 1e-6
    for line in range(20):
        change = torch.zeros_like(drawn)
        change[0, line] = step
        with torch.no_grad():
            more, less = (
                network.from_measured(kspace * (drawn + sign * change)[:, None, None], mask)
                .square()
                .sum()
                for sign in (1, -1)
            )
        expected = float((more - less) / (2 * step))
        assert float(drawn.grad[0, line]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_loupe_finds_the_lines_that_hold_the_signal() -> None:
    useful = [3, 7, 18, 21]
    frame = Frame.of((24, 24), (4,), 3)
    learned = joint.build(UNetConfig(channels=4, pools=1), LoupeConfig(), frame, 0)
    learn(learned, few_lines(16, 24, useful, 0), steps=120)
    learner = learned.learner
    assert isinstance(learner, Loupe)
    assert set(useful) <= set(learner.mask().lines())


@pytest.mark.slow
def test_a_policy_tells_two_families_of_texture_apart() -> None:
    frame = Frame.of((32, 32), (6, 6), 4)
    learned = joint.build(TINY, PolicyConfig(channels=8, pools=2), frame, 0)
    train, _ = stripes(64, 32, 0)
    held_out, families = stripes(24, 32, 1)
    learn(learned, train, steps=150)
    masks = learned.masks(held_out)
    lying = [mask for mask, stands in zip(masks, families, strict=True) if not stands]
    standing = [mask for mask, stands in zip(masks, families, strict=True) if stands]
    # What the diagnostic says is what the masks show.
    assert not collapsed(masks)
    assert adaptivity(masks) > 2 * max(adaptivity(lying), adaptivity(standing))
    assert variation(learned.learner(learned.acquire(held_out)), frame) > 0.01

    # Stripes that run along the rows have their energy along the first axis of k-space.
    def upright(mask) -> int:
        return int(mask.positions[:, 11:21].sum()) - int(mask.positions[11:21].sum())

    assert min(map(upright, standing)) > max(map(upright, lying))


@pytest.mark.parametrize("config", [LoupeConfig(slope=5), SMALL], ids=["loupe", "policy"])
def test_what_was_learned_comes_back_bit_by_bit(
    config: LoupeConfig | PolicyConfig, tmp_path: Path
) -> None:
    frame = Frame.of((16, 20), (4,), 2.5, padding=(1, 19))
    learned = made(frame, config)
    joint.save(learned, tmp_path / "learned", {"note": "test"})
    loaded = joint.load(tmp_path / "learned")
    kspace = complex_normal((2, 2, 16, 20))
    assert loaded.masks(kspace) == learned.masks(kspace)
    assert torch.equal(loaded(kspace), learned.eval()(kspace))
    assert loaded.learner.config == config
    assert not loaded.training
    assert joint.provenance(tmp_path / "learned") == {"note": "test"}
    with pytest.raises(BadInputError, match="exists"):
        joint.save(learned, tmp_path / "learned", {})


def test_damaged_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "learned"
    with pytest.raises(BadInputError, match="manifest is missing"):
        joint.load(folder)
    joint.save(made(LINES, LoupeConfig()), folder, {})
    file = folder / "learned.json"
    text = file.read_text()
    file.write_text(text.replace('"budget": 8', '"budget": 9'))
    with pytest.raises(BadInputError, match="altered"):
        joint.load(folder)
    newer = json.loads(text) | {"schema_version": 2}
    file.write_text(json.dumps(newer))
    (folder / "manifest.json").unlink()
    write_manifest(folder)
    with pytest.raises(BadInputError, match=r"field 'schema_version'.*update adaptmr"):
        joint.load(folder)


def test_a_policy_refuses_data_of_another_scan() -> None:
    policy = made(LINES, SMALL).learner
    assert isinstance(policy, Policy)
    with pytest.raises(BadInputError, match=r"another matrix.*whole readout"):
        policy.select(acquire(complex_normal((1, 2, 16, 22)), (16, 4)))
    with pytest.raises(BadInputError, match="another matrix"):
        policy.select(acquire(complex_normal((1, 2, 16, 20)), (16, 5)))
    with pytest.raises(BadInputError, match="another matrix"):
        policy.select(acquire(complex_normal((1, 2, 16, 20)), (4, 4)))
    with pytest.raises(BadInputError, match="one slice"):
        policy.select(acquire(complex_normal((2, 2, 16, 20)), (16, 4)))


def test_a_slice_of_nothing_has_a_mask_too() -> None:
    learned = made(POINTS, SMALL)
    kspace = torch.zeros(1, 2, 16, 20, dtype=torch.complex64)
    assert learned.masks(kspace)[0].budget == POINTS.budget
    assert torch.isfinite(learned(kspace)).all()
