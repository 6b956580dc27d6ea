"""Banks on disk: equal when they come back, refused by name when they are damaged."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_banks import SAMPLES, Parts, calibrated, calibration_of, make_bank, scan_of

from adaptmr.data.manifest import MANIFEST, sha256, write_manifest
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.persistence import assemble, fingerprint, is_bank, load
from adaptmr.reconstruction.networks import checkpoint
from adaptmr.reconstruction.networks import width as widths
from adaptmr.sampling import bank as banks
from adaptmr.sampling import persistence as samplers
from adaptmr.sampling.loss_aware import LossAware
from adaptmr.sampling.protocol_prior import ProtocolPrior, Row, Situation
from adaptmr.sampling.selector import Oracle, Selector, Uniform
from adaptmr.sampling.selectors import SelectorName, selector


def loss_aware(masks: banks.MaskBank) -> LossAware:
    """A selector of arbitrary weights."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(len(masks), 32, generator=generator, dtype=torch.float64)
    return LossAware(
        torch.zeros(32, dtype=torch.float64),
        torch.ones(32, dtype=torch.float64),
        weights,
        torch.zeros(len(masks), dtype=torch.float64),
        1.0,
        ("a", "b"),
        masks.fingerprint,
    )


def prior(masks: int) -> ProtocolPrior:
    situation = Situation(acquisition="AXT2", orientation=None, part=1)
    row = Row(situation=situation, losses=tuple(float(index) for index in range(masks)), slices=2)
    return ProtocolPrior(parts=3, rows=(row,))


def test_what_comes_back_is_equal(lines: Parts, folder: Path) -> None:
    bank = load(folder)
    assert len(bank) == len(bank.networks) == 3
    assert bank.masks.fingerprint == banks.load(lines.masks).fingerprint
    assert bank.selector == selector(SelectorName.NEAREST)
    assert bank.uncertainty == SAMPLES
    assert bank.provenance == {"made": "by a test"}
    assert (bank.width, bank.calibration) == (None, None)
    assert bank.sampler_fingerprint == sha256(lines.sampler / MANIFEST)
    assert bank.sampler is not None
    for ours, theirs in (
        (bank.sampler, samplers.load(lines.sampler)),
        *zip(bank.networks, map(checkpoint.load, lines.networks), strict=True),
    ):
        assert ours.config == theirs.config
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value)


def test_intervals_come_back(tmp_path: Path, lines: Parts) -> None:
    bank = load(make_bank(tmp_path / "bank", lines, factor=1.5))
    assert bank.calibration == calibration_of(1.5)
    assert isinstance(bank.width, widths.WidthNetwork)
    for name, value in widths.load(lines.width).state_dict().items():
        assert torch.equal(bank.width.state_dict()[name], value)
    found = bank.reconstruct(scan_of(lines))
    for one in found.slices():
        assert bool((one["lower"] <= one["reconstruction"]).all())
        assert bool((one["reconstruction"] < one["upper"]).all())


def test_equal_content_is_one_fingerprint(tmp_path: Path, lines: Parts, folder: Path) -> None:
    assert fingerprint(make_bank(tmp_path / "again", lines)) == fingerprint(folder)
    other = make_bank(tmp_path / "other", lines, selector(SelectorName.FIXED))
    assert fingerprint(other) != fingerprint(folder)


def test_networks_are_read_when_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    really = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda path: read.append(path.name) or really(path))
    bank = load(folder)
    assert read == []
    assert bank.networks[1] is bank.networks[-2]
    assert read == ["1"]
    assert len(bank.networks[:2]) == 2
    assert read == ["1", "0"]
    with pytest.raises(IndexError):
        bank.networks[3]


