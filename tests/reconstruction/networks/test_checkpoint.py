"""Networks as folders: round trip, damage, and fastMRI's weights."""

import json
from pathlib import Path

import pytest
import torch
from network_reference import complex_normal, fastmri_varnet, line_mask, randomise
from safetensors.torch import save_file

from adaptmr.data.manifest import write_manifest
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks.unet import UNetConfig
from adaptmr.reconstruction.networks.varnet import VarNetConfig

CONFIGS = [
    VarNetConfig(cascades=2, channels=4, pools=2, map_channels=2, map_pools=2),
    UNetConfig(channels=4, pools=2),
]
PROVENANCE = {"seed": 3, "curve": [{"epoch": 0, "loss": 0.5}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoint.save(checkpoint.build(CONFIGS[0], seed=3), tmp_path / "net", PROVENANCE)
    return tmp_path / "net"


@pytest.mark.parametrize("config", CONFIGS)
def test_round_trip_is_bit_exact(tmp_path: Path, config: VarNetConfig | UNetConfig) -> None:
    network = checkpoint.build(config, seed=3)
    randomise(network, 0)
    checkpoint.save(network, tmp_path / "net", PROVENANCE)
    loaded = checkpoint.load(tmp_path / "net")
    assert loaded.config == config
    assert not loaded.training
    assert checkpoint.provenance(tmp_path / "net") == PROVENANCE
    kspace = complex_normal((1, 2, 18, 21), 0, torch.complex64)
    assert torch.equal(loaded(kspace, line_mask(21, 4)), network(kspace, line_mask(21, 4)))
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == [
        "manifest.json",
        "network.json",
        "weights.safetensors",
    ]


def test_neither_building_nor_loading_touches_the_global_random_state(folder: Path) -> None:
    before = torch.get_rng_state()
    first = checkpoint.build(CONFIGS[0], seed=1)
    checkpoint.load(folder)
    assert torch.equal(torch.get_rng_state(), before)
    again = checkpoint.build(CONFIGS[0], seed=1).state_dict()
    other = checkpoint.build(CONFIGS[0], seed=2).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.state_dict().items())
    name = "regularisers.0.unet.down.0.first.weight"
    assert not torch.equal(other[name], again[name])


def test_first_weights_have_the_spread_that_torch_gives_them() -> None:
    network = checkpoint.build(UNetConfig(channels=32, pools=3), seed=0)
    with torch.random.fork_rng():
        reference = type(network)(UNetConfig(channels=32, pools=3))  # type: ignore[arg-type]
    theirs_of = reference.state_dict()
    for name, ours in network.state_dict().items():
        theirs = theirs_of[name]
        if ours.numel() > 200:
            assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.15), name
            assert float(ours.abs().max()) == pytest.approx(float(theirs.abs().max()), rel=0.1), (
                name
            )


@pytest.mark.parametrize("name", ["network.json", "weights.safetensors"])
def test_an_altered_byte_is_named(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BadInputError, match=rf"{name}.*altered"):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", ["network.json", "weights.safetensors", "manifest.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BadInputError, match=rf"{name}.*missing"):
        checkpoint.load(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="nowhere"):
        checkpoint.load(tmp_path / "nowhere")


def describe(folder: Path, **changes: object) -> None:
    description = json.loads((folder / "network.json").read_text())
    (folder / "network.json").write_text(json.dumps(description | changes))
    write_manifest(folder)


def test_a_newer_schema_is_refused(folder: Path) -> None:
    describe(folder, schema_version=2)
    with pytest.raises(BadInputError, match=r"schema_version.*got 2; expected 1.*update"):
        checkpoint.load(folder)


def test_weights_of_another_architecture_are_refused(folder: Path) -> None:
    describe(folder, architecture={"kind": "unet", "channels": 4, "pools": 2})
    with pytest.raises(BadInputError, match=r"weights.safetensors.*does not fit the network"):
        checkpoint.load(folder)


def test_an_unreadable_description_is_named(folder: Path) -> None:
    describe(folder, architecture={"kind": "transformer"})
    with pytest.raises(BadInputError, match=r"network.json.*architecture"):
        checkpoint.load(folder)


def test_an_existing_folder_is_kept_unless_it_may_be_replaced(folder: Path) -> None:
    network = checkpoint.build(CONFIGS[1], seed=0)
    with pytest.raises(BadInputError, match="exists already"):
        checkpoint.save(network, folder, {})
    assert checkpoint.load(folder).config == CONFIGS[0]
    checkpoint.save(network, folder, {}, overwrite=True)
    assert checkpoint.load(folder).config == CONFIGS[1]


@pytest.mark.parametrize("prefix", ["", "varnet."])
def test_fastmri_weights_load_from_safetensors(tmp_path: Path, prefix: str) -> None:
    theirs = fastmri_varnet(3, 6, 2).float()
    state = {prefix + name: value for name, value in theirs.state_dict().items()}
    save_file(state | {"loss.w": torch.ones(1)}, tmp_path / "varnet.safetensors")
    loaded = checkpoint.load_fastmri(tmp_path / "varnet.safetensors")
    assert loaded.config == VarNetConfig(
        cascades=3, channels=6, pools=2, map_channels=4, map_pools=2
    )
    assert torch.equal(
        loaded.get_parameter("step_sizes"),
        torch.cat([theirs.cascades[1].dc_weight, theirs.cascades[2].dc_weight]),
    )


def test_fastmri_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    file = tmp_path / "varnet.safetensors"
    state = fastmri_varnet(2, 4, 2).state_dict()
    save_file({"classifier.weight": torch.ones(2)}, file)
    with pytest.raises(BadInputError, match=r"varnet.safetensors.*not the weights of a fastMRI"):
        checkpoint.load_fastmri(file)
    save_file({n: v for n, v in state.items() if n != "cascades.1.dc_weight"}, file)
    with pytest.raises(BadInputError, match="step_sizes"):
        checkpoint.load_fastmri(file)
    save_file(state | {"cascades.0.extra": torch.ones(1)}, file)
    with pytest.raises(BadInputError, match=r"cascades.0.extra.*expected nothing"):
        checkpoint.load_fastmri(file)
    file.write_bytes(b"not safetensors")
    with pytest.raises(BadInputError, match="cannot be read"):
        checkpoint.load_fastmri(file)
