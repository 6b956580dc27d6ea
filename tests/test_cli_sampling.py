"""The commands of sampling as a user meets them, from a folder of scans to a mask."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from adaptmr.data.doors import open_scan
from adaptmr.data.fastmri import write_scan
from adaptmr.data.manifest import sha256
from adaptmr.data.simulation import SimulationConfig, simulate
from adaptmr.sampling import bank as banks
from adaptmr.sampling.bank import BankConfig
from adaptmr.sampling.decision import read_decisions
from adaptmr.sampling.frame import Positions
from adaptmr.sampling.low_frequency import block_region
from adaptmr.sampling.mixture import MixtureConfig
from adaptmr.sampling.selection import UncertaintyConfig
from adaptmr.workflows.sampling import TrainSamplerConfig, build_bank, train_sampler

MATRIX = (48, 40)
LINES_BLOCK = (48, 4)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small simulated scans."""
    folder = tmp_path_factory.mktemp("sampling") / "scans"
    config = SimulationConfig(subjects=3, seed=5, matrix=MATRIX, slices=3, coils=3)
    assert len(list(simulate(config, folder))) == 3
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, scans: Path) -> Path:
    """Samplers and banks of lines and of points: ``lines``, ``lines-bank``, ..."""
    folder = tmp_path_factory.mktemp("made")
    files = sorted(scans.iterdir())
    for positions in Positions:
        config = TrainSamplerConfig(
            data=scans,
            positions=positions,
            center_fraction=0.1 if positions is Positions.LINES else 0.2,
            sampler=MixtureConfig(components=2, factors=3, noise_prior=1.0, iterations=5),
            validation_fraction=0.0,
        )
        sampler = train_sampler(config, folder / positions)
        build_bank(
            files,
            sampler,
            folder / f"{positions}-bank",
            positions,
            4.0,
            BankConfig(masks=2),
            UncertaintyConfig(),
        )
    return folder


@pytest.fixture
def scan(scans: Path) -> Path:
    """One of the scans."""
    return sorted(scans.iterdir())[0]


def without_latency(file: Path) -> list[dict[str, object]]:
    return [decision.choice for decision in read_decisions(file).decisions]


def test_from_scans_to_a_line_list(run: Run, tmp_path: Path, scans: Path, scan: Path) -> None:
    config = tmp_path / "sampler.yaml"
    config.write_text(
        f"data: {scans}\ncenter_fraction: 0.1\nvalidation_fraction: 0.4\n"
        "sampler: {kind: mixture, components: 2, factors: 3, iterations: 5}\n"
    )
    sampler, bank, out = (tmp_path / name for name in ("sampler", "bank", "choice"))
    code, text, _ = run("train", config, "--only", "sampler", "--out", sampler, "--json")
    assert (code, json.loads(text)) == (0, {"sampler": str(sampler)})

    code, text, _ = run(
        "masks", "build", "--sampler", sampler, "--scans", scans, "--acceleration", "4",
        "--kind", "lines", "-J", "2", "--out", bank, "--json",
    )  # fmt: skip
    built: dict[str, Any] = json.loads(text)
    assert code == 0
    assert (built["acceleration"], built["budget"], sum(built["populations"])) == (4.0, 10, 9)

    code, text, _ = run(
        "select", scan, "--sampler", sampler, "--bank", bank, "--out", out, "--json"
    )
    assert code == 0
    chosen: dict[str, Any] = json.loads(text)
    decisions = read_decisions(Path(chosen["file"])).decisions
    assert chosen["decisions"]["scan"] == scan.name
    assert [decision.slice_index for decision in decisions] == [0, 1, 2]
    loaded = banks.load(bank)
    for decision, lines, picture in zip(
        decisions, chosen["lines"], chosen["pictures"], strict=True
    ):
        assert decision.distances is not None
        assert decision.index == int(np.argmin(decision.distances))
        assert decision.bank == built["fingerprint"] == loaded.fingerprint
        assert decision.sampler == sha256(sampler / "manifest.json")
        listed = [int(line) for line in Path(lines).read_text().split()]
        assert listed == loaded.masks[decision.index].lines()
        assert len(listed) == 10
        assert {18, 19, 20, 21} <= set(listed)  # the block
        with Image.open(picture) as image:
            assert np.asarray(image.convert("L")).std() > 10
    # Once more, for people: the same choices.
    again = tmp_path / "again"
    code, text, _ = run("select", scan, "--sampler", sampler, "--bank", bank, "--out", again)
    assert code == 0
    assert scan.name in text
    assert without_latency(again / "decision.json") == without_latency(out / "decision.json")


