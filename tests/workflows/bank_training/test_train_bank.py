"""Banks from configuration to folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import torch
import yaml
from made_training import training, values
from pydantic import ValidationError
from safetensors.torch import load_file

from adaptmr.data.doors import open_scan
from adaptmr.data.pictures import open_pictures
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.bank import persistence
from adaptmr.reconstruction.bank.inference import reconstruct
from adaptmr.reconstruction.classical import ZeroFilled
from adaptmr.reconstruction.losses import pair_losses
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.sampling.loss_aware import LossAware
from adaptmr.sampling.protocol_prior import ProtocolPrior
from adaptmr.workflows.bank_training.run import train_bank, train_pair

Run = Callable[..., tuple[int, str, str]]
ALL: dict[str, Any] = {
    "refinement": {"kind": "surrogate", "draws": 2, "evaluations": 5, "slices": 3},
    "pairs": {"epochs": 2, "emphasis": 0.5, "accelerator": "cpu"},
    "em_rounds": 1,
    "selector": "loss-aware",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, scans: Path) -> Path:
    """A bank with everything that there is, trained without a stop."""
    out = tmp_path_factory.mktemp("trained") / "bank"
    train_bank(training(scans, **ALL), out)
    return out


def weights(network: Path) -> dict[str, torch.Tensor]:
    return load_file(network / "weights.safetensors")


def test_a_bank_reconstructs_unseen_scans(trained: Path, scans: Path) -> None:
    bank = persistence.load(trained)
    assert len(bank) == 2
    assert isinstance(bank.selector, LossAware)
    assert bank.calibration is not None
    assert bank.calibration.pooled.subjects == 9
    data: Any = bank.provenance["data"]
    parts = [set(data[f"{name}_subjects"]) for name in ("training", "selection", "calibration")]
    assert [len(part) for part in parts] == [4, 2, 9]
    assert len(set.union(*parts)) == 15
    assert set(bank.selector.subjects) == parts[1]
    losses: Any = bank.provenance["losses"]
    assert bank.masks.best == losses.index(min(losses))
    for index in range(2):
        history = checkpoint.provenance(trained / "networks" / str(index))
        assert set(history["data"]["training_subjects"]) == parts[0]
        assert set(history["data"]["validation_subjects"]) == parts[1]
        assert history["initial"]
    scan = open_scan(sorted((scans / "calibration").iterdir())[0])
    result = reconstruct(bank, scan)
    assert result.lower is not None
    assert result.upper is not None
    assert bool((result.lower[0] <= result.image[0]).all())
    assert bool((result.image[0] <= result.upper[0]).all())


def test_nothing_in_a_bank_tells_where_or_when_it_was_made(trained: Path, scans: Path) -> None:
    for file in trained.rglob("*.json"):
        text = file.read_text()
        assert str(scans) not in text
        assert str(trained.parent) not in text
        assert "latency" not in text
        assert "seconds" not in text


def test_the_same_training_again_gives_the_same_bank_at_once(trained: Path, scans: Path) -> None:
    before = persistence.fingerprint(trained)
    again = train_bank(training(scans, **ALL), trained)
    assert again.fingerprint == before
    assert {took.step for took in again.steps if took.reused} == {"hashes"}
    once_more = train_bank(training(scans, **ALL), trained, overwrite=True)
    assert once_more.fingerprint == before
    assert all(took.reused for took in once_more.steps)
    with pytest.raises(BadInputError, match="exists already"):
        train_bank(training(scans, **ALL, alpha=0.2), trained)


def test_a_change_recomputes_what_depends_on_it_alone(trained: Path, scans: Path) -> None:
    run = trained.with_name("bank.run")
    other = trained.with_name("other")
    changed = train_bank(training(scans, **ALL | {"selector": "prior"}), other, run=run)
    fresh = [took.step for took in changed.steps if not took.reused]
    assert fresh == ["selector", "calibration"]
    assert isinstance(persistence.load(other).selector, ProtocolPrior)
    names = ("masks", "networks", "sampler", "width")
    for name in names:
        for file in (trained / name).rglob("*.safetensors"):
            assert file.read_bytes() == (other / file.relative_to(trained)).read_bytes()


def test_another_run_gives_the_same_hashes(trained: Path, scans: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(scans, tmp_path / "copied")
    torch.rand(3)
    again = train_bank(training(elsewhere, **ALL), tmp_path / "again")
    assert again.fingerprint == persistence.fingerprint(trained)
    other = train_bank(training(scans, **ALL, seed=1), tmp_path / "other")
    assert other.fingerprint != again.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("fractions", [(0.35, 0.6, 0.9)])
def test_killed_and_continued_gives_the_same_hashes(
    trained: Path, scans: Path, tmp_path: Path, fractions: tuple[float, ...]
) -> None:
    config = tmp_path / "bank.yaml"
    config.write_text(yaml.safe_dump(values(scans, **ALL)))
    command = [sys.executable, "-m", "adaptmr.cli", "train", str(config), "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}

    def begin(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, str(out)], env=environment, stdout=subprocess.DEVNULL, stderr=sys.stderr
        )

    start = time.monotonic()
    assert begin(tmp_path / "whole").wait(300) == 0
    whole = time.monotonic() - start
    out = tmp_path / "killed"
    for fraction in fractions:
        process = begin(out)
        time.sleep(fraction * whole)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait(60)
            assert not out.exists() or persistence.load(out)
    assert begin(out).wait(300) == 0
    assert persistence.fingerprint(out) == persistence.fingerprint(tmp_path / "whole")
    assert persistence.fingerprint(out) == persistence.fingerprint(trained)


def test_pairs_can_be_trained_as_jobs(scans: Path, tmp_path: Path) -> None:
    config = training(scans, surrogate=None, width=None)
    out = tmp_path / "bank"
    first = train_pair(config, out, 1)
    assert [took.step for took in first.steps] == [
        *("hashes", "hashes", "sampler", "uncertainties", "masks", "network-1")
    ]
    assert not out.exists()
    second = train_pair(config, out, 0)
    assert [took.step for took in second.steps if not took.reused] == ["network-0"]
    trained = train_bank(config, out)
    assert [took.step for took in trained.steps if not took.reused] == ["losses", "selector"]
    for pair in (first, second):
        stored = weights(out / "networks" / str(pair.pair))
        ours = weights(pair.network)
        assert all(torch.equal(stored[name], ours[name]) for name in stored | ours)
    bank = persistence.load(out)
    assert bank.width is None
    assert bank.calibration is None
    with pytest.raises(UsageError, match=r"no such pair.*0 to 1"):
        train_pair(config, out, 2)


def test_networks_can_share_the_surrogates_coil_maps(scans: Path, tmp_path: Path) -> None:
    varnet = {"kind": "varnet", "cascades": 1, "channels": 4, "pools": 1}
    config = training(
        scans,
        architecture={**varnet, "map_channels": 4, "map_pools": 1},
        surrogate={"epochs": 1, "accelerator": "cpu"},
        pairs={"epochs": 1, "shared_maps": True, "accelerator": "cpu"},
        width=None,
    )
    steps = {took.step: took.folder for took in train_bank(config, tmp_path / "bank").steps}
    names = ("surrogate", "network-0", "network-1")
    surrogate, *ours = (weights(steps[name] / "network") for name in names)
    for name, value in surrogate.items():
        shared = [torch.equal(each[name], value) for each in ours]
        assert shared == [name.startswith("sensitivities.")] * 2 or not value.any()
    with pytest.raises(ValidationError, match="shared_maps needs"):
        training(scans, pairs={"shared_maps": True})


def test_pairs_can_be_small_changes_of_the_surrogate(scans: Path, tmp_path: Path) -> None:
    pairs = {"epochs": 1, "adapter": {"rank": 1}, "accelerator": "cpu", "learning_rate": 0.01}
    config = training(scans, pairs=pairs, width=None)
    steps = {took.step: took.folder for took in train_bank(config, tmp_path / "bank").steps}
    names = ("surrogate", "network-0", "network-1")
    surrogate, *ours = (weights(steps[name] / "network") for name in names)
    for own in ours:
        changes = {name: own[name] - value for name, value in surrogate.items()}
        assert any(change.any() for change in changes.values())
        for name, change in changes.items():
            if change.ndim > 1 and change.any():
                sizes = torch.linalg.svdvals(change.flatten(1).double())
                assert not (sizes[1:] > 1e-5).any(), name
    with pytest.raises(ValidationError, match="adapter needs"):
        training(scans, pairs={**pairs, "warm_start": False})


def test_points_refined_for_variance(scans: Path, tmp_path: Path) -> None:
    config = training(
        scans,
        positions="points",
        center_fraction=0.2,
        surrogate={"epochs": 1, "accelerator": "cpu"},
        refinement={"kind": "captured", "draws": 2, "evaluations": 5},
        calibration_fraction=0.3,
        selection_fraction=0,
        data={"kind": "scans", "folder": scans / "calibration"},
    )
    train_bank(config, tmp_path / "bank")
    bank = persistence.load(tmp_path / "bank")
    assert bank.masks.axes == 2
    data: Any = bank.provenance["data"]
    assert data["selection_subjects"] == []
    assert len(data["calibration_subjects"]) == 3
    assert bank.calibration is not None
    assert bank.calibration.pooled.factor is None  # three subjects are too few for ten per cent


def test_subjects_are_kept_apart(scans: Path, tmp_path: Path) -> None:
    both = {"kind": "scans", "folder": scans / "train", "calibration": scans / "train"}
    with pytest.raises(BadInputError, match="both trained and calibrated on"):
        train_bank(training(scans, data=both), tmp_path / "bank")
    with pytest.raises(BadInputError, match=r"field 'selection_fraction'.*too few subjects"):
        train_bank(training(scans, selection_fraction=0.99), tmp_path / "bank")


def test_from_the_command_line(run: Run, scans: Path, tmp_path: Path) -> None:
    config = tmp_path / "bank.yaml"
    config.write_text(yaml.safe_dump(values(scans, surrogate=None, width=None)))
    out = tmp_path / "bank"
    code, text, _ = run("train", config, "--out", out, "--pair", "1")
    assert code == 0
    assert "The network of pair 1 is in" in text
    code, text, _ = run("train", config, "--out", out, "--json")
    assert code == 0
    result: dict[str, Any] = json.loads(text)
    assert result["fingerprint"] == persistence.fingerprint(out)
    assert {took["step"]: took["reused"] for took in result["steps"]}["network-1"] is True
    code, _, err = run("train", config, "--out", tmp_path / "other", "--pair", "5")
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = run("train", config, "--preset", "demo", "--out", out)
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = run("train", "--out", out)
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = run("train", config, "--data", scans, "--out", out)
    assert (code, err.count("\n")) == (2, 1)
    config.write_text(yaml.safe_dump(values(scans, em_round=1)))
    code, _, err = run("train", config, "--out", out)
    assert (code, err.count("\n")) == (3, 1)
    assert "Did you mean 'em_rounds'?" in err
    config.write_text(yaml.safe_dump(values(scans, selector="closest")))
    code, _, err = run("train", config, "--out", out)
    assert (code, err.count("\n")) == (3, 1)
    assert "nearest, cosine" in err
    assert "loss-aware, prior" in err
    assert training(scans, data=str(scans)).data == training(scans).data


def test_photographs_stand_in_for_scans(tmp_path: Path) -> None:
    names = "astronaut brick camera cell chelsea coffee coins grass gravel horse moon page text"
    for number, name in enumerate(names.split()):
        part = "train" if number % 3 else "calibration"
        (tmp_path / "photographs" / part).mkdir(parents=True, exist_ok=True)
        photograph = Path(skimage.data.__file__).with_name(f"{name}.png")
        shutil.copy(photograph, tmp_path / "photographs" / part)
    config = training(
        tmp_path,
        data={"kind": "pictures", "folder": tmp_path / "photographs", "matrix": (48, 48)},
        positions="points",
        selection_fraction=0,
        sampler={"kind": "mixture", "components": 1, "factors": 3, "noise_prior": 1.0},
        architecture={"kind": "unet", "channels": 8, "pools": 2},
        surrogate={"epochs": 20, "learning_rate": 3e-3, "accelerator": "cpu"},
    )
    train_bank(config, tmp_path / "bank")
    bank = persistence.load(tmp_path / "bank")
    unseen = open_pictures(tmp_path / "photographs" / "calibration", (48, 48))
    losses = pair_losses(list(bank.networks), bank.masks.masks, unseen)
    zero_filled = pair_losses([ZeroFilled()] * 2, bank.masks.masks, unseen)
    assert bool((losses.mean(0) < zero_filled.mean(0)).all())
    assert len(reconstruct(bank, unseen[0]).decisions) == 1