def test_every_selector_comes_back(tmp_path: Path, lines: Parts) -> None:
    masks = banks.load(lines.masks)
    learned = loss_aware(masks)
    rules: list[Selector] = [*map(selector, SelectorName), prior(len(masks)), learned]
    for number, rule in enumerate(rules):
        back = load(make_bank(tmp_path / str(number), lines, rule)).selector
        if isinstance(back, LossAware):
            assert torch.equal(back.weights, learned.weights)
            assert (back.bank, back.subjects) == (learned.bank, learned.subjects)
        else:
            assert back == rule
    for rule in (Oracle(), Uniform(seed=3)):
        with pytest.raises(UsageError, match="cannot be stored"):
            make_bank(tmp_path / "none", lines, rule)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "name",
    [
        "bank.json",
        "calibration.json",
        "width/weights.safetensors",
        "manifest.json",
        "masks/bank.json",
        "masks/centroids.safetensors",
        "masks/mask-1.json",
        "masks/manifest.json",
        "networks/1/network.json",
        "networks/1/weights.safetensors",
        "networks/1/manifest.json",
        "sampler/sampler.json",
        "sampler/weights.safetensors",
        "sampler/manifest.json",
        "selector/selector.json",
        "selector/loss-aware/weights.safetensors",
    ],
)
@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_one_byte_altered(tmp_path: Path, lines: Parts, name: str, place: float) -> None:
    rule = loss_aware(banks.load(lines.masks))
    folder = make_bank(tmp_path / "bank", lines, rule, factor=2.0)
    file = folder / name
    data = bytearray(file.read_bytes())
    data[int(place * len(data)) if place > 0 else int(place)] ^= 1
    file.write_bytes(data)
    with pytest.raises(BadInputError) as refused:
        load(folder)
    if name != MANIFEST:
        assert refused.value.file == file
        assert "altered" in refused.value.what
    else:
        assert str(folder) in str(refused.value)


def test_a_network_that_is_not_there(tmp_path: Path, lines: Parts) -> None:
    folder = make_bank(tmp_path / "bank", lines)
    shutil.rmtree(folder / "networks/2")
    with pytest.raises(BadInputError, match=r"missing") as refused:
        load(folder)
    assert refused.value.file is not None
    assert "networks/2" in refused.value.file.as_posix()
    write_manifest(folder)  # as if the bank had never had it
    with pytest.raises(BadInputError, match="lacks a network") as refused:
        load(folder)
    assert refused.value.file == folder / "networks/2"


def test_a_newer_version(tmp_path: Path, lines: Parts) -> None:
    folder = make_bank(tmp_path / "bank", lines)
    described = json.loads((folder / "bank.json").read_text())
    (folder / "bank.json").write_text(json.dumps(described | {"schema_version": 2}))
    write_manifest(folder)
    with pytest.raises(BadInputError, match="newer adaptmr") as refused:
        load(folder)
    assert refused.value.file == folder / "bank.json"
    assert is_bank(folder)


def test_what_is_a_bank(tmp_path: Path, lines: Parts, folder: Path) -> None:
    assert is_bank(folder)
    assert not is_bank(lines.masks)
    assert not is_bank(tmp_path / "nothing")
    for call in (load, fingerprint):
        with pytest.raises(BadInputError, match="manifest is missing"):
            call(tmp_path / "nothing")


def test_a_damaged_part_is_not_built_in(tmp_path: Path, lines: Parts) -> None:
    network = tmp_path / "network"
    shutil.copytree(lines.networks[0], network)
    with (network / "weights.safetensors").open("ab") as stream:
        stream.write(b"x")
    broken = replace(lines, networks=(network, *lines.networks[1:]))
    with pytest.raises(BadInputError, match="altered") as refused:
        make_bank(tmp_path / "bank", broken)
    assert refused.value.file == network / "weights.safetensors"
    assert not (tmp_path / "bank").exists()


def test_parts_that_do_not_fit_together(
    tmp_path: Path, lines: Parts, points: Parts, bank: ReconstructionBank
) -> None:
    out, masks = tmp_path / "bank", banks.load(lines.masks)
    with pytest.raises(BadInputError, match="not one network for each mask"):
        make_bank(out, replace(lines, networks=lines.networks[1:]))
    with pytest.raises(BadInputError, match="field 'sampler'"):
        make_bank(out, replace(lines, sampler=points.sampler))
    with pytest.raises(BadInputError, match="field 'selector'"):
        make_bank(out, lines, loss_aware(masks.permuted([1, 0, 2])))
    with pytest.raises(BadInputError, match="field 'sampler'"):
        assemble(
            out,
            masks=masks,
            networks=lines.networks,
            sampler=None,
            selector=selector(SelectorName.CAPTURED),
            uncertainty=SAMPLES,
            width=None,
            calibration=None,
            provenance={},
        )
    with pytest.raises(BadInputError, match="field 'calibration'"):
        replace(calibrated(bank), width=None)
    assert not out.exists()


def test_a_bank_that_exists_stays(folder: Path, lines: Parts, tmp_path: Path) -> None:
    copied = tmp_path / "bank"
    shutil.copytree(folder, copied)
    with pytest.raises(BadInputError, match="exists already"):
        make_bank(copied, lines)
    make_bank(copied, lines, selector(SelectorName.FIXED), overwrite=True)
    assert load(copied).selector == selector(SelectorName.FIXED)