def test_uncertainty(run: Run, tmp_path: Path, made: Path, scan: Path) -> None:
    out = tmp_path / "uncertainty"
    code, text, _ = run(
        "uncertainty", scan, "--sampler", made / "lines", "--samples", "4", "--out", out, "--json"
    )
    assert code == 0
    found: dict[str, Any] = json.loads(text)
    assert [one["usable"] for one in found["slices"]] == [4, 4, 4]
    for one in found["slices"]:
        with Image.open(one["picture"]) as image:
            assert np.asarray(image.convert("L")).std() > 10
    values = load_file(found["values"])["uncertainty"]
    assert tuple(values.shape) == (3, *MATRIX)
    torch.testing.assert_close(values.flatten(1).norm(dim=1), torch.ones(3))
    rows, columns = block_region(MATRIX, LINES_BLOCK)
    assert not values[:, rows, columns].any()


@pytest.mark.parametrize("positions", list(Positions))
def test_nothing_outside_the_block_is_looked_at(
    run: Run, tmp_path: Path, made: Path, scan: Path, positions: Positions
) -> None:
    sampler, bank = made / positions, made / f"{positions}-bank"
    block = LINES_BLOCK if positions is Positions.LINES else (10, 8)
    files = {"as it is": scan}
    for name in ("outside", "inside"):
        files[name] = tmp_path / name / scan.name
        files[name].parent.mkdir()
        shutil.copy(scan, files[name])
        with h5py.File(files[name], "r+") as file:
            kspace = file["kspace"][()]
            held = np.zeros(MATRIX, dtype=bool)
            held[block_region(MATRIX, block)] = True
            # Structure of its own, far above all else, everywhere but in the block.
            changed = held if name == "inside" else ~held
            kspace[..., changed] = 1e3 * np.abs(kspace).max() * np.arange(1, changed.sum() + 1)
            file["kspace"][...] = kspace
    decisions = {}
    for name, file in files.items():
        out = tmp_path / f"choice {name}"
        assert run("select", file, "--sampler", sampler, "--bank", bank, "--out", out)[0] == 0
        decisions[name] = without_latency(out / "decision.json")
    assert decisions["outside"] == decisions["as it is"]
    assert decisions["inside"] != decisions["as it is"]


def test_a_three_dimensional_scan_gets_one_mask(
    run: Run, tmp_path: Path, made: Path, scan: Path
) -> None:
    opened = open_scan(scan)
    volume = tmp_path / "volume.h5"
    write_scan(
        replace(
            opened, name=volume.name, header=opened.header.model_copy(update={"phase_axes": 2})
        ),
        volume,
    )
    bank, out = made / "points-bank", tmp_path / "choice"
    code, _, _ = run("select", volume, "--sampler", made / "points", "--bank", bank, "--out", out)
    assert code == 0
    (decision,) = read_decisions(out / "decision.json").decisions
    assert decision.slice_index is None
    listed = np.loadtxt(out / "lines.txt", dtype=int)
    np.testing.assert_array_equal(
        listed, np.argwhere(banks.load(bank).masks[decision.index].positions)
    )
    assert (out / "choice.png").is_file()


def test_a_bank_of_another_kind_than_the_sampler(
    run: Run, tmp_path: Path, made: Path, scan: Path, scans: Path
) -> None:
    out = tmp_path / "out"
    code, _, err = run(
        "select", scan, "--sampler", made / "points", "--bank", made / "lines-bank", "--out", out
    )
    assert (code, err.count("\n")) == (3, 1)
    assert "lines-bank" in err
    code, _, err = run(
        "masks", "build", "--sampler", made / "points", "--scans", scans, "--kind", "lines",
        "--out", out,
    )  # fmt: skip
    assert (code, err.count("\n")) == (3, 1)
    assert "points" in err
    assert not out.exists()


