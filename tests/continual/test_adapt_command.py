"""`adaptmr adapt` and `adaptmr reconstruct --adapter`, from files to files."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_banks import Parts, acquired_with, make_bank, make_parts, make_scans

from adaptmr.continual.adapt.bank import adapted_bank
from adaptmr.continual.adapt.bank import load as load_delta
from adaptmr.data.doors import open_scan
from adaptmr.data.fastmri import write_scan
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.bank.persistence import fingerprint, load
from adaptmr.sampling.frame import Positions
from adaptmr.workflows.adaptation import read_mask

Run = Callable[..., tuple[int, str, str]]
QUICK = ("--strategy", "scale-shift", "--epochs", 1, "--batch-size", 4)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("parts")
    return make_parts(folder, make_scans(folder / "scans"), Positions.LINES, count=2)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, parts: Parts) -> Path:
    return make_bank(tmp_path_factory.mktemp("made") / "bank", parts, factor=2.0)


def test_a_site_from_files_to_files(run: Run, tmp_path: Path, parts: Parts, bank: Path) -> None:
    identity, out = fingerprint(bank), tmp_path / "site"
    command = ("adapt", bank, parts.scans, *QUICK, "--out", out)
    code, text, _ = run(*command, "--validation-fraction", 0.5, "--json")
    assert code == 0
    told = json.loads(text)
    assert fingerprint(bank) == identity
    assert (told["scans"], told["subjects"], told["strategy"]) == (2, 2, "scale-shift")
    assert told["bytes"] == sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    assert [pair["pair"] for pair in told["pairs"]] == [0, 1]
    assert all(pair["after"] <= pair["before"] for pair in told["pairs"])
    code, text, err = run(
        "reconstruct", parts.scans, "--bank", bank, "--adapter", out, "--out", tmp_path / "images",
        "--json",
    )  # fmt: skip
    assert code == 0
    done = json.loads(text)["files"][0]
    assert (done["interval"], done["warnings"]) == (None, told["notes"])
    after = adapted_bank(load(bank), load_delta(out))
    expected = after.reconstruct(open_scan(Path(done["source"])))
    with h5py.File(done["output"]) as file:
        np.testing.assert_array_equal(file["reconstruction"][()], expected.image[:].numpy())
        assert file.attrs["bank"] == identity
        assert file.attrs["adapter"] == fingerprint(out)
    # For people, and once more without a word of how it is to continue.
    code, text, err = run(*command)
    assert (code, "exists already" in err) == (3, True)
    code, text, err = run(*command, "--validation-fraction", 0.5, "--overwrite")
    assert code == 0
    assert "kB" in text
    assert "note:" in err


def test_a_new_mask_from_a_list_of_lines(
    run: Run, tmp_path: Path, parts: Parts, bank: Path
) -> None:
    own = load(bank).masks.masks[0]
    lines = sorted({*own.lines()[:-1], *np.flatnonzero(~own.positions)[-1:].tolist()})
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(map(str, lines)))
    scans = tmp_path / "acquired"
    scans.mkdir()
    mask = read_mask(file, load(bank).masks.matrix)
    for path in parts.scans.iterdir():
        acquired = acquired_with(open_scan(path), mask)
        write_scan(replace(acquired, target=None, maximum=None, name=path.name), scans / path.name)
    out = tmp_path / "delta"
    base = ("--validation-fraction", 0.5, "--out", out, "--json")
    code, text, _ = run("adapt", bank, parts.scans, *QUICK, "--mask", file, *base)
    assert code == 0
    (pair,) = json.loads(text)["pairs"]
    assert pair["new_mask"]
    images = ("--out", tmp_path / "images")
    code, _, err = run("reconstruct", scans, "--bank", bank, *images)
    assert (code, "does not have" in err) == (3, True)
    code, _, err = run("reconstruct", scans, "--bank", bank, "--adapter", out, *images)
    assert code == 0
    assert "joined" in err
    # The scans as acquired teach the same pair the same mask.
    shutil.rmtree(out)
    code, text, _ = run("adapt", bank, scans, *QUICK, *base, "--no-resume")
    assert code == 0
    assert json.loads(text)["pairs"][0]["new_mask"]
    assert load_delta(out).pairs[0].mask == mask


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--learning-rate", 0), 2, "learning-rate"),
        (("--strategy", "magic"), 2, "scale-shift"),
        (("--validation-fraction", 0.9), 3, "too few subjects"),
        (("--mask", "missing.txt"), 3, "missing.txt"),
    ],
)
def test_bad_options(
    run: Run,
    tmp_path: Path,
    parts: Parts,
    bank: Path,
    options: tuple[str, object],
    code: int,
    words: str,
) -> None:
    got, _, err = run("adapt", bank, parts.scans, *options, "--out", tmp_path / "out")
    assert got == code
    assert words in err
    assert not (tmp_path / "out").exists()


def test_an_adapter_is_of_its_bank(run: Run, tmp_path: Path, parts: Parts, bank: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert run("adapt", bank, tmp_path, *out)[0] == 3
    code, _, err = run(
        "reconstruct", parts.scans, "--method", "zero-filled", "--adapter", bank, *out
    )
    assert (code, "--adapter" in err) == (2, True)
    code, _, err = run("reconstruct", parts.scans, "--bank", bank, "--adapter", bank, *out)
    assert (code, "adaptation" in err) == (3, True)


def test_masks_in_files(tmp_path: Path, bank: Path) -> None:
    masks = load(bank).masks
    mask = masks.masks[1]
    (tmp_path / "mask.json").write_text(mask.to_json())
    assert read_mask(tmp_path / "mask.json", masks.matrix) == mask
    for text, words in (
        ("1 2 x", "no list of lines"),
        ("", "none"),
        ("3 99", "3 to 99"),
        ('{"a": 1}', "no mask"),
    ):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(BadInputError, match=words):
            read_mask(tmp_path / "bad", masks.matrix)
    with pytest.raises(BadInputError, match="another matrix"):
        read_mask(tmp_path / "mask.json", (masks.matrix[0], masks.matrix[1] + 2))
