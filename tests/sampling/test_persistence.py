"""Samplers as folders: round trip and damage."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sampling_reference import slices

from adaptmr.data.manifest import MANIFEST, write_manifest
from adaptmr.errors import BadInputError
from adaptmr.sampling.ensemble import EnsembleConfig
from adaptmr.sampling.flow.config import FlowConfig
from adaptmr.sampling.flow.flow import SuperResolutionFlow
from adaptmr.sampling.mixture import MixtureConfig
from adaptmr.sampling.pairs import Pairs
from adaptmr.sampling.persistence import build, load, provenance, save

CONFIG = FlowConfig(steps=2, width=4, features=4, growth=2, blocks=1, noise_steps=(0, 1))
MATRIX, BLOCK = (10, 9), (4, 3)


@pytest.fixture
def flow() -> SuperResolutionFlow:
    flow = SuperResolutionFlow(CONFIG, MATRIX, BLOCK, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in flow.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    assert flow.standardising is not None
    flow.standardising.fit(torch.randn(5, *MATRIX, generator=generator))
    return flow


@pytest.fixture
def folder(flow: SuperResolutionFlow, tmp_path: Path) -> Path:
    save(flow, tmp_path / "sampler", {"epoch": 3})
    return tmp_path / "sampler"


def test_round_trip_is_bit_by_bit(flow: SuperResolutionFlow, folder: Path) -> None:
    state = torch.get_rng_state()
    again = load(folder)
    assert torch.equal(torch.get_rng_state(), state)
    assert not again.training
    assert (again.config, again.matrix, again.block) == (CONFIG, MATRIX, BLOCK)
    for name, value in flow.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    known = slices(MATRIX, BLOCK, batch=2)
    samples = [s.sample(known, 3, torch.Generator().manual_seed(2)) for s in (flow, again)]
    assert torch.equal(*samples)
    assert provenance(folder) == {"epoch": 3}


@pytest.mark.parametrize(
    "config",
    [EnsembleConfig(members=2, channels=2, pools=1), MixtureConfig(components=2, factors=3)],
)
def test_other_samplers_come_back_bit_by_bit(
    config: EnsembleConfig | MixtureConfig, tmp_path: Path
) -> None:
    sampler = build(config, MATRIX, BLOCK, seed=1)
    generator = torch.Generator().manual_seed(0)
    full = torch.rand(6, *MATRIX, generator=generator)
    sampler.prepare(Pairs(full / 2, full, BLOCK), generator)
    save(sampler, tmp_path / "sampler", {})
    again = load(tmp_path / "sampler")
    assert (type(again), again.config) == (type(sampler), config)
    known = slices(MATRIX, BLOCK, batch=2)
    samples = [s.sample(known, 3, torch.Generator().manual_seed(2)) for s in (sampler, again)]
    assert torch.equal(*samples)


def test_build_follows_the_seed() -> None:
    first, again = (build(CONFIG, MATRIX, BLOCK, seed=5).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_only_safe_formats_are_written(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {"sampler.json", "weights.safetensors", MANIFEST}


def test_an_existing_folder_is_replaced_only_on_request(
    flow: SuperResolutionFlow, folder: Path
) -> None:
    with pytest.raises(BadInputError, match="exists already"):
        save(flow, folder, {})
    save(flow, folder, {"epoch": 4}, overwrite=True)
    assert provenance(folder) == {"epoch": 4}


@pytest.mark.parametrize("name", ["sampler.json", "weights.safetensors", MANIFEST])
def test_missing_files_are_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BadInputError, match=name.replace(".", r"\.")):
        load(folder)


@pytest.mark.parametrize("name", ["sampler.json", "weights.safetensors"])
def test_altered_files_are_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BadInputError, match="altered"):
        load(folder)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="manifest"):
        load(tmp_path / "nothing")


def test_weights_of_another_architecture_are_refused(folder: Path) -> None:
    weights = load_file(folder / "weights.safetensors")
    name = next(iter(weights))
    weights[name] = torch.zeros(7)
    save_file(weights, folder / "weights.safetensors")
    write_manifest(folder)
    with pytest.raises(BadInputError, match="does not fit"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "newer adaptmr"),
        ({"surprise": 1}, "surprise"),
        ({"matrix": [10]}, "matrix"),
        ({"config": {"kind": "unknown"}}, "config"),
    ],
)
def test_descriptions_that_cannot_be_read_are_refused(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    file = folder / "sampler.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    write_manifest(folder)
    with pytest.raises(BadInputError, match=message):
        load(folder)


def test_a_folder_of_something_else_is_refused(folder: Path) -> None:
    (folder / "sampler.json").unlink()
    write_manifest(folder)
    with pytest.raises(BadInputError, match="not a sampler"):
        load(folder)
    shutil.rmtree(folder)