def test_scans_that_do_not_fit(run: Run, tmp_path: Path, made: Path) -> None:
    others = tmp_path / "others"
    config = SimulationConfig(subjects=1, seed=5, matrix=(40, 40), slices=1, coils=3)
    (other,) = simulate(config, others)
    out = ("--out", tmp_path / "out")
    sampler = ("--sampler", made / "lines")
    for command in (
        ("select", other, *sampler, "--bank", made / "lines-bank", *out),
        ("uncertainty", other, *sampler, *out),
        ("masks", "build", *sampler, "--scans", others, *out),
    ):
        code, _, err = run(*command)
        assert code == 3
        complaint = [line for line in err.splitlines() if line.startswith("adaptmr:")]
        assert len(complaint) == 1
        assert other.name in complaint[0]
        assert "(40, 40)" in complaint[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["altered", "missing", "no manifest", "no folder"])
def test_a_damaged_sampler(run: Run, tmp_path: Path, made: Path, scan: Path, damage: str) -> None:
    sampler = tmp_path / "sampler"
    shutil.copytree(made / "lines", sampler)
    weights = sampler / "weights.safetensors"
    if damage == "altered":
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    elif damage == "missing":
        weights.unlink()
    elif damage == "no manifest":
        (sampler / "manifest.json").unlink()
    else:
        shutil.rmtree(sampler)
    out = tmp_path / "out"
    code, _, err = run(
        "select", scan, "--sampler", sampler, "--bank", made / "lines-bank", "--out", out
    )
    assert (code, err.count("\n")) == (3, 1)
    assert str(sampler) in err
    assert not out.exists()


def test_outputs_that_exist_stay(run: Run, tmp_path: Path, made: Path, scan: Path) -> None:
    out = tmp_path / "out"
    command = ("uncertainty", scan, "--sampler", made / "lines", "--samples", "2", "--out", out)
    assert run(*command)[0] == 0
    code, _, err = run(*command)
    assert code == 3
    assert "--overwrite" in err
    assert run(*command, "--overwrite")[0] == 0


def test_what_cannot_be_asked_for(
    run: Run, tmp_path: Path, made: Path, scan: Path, scans: Path
) -> None:
    out, sampler = ("--out", tmp_path / "out"), ("--sampler", made / "lines")
    build = ("masks", "build", *sampler, "--scans", scans, *out)
    for command, told in (
        (("uncertainty", scan, *sampler, "--samples", "1", *out), "samples"),
        ((*build, "-J", "0"), "masks"),
        ((*build, "--acceleration", "20"), "budget"),
    ):
        code, _, err = run(*command)
        complaint = [line for line in err.splitlines() if line.startswith("adaptmr:")]
        assert (code, len(complaint)) == (2, 1)
        assert told in complaint[0]
    code, _, err = run(*build, "-J", "50")
    assert code == 3
    assert "fewer training slices" in err
    assert not (tmp_path / "out").exists()


def test_a_misspelt_key(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("data: scans\ncentre_fraction: 0.1\n")
    code, _, err = run("train", config, "--only", "sampler", "--out", tmp_path / "sampler")
    assert (code, err.count("\n")) == (3, 1)
    assert "Did you mean 'center_fraction'?" in err


@pytest.mark.slow
def test_a_flow_for_one_epoch(run: Run, tmp_path: Path, scans: Path, scan: Path) -> None:
    config = tmp_path / "flow.yaml"
    config.write_text(
        f"data: {scans}\ncenter_fraction: 0.1\nvalidation_fraction: 0.4\n"
        "sampler: {kind: flow, steps: 1, noise_steps: [0, 1], width: 6, features: 6, growth: 3,"
        " blocks: 1}\n"
        "training: {epochs: 1, batch_size: 4, accelerator: cpu}\n"
    )
    sampler, bank, out = (tmp_path / name for name in ("sampler", "bank", "choice"))
    assert run("train", config, "--only", "sampler", "--out", sampler)[0] == 0
    described = json.loads((sampler / "sampler.json").read_text())
    assert described["provenance"]["calibrated"] is True
    assert len(described["provenance"]["curve"]) == 1
    build = ("masks", "build", "--sampler", sampler, "--scans", scans, "-J", "2", "--out", bank)
    assert run(*build)[0] == 0
    select = ("select", scan, "--sampler", sampler, "--bank", bank, "--out", out)
    assert run(*select)[0] == 0
    assert not any(
        decision.fallback for decision in read_decisions(out / "decision.json").decisions
    )
