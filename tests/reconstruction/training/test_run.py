"""Trainings from configuration to exported network."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adaptmr.data.manifest import MANIFEST, sha256
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.unet import UNetConfig
from adaptmr.reconstruction.networks.varnet import VarNetConfig
from adaptmr.reconstruction.training.cohort import Cohort, open_scans
from adaptmr.reconstruction.training.config import SeededSchedule, TrainConfig
from adaptmr.reconstruction.training.data import Material
from adaptmr.reconstruction.training.run import train, train_network
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.informed import DrawRule
from adaptmr.sampling.sources import FixedMask, UncertaintyDraws

MASKS = (
    MaskSpec(kind=MaskKind.RANDOM, acceleration=2, center_fraction=0.2),
    MaskSpec(kind=MaskKind.EQUISPACED_FRACTION, acceleration=3, center_fraction=0.2),
)
VARNET = VarNetConfig(cascades=2, channels=4, pools=2, map_channels=4, map_pools=2)


def config(folder: Path, **changes: object) -> TrainConfig:
    values = {
        "data": folder,
        "architecture": VARNET,
        "masks": MASKS,
        "epochs": 3,
        "batch_size": 2,
        "learning_rate": 3e-3,
        "learning_rate_step": 2,
        "validation_fraction": 0.3,
        "accelerator": "cpu",
    }
    return TrainConfig.model_validate(values | changes)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder).state_dict()


def assert_same(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)


@pytest.mark.parametrize("architecture", [VARNET, UNetConfig(channels=4, pools=2)])
def test_a_network_learns_and_is_exported_with_its_history(
    scans_folder: Path, tmp_path: Path, architecture: VarNetConfig | UNetConfig
) -> None:
    out = train(config(scans_folder, architecture=architecture, epochs=6), tmp_path / "net")
    assert checkpoint.load(out).config == architecture
    provenance = checkpoint.provenance(out)
    curve = provenance["curve"]
    assert [entry["epoch"] for entry in curve] == list(range(6))
    assert curve[-1]["loss"] < curve[0]["loss"]
    best = min(curve, key=lambda entry: entry["validation_loss"])
    assert provenance["epoch"] == best["epoch"]
    data = provenance["data"]
    assert not set(data["training_subjects"]) & set(data["validation_subjects"])
    assert provenance["config"]["masks"][0]["kind"] == "random"
    run = tmp_path / "net.run"
    (log,) = run.glob("logs/*/metrics.csv")
    rows = list(csv.DictReader(log.read_text().splitlines()))
    assert float(rows[-1]["loss"]) == pytest.approx(curve[-1]["loss"], rel=1e-5)
    assert list(run.glob("tensorboard/*/events*"))


def test_the_same_seed_gives_the_same_weights(scans_folder: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train(config(scans_folder, epochs=2), tmp_path / "first")
    torch.rand(3)
    train(config(scans_folder, epochs=2), tmp_path / "second")
    assert_same(tmp_path / "first", tmp_path / "second")
    train(config(scans_folder, epochs=2, seed=1), tmp_path / "other")
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "first", tmp_path / "other")
    torch.set_rng_state(before)


def test_a_stopped_training_continues_as_if_it_had_not_stopped(
    scans_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptmr.reconstruction.training import module

    train(config(scans_folder, epochs=4), tmp_path / "whole")
    step = module.ReconstructionTraining.training_step

    def failing(self: module.ReconstructionTraining, batch: module.Batch, index: int) -> object:
        if self.current_epoch == 2 and index == 1:
            raise RuntimeError("power cut")
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(module.ReconstructionTraining, "training_step", failing)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config(scans_folder, epochs=4), tmp_path / "stopped")
    assert not (tmp_path / "stopped").exists()
    train(config(scans_folder, epochs=4), tmp_path / "stopped")
    assert_same(tmp_path / "whole", tmp_path / "stopped")
    whole, stopped = (checkpoint.provenance(tmp_path / name) for name in ("whole", "stopped"))
    assert whole == stopped


def test_a_finished_training_continues_for_more_epochs(scans_folder: Path, tmp_path: Path) -> None:
    train(config(scans_folder, epochs=1), tmp_path / "net")
    train(config(scans_folder, epochs=3), tmp_path / "net", overwrite=True)
    train(config(scans_folder, epochs=3), tmp_path / "whole")
    assert_same(tmp_path / "net", tmp_path / "whole")


def test_another_configuration_does_not_continue_a_stopped_training(
    scans_folder: Path, tmp_path: Path
) -> None:
    train(config(scans_folder, epochs=1), tmp_path / "net")
    with pytest.raises(UsageError, match=r"field 'batch_size'.*--no-resume"):
        train(config(scans_folder, batch_size=1), tmp_path / "net", overwrite=True)
    next(scans_folder.glob("a1.h5")).unlink()
    with pytest.raises(UsageError, match=r"field 'data'"):
        train(config(scans_folder, epochs=2), tmp_path / "net", overwrite=True)
    train(config(scans_folder, epochs=1), tmp_path / "net", overwrite=True, resume=False)
    train(config(scans_folder, epochs=1), tmp_path / "afresh")
    assert_same(tmp_path / "net", tmp_path / "afresh")


def test_an_existing_output_is_refused_before_training(scans_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    with pytest.raises(BadInputError, match="exists already"):
        train(config(scans_folder), tmp_path / "net")
    assert not (tmp_path / "net.run").exists()


def test_a_loss_that_is_not_a_number_is_an_error_that_names_the_slice(
    scans_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=r"h5, slice \d.*loss is not a number.*epoch"):
        train(config(scans_folder, learning_rate=1e30), tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_without_validation_the_last_epoch_is_exported(scans_folder: Path, tmp_path: Path) -> None:
    out = train(config(scans_folder, epochs=2, validation_fraction=0), tmp_path / "net")
    provenance = checkpoint.provenance(out)
    assert provenance["epoch"] == 1
    assert provenance["data"]["validation_subjects"] == []
    assert json.loads((out / "network.json").read_text())["provenance"] == provenance


def test_a_training_starts_from_another_network(scans_folder: Path, tmp_path: Path) -> None:
    first = train(config(scans_folder), tmp_path / "first")
    still = config(scans_folder, initial=first, epochs=1, learning_rate=1e-12)
    second = train(still, tmp_path / "second")
    ours, theirs = weights(first), weights(second)
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-5, atol=1e-7)
    initial = checkpoint.provenance(second)["initial"]
    assert initial == sha256(first / MANIFEST)
    other = train(config(scans_folder, seed=1, epochs=1), tmp_path / "other")
    with pytest.raises(UsageError, match="field 'initial'"):
        train(still.model_copy(update={"initial": other}), tmp_path / "second", overwrite=True)
    wrong = still.model_copy(update={"architecture": UNetConfig(channels=4, pools=2)})
    with pytest.raises(BadInputError, match="another architecture"):
        train(wrong, tmp_path / "third")


def test_masks_come_from_any_source(scans_folder: Path, tmp_path: Path) -> None:
    scans = tuple(scan for scan in open_scans(scans_folder) if scan.matrix == (24, 20))
    mask = make_mask(MASKS[0], (24, 20), seed=5)
    values = torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(0))
    sources = (FixedMask(mask), UncertaintyDraws(values, Frame.of_mask(mask), DrawRule()))
    material = Material(Cohort(scans[:2], scans[2:], "some"), sources)
    schedule = SeededSchedule(epochs=1, accelerator="cpu")
    paths = [tmp_path / name for name in ("net", "net.run")]
    train_network(VARNET, schedule, material, *paths)
    assert checkpoint.provenance(paths[0])["data"]["fingerprint"] == "some"
    with pytest.raises(UsageError, match=r"field 'masks'.*--no-resume"):
        train_network(
            VARNET, schedule, replace(material, masks=sources[:1]), *paths, overwrite=True
        )
