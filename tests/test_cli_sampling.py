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
from adaptmr.sampling import persistence
from adaptmr.sampling.bank import BankConfig, MaskBank
from adaptmr.sampling.decision import read_decisions
from adaptmr.sampling.frame import Positions
from adaptmr.sampling.informed import DrawRule, Law
from adaptmr.sampling.low_frequency import acquire_scan, block_region
from adaptmr.sampling.mixture import MixtureConfig
from adaptmr.sampling.selection import (
    PRESETS,
    Adaptation,
    PresetName,
    UncertaintyConfig,
    measure_training,
)
from adaptmr.sampling.selection import select as choose
from adaptmr.sampling.selector import NearestCentroid
from adaptmr.sampling.selectors import SelectorName, selector
from adaptmr.workflows.sampling import TrainSamplerConfig, train_sampler
from adaptmr.workflows.selection import build_bank

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


@pytest.mark.parametrize("name", list(SelectorName))
def test_every_selector_chooses_as_the_library_does(
    run: Run, tmp_path: Path, made: Path, scan: Path, name: SelectorName
) -> None:
    rule, bank, out = selector(name), made / "lines-bank", tmp_path / "choice"
    sampler = made / "lines" if rule.needs_uncertainty else None
    given = ("--sampler", sampler) if sampler else ()
    command = ("select", scan, *given, "--bank", bank, "--selector", name)
    code, text, _ = run(*command, "--out", out, "--json")
    assert code == 0
    identity = sha256(sampler / "manifest.json") if sampler else None
    drawer = persistence.load(sampler) if sampler else None
    expected = choose(open_scan(scan), Adaptation(banks.load(bank), rule, drawer, identity))
    assert without_latency(out / "decision.json") == [each.choice for each in expected]
    for picture in json.loads(text)["pictures"]:
        with Image.open(picture) as image:
            assert np.asarray(image.convert("L")).std() > 10


def test_a_sampler_where_none_is_needed_completes_the_picture(
    run: Run, tmp_path: Path, made: Path, scan: Path
) -> None:
    widths, choices = [], []
    for number, given in enumerate(((), ("--sampler", made / "lines"))):
        out = tmp_path / str(number)
        command = ("select", scan, *given, "--bank", made / "lines-bank", "--selector", "fixed")
        assert run(*command, "--out", out)[0] == 0
        choices.append(without_latency(out / "decision.json"))
        with Image.open(out / "choice-000.png") as image:
            widths.append(image.width)
    assert choices[0] == choices[1]
    assert widths[0] < widths[1]


def captured(sampler: Path, bank: MaskBank, files: list[Path]) -> list[float]:
    """Share of the variance of its cluster's slices that each mask acquires, by the definition."""
    drawer = persistence.load(sampler)
    values = torch.cat(
        [
            measure_training(
                drawer,
                acquire_scan(open_scan(file), bank.block),
                UncertaintyConfig(seed=number),
            ).values
            for number, file in enumerate(files)
        ]
    )
    nearest = (values[:, None] - bank.centroids).flatten(2).norm(dim=2).argmin(1)
    shares = []
    for index, mask in enumerate(bank.masks):
        own = values[nearest == index]
        shares.append(float(((own * mask.tensor()).sum((1, 2)) / own.sum((1, 2))).mean()))
    return shares


@pytest.mark.parametrize("positions", list(Positions))
def test_refined_masks_capture_more(
    run: Run, tmp_path: Path, made: Path, scans: Path, positions: Positions
) -> None:
    out = tmp_path / "bank"
    code, text, _ = run(
        "masks", "build", "--sampler", made / positions, "--scans", scans, "--kind", positions,
        "-J", "2", "--refine", "60", "--out", out, "--json",
    )  # fmt: skip
    assert code == 0
    built: dict[str, Any] = json.loads(text)
    files, drawn = sorted(scans.iterdir()), banks.load(made / f"{positions}-bank")
    refined = banks.load(out)
    assert built["captured"] == pytest.approx(captured(made / positions, refined, files))
    assert built["captured_before"] == pytest.approx(captured(made / positions, drawn, files))
    assert all(np.array(built["captured"]) > built["captured_before"])
    assert built["budget"] == drawn.masks[0].budget
    assert torch.equal(refined.centroids, drawn.centroids)


def test_options_override_the_preset(run: Run, tmp_path: Path, made: Path, scans: Path) -> None:
    build = ("masks", "build", "--sampler", made / "lines", "--scans", scans)
    assert run(*build, "--preset", "hong2024", "--out", tmp_path / "published")[0] == 0
    code, text, _ = run(
        *build, "-J", "2", "--law", "capped", "--power", "0.5", "--sort-fraction", "0.25",
        "--one-of-mirrored", "--samples", "4", "--coils", "--out", tmp_path / "own", "--json",
    )  # fmt: skip
    assert (code, json.loads(text)["captured_before"]) == (0, None)
    published, own = (banks.load(tmp_path / name).provenance for name in ("published", "own"))
    preset = PRESETS[PresetName.HONG2024]
    assert published["config"] == preset.bank.model_dump(mode="json")
    assert published["uncertainty"] == preset.uncertainty.model_dump(mode="json")
    rule = DrawRule(law=Law.CAPPED, power=0.5, sort_fraction=0.25, one_of_mirrored=True)
    assert own["config"] == preset.bank.model_dump(mode="json") | {
        "masks": 2,
        "rule": rule.model_dump(mode="json"),
    }
    assert own["uncertainty"] == UncertaintyConfig(samples=4, coils=True).model_dump(mode="json")


def test_a_choice_measures_as_the_bank_was_built(
    run: Run, tmp_path: Path, made: Path, scan: Path, scans: Path
) -> None:
    sampler, bank = made / "lines", tmp_path / "bank"
    build = ("masks", "build", "--sampler", sampler, "--scans", scans, "-J", "2")
    assert run(*build, "--coils", "--samples", "4", "--smoothing", "1", "--out", bank)[0] == 0
    built = UncertaintyConfig(samples=4, coils=True, smoothing=1.0)
    for options, config in (
        ((), built),
        (("--magnitude",), built.model_copy(update={"coils": False})),
        (("--samples", "6"), built.model_copy(update={"samples": 6})),
        (("--preset", "hong2024"), UncertaintyConfig()),
        (("--preset", "hong2024", "--coils"), UncertaintyConfig(coils=True)),
    ):
        out = tmp_path / "-".join(["choice", *options])
        code, text, _ = run(
            "select", scan, "--sampler", sampler, "--bank", bank, *options, "--out", out, "--json"
        )
        assert (code, json.loads(text)["uncertainty"]) == (0, config.model_dump(mode="json"))
        adaptation = Adaptation(
            banks.load(bank),
            NearestCentroid(),
            persistence.load(sampler),
            sha256(sampler / "manifest.json"),
            config,
        )
        expected = [each.choice for each in choose(open_scan(scan), adaptation)]
        assert without_latency(out / "decision.json") == expected


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
        ((*build, "--sort-fraction", "2"), "sort-fraction"),
        (("select", scan, "--bank", made / "lines-bank", *out), "sampler"),
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
