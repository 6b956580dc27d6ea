"""Joint trainings from configuration to exported network and masks."""

from pathlib import Path

import pytest
import torch
from learned_reference import TINY, complex_normal, write_stripes

from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.learned import joint
from adaptmr.reconstruction.learned.loupe import LoupeConfig
from adaptmr.reconstruction.learned.policy import PolicyConfig
from adaptmr.reconstruction.learned.training import LearnConfig, train_jointly
from adaptmr.sampling.generators import MaskKind, MaskSpec

LINES = MaskSpec(kind=MaskKind.RANDOM, acceleration=3, center_fraction=0.17)
POINTS = MaskSpec(kind=MaskKind.RANDOM_2D, acceleration=3, center_fraction=0.17)
LOUPE, POLICY = LoupeConfig(), PolicyConfig(channels=4, pools=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    write_stripes(tmp_path / "data")
    return tmp_path / "data"


def config(folder: Path, **changes: object) -> LearnConfig:
    values = {
        "data": folder,
        "architecture": TINY,
        "learner": LOUPE,
        "masks": (LINES,),
        "epochs": 3,
        "batch_size": 2,
        "learning_rate": 3e-3,
        "learning_rate_step": 2,
        "validation_fraction": 0.3,
        "accelerator": "cpu",
    }
    return LearnConfig.model_validate(values | changes)


def assert_same(first: Path, second: Path) -> None:
    ours, theirs = (joint.load(folder).state_dict() for folder in (first, second))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("learner", [LOUPE, POLICY], ids=["loupe", "policy"])
@pytest.mark.parametrize("masks", [LINES, POINTS], ids=["lines", "points"])
def test_network_and_masks_learn_together(
    folder: Path, tmp_path: Path, learner: LoupeConfig | PolicyConfig, masks: MaskSpec
) -> None:
    asked = config(folder, learner=learner, masks=(masks,), epochs=4)
    learned = joint.load(train_jointly(asked, tmp_path / "learned"))
    first = joint.build(TINY, learner, learned.learner.frame, asked.seed)
    for part in ("network", "learner"):
        before, after = (getattr(one, part).state_dict() for one in (first, learned))
        assert not all(torch.equal(before[name], after[name]) for name in before)
    assert learned.masks(complex_normal((1, 1, 24, 24)))[0].budget == learned.learner.frame.budget
    provenance = joint.provenance(tmp_path / "learned")
    assert provenance["config"]["learner"]["kind"] == learner.kind
    assert [entry["epoch"] for entry in provenance["curve"]] == list(range(4))
    best = min(provenance["curve"], key=lambda entry: entry["validation_loss"])
    assert provenance["epoch"] == best["epoch"]


@pytest.mark.parametrize("learner", [LOUPE, POLICY], ids=["loupe", "policy"])
def test_a_seed_says_it_all_and_a_stopped_training_continues(
    folder: Path, tmp_path: Path, learner: LoupeConfig | PolicyConfig
) -> None:
    before = torch.get_rng_state()
    train_jointly(config(folder, learner=learner), tmp_path / "whole")
    torch.rand(3)
    train_jointly(config(folder, learner=learner, epochs=1), tmp_path / "parts")
    train_jointly(config(folder, learner=learner), tmp_path / "parts", overwrite=True)
    assert_same(tmp_path / "whole", tmp_path / "parts")
    train_jointly(config(folder, learner=learner, seed=1), tmp_path / "other")
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "whole", tmp_path / "other")
    torch.set_rng_state(before)


def test_another_learner_does_not_continue_a_training(folder: Path, tmp_path: Path) -> None:
    train_jointly(config(folder, epochs=1), tmp_path / "learned")
    with pytest.raises(UsageError, match=r"field 'learner'.*--no-resume"):
        train_jointly(config(folder, learner=POLICY), tmp_path / "learned", overwrite=True)


def test_scans_of_several_sizes_have_no_common_mask(folder: Path, tmp_path: Path) -> None:
    write_stripes(folder, "d", matrix=(24, 22))
    with pytest.raises(BadInputError, match=r"d\.h5.*one matrix and padding.*crop the scans"):
        train_jointly(config(folder), tmp_path / "learned")


def test_a_block_is_needed_and_must_leave_something(folder: Path, tmp_path: Path) -> None:
    none = LINES.model_copy(update={"center_fraction": 0.0})
    with pytest.raises(BadInputError, match="without a low-frequency block"):
        train_jointly(config(folder, masks=(none,)), tmp_path / "learned")
    large = LINES.model_copy(update={"center_fraction": 0.4})
    with pytest.raises(UsageError, match="nothing to choose"):
        train_jointly(config(folder, masks=(large,)), tmp_path / "learned")
    assert not (tmp_path / "learned.run").exists()


def test_masks_are_learned_for_one_budget_at_a_time(folder: Path) -> None:
    with pytest.raises(ValueError, match="at most 1 item"):
        config(folder, masks=(LINES, POINTS))
