"""The adaptation of a bank: every pair, new masks, and scans as they were acquired."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_banks import Parts, acquired_with, make_bank, make_parts, make_scans, scan_of

from adaptmr.continual.adapt import bank as deltas
from adaptmr.continual.adapt.adapter import Adapter, fingerprint, layers_of
from adaptmr.continual.adapt.bank import BankDelta, NewMask, PairDelta, adapt, adapted_bank
from adaptmr.continual.adapt.family import Strategy
from adaptmr.continual.adapt.network import AdaptationConfig
from adaptmr.data.scan import Scan
from adaptmr.data.target import with_target
from adaptmr.errors import BadInputError, UsageError
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.persistence import load
from adaptmr.reconstruction.training.cohort import Cohort
from adaptmr.sampling.frame import Positions
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.selector import FixedBest

CONFIG = AdaptationConfig(
    strategy=Strategy.SCALE_SHIFT, epochs=1, batch_size=4, learning_rate=0.03, accelerator="cpu"
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("parts")
    return make_parts(folder, make_scans(folder / "scans"), Positions.LINES)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, parts: Parts) -> ReconstructionBank:
    return load(make_bank(tmp_path_factory.mktemp("made") / "bank", parts, factor=2.0))


def cohort_of(training: Sequence[Scan], validation: Sequence[Scan] = ()) -> Cohort:
    return Cohort(tuple(training), tuple(validation), "made by a test")


def both(parts: Parts) -> tuple[Scan, Scan]:
    return with_target(scan_of(parts, 0)), with_target(scan_of(parts, 1))


def blank(scan: Scan, mask: Mask) -> Scan:
    """The scan as acquired with a mask, as `open_scans_to_adapt_to` gives it."""
    acquired = acquired_with(scan, mask)
    assert acquired.target is not None
    zeros = torch.zeros(acquired.target.shape)
    return replace(acquired, target=type(acquired.target).of(zeros), maximum=0.0)


def foreign(mask: Mask) -> Mask:
    """A mask of the same frame with other lines."""
    positions = np.zeros_like(mask.positions)
    positions[mask.block] = True
    free = np.flatnonzero(~positions)
    positions[free[: mask.budget - int(positions.sum())]] = True
    return Mask(positions, mask.low_frequency)


def thinner(mask: Mask) -> Mask:
    """The mask without one of its lines."""
    positions = mask.positions.copy()
    positions[np.flatnonzero(positions)[0]] = False
    return Mask(positions, mask.low_frequency)


def go(
    bank: ReconstructionBank, cohort: Cohort, folder: Path, **options: object
) -> tuple[Path, BankDelta]:
    out = adapt(
        bank, cohort, CONFIG, folder / "delta", folder / "run", provenance={"bank": "x"}, **options
    )
    return out, deltas.load(out)


def made(bank: ReconstructionBank, new_mask: NewMask, *masks: Mask | None) -> BankDelta:
    """A delta as if trained: each pair's biases are shifted."""
    pairs = []
    for pair, mask in enumerate(masks):
        network = bank.networks[pair]
        adapter = Adapter(Strategy.SCALE_SHIFT, layers_of(network, 1), fingerprint(network))
        with torch.no_grad():
            for each in adapter.parameters():
                each += 0.1
        pairs.append(PairDelta(pair, adapter, mask, {}))
    return BankDelta(bank.masks.fingerprint, new_mask, tuple(pairs))


def test_every_pair_is_adapted_under_its_mask(
    bank: ReconstructionBank, parts: Parts, tmp_path: Path
) -> None:
    first, second = both(parts)
    identities = [fingerprint(network) for network in bank.networks]
    out, delta = go(bank, cohort_of([first], [second]), tmp_path)
    assert [(each.pair, each.mask) for each in delta.pairs] == [(0, None), (1, None), (2, None)]
    assert all(each.provenance["trained_numbers"] < 1000 for each in delta.pairs)
    assert [each.adapter.base for each in delta.pairs] == identities
    assert sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) < 300_000
    after = adapted_bank(bank, delta)
    assert [fingerprint(network) for network in bank.networks] == identities
    assert all(
        fingerprint(network) != identity
        for network, identity in zip(after.networks, identities, strict=True)
    )
    assert after.masks is bank.masks
    assert after.selector is bank.selector
    done = after.reconstruct(first)
    assert (done.lower, done.why_no_interval) == (None, "the bank was not calibrated")
    assert after.provenance["adaptation"] == list(delta.notes)
    assert not torch.equal(done.image[:], bank.reconstruct(first).image[:])


def test_a_known_mask_adapts_its_pair_alone(
    bank: ReconstructionBank, parts: Parts, tmp_path: Path
) -> None:
    _, delta = go(bank, cohort_of(both(parts)), tmp_path, mask=bank.masks.masks[1])
    assert [(each.pair, each.mask) for each in delta.pairs] == [(1, None)]


def test_scans_as_acquired_teach_the_pairs_of_their_masks(
    bank: ReconstructionBank, parts: Parts, tmp_path: Path
) -> None:
    first, second = both(parts)
    masks = bank.masks.masks
    scans = [
        replace(blank(first, masks[2]), name="a.h5"),
        replace(blank(second, masks[0]), name="b.h5"),
        replace(blank(second, foreign(masks[0])), name="c.h5"),
    ]
    out, delta = go(bank, cohort_of(scans), tmp_path)
    (two, zero, new) = delta.pairs
    assert [(two.pair, two.mask), (zero.pair, zero.mask)] == [(2, None), (0, None)]
    assert new.mask == foreign(masks[0])
    after = adapted_bank(bank, delta)
    assert len(after) == 4
    assert after.masks.masks[3] == new.mask
    # A scan that was acquired with it is reconstructed by it, of which no one needs to be told.
    (decision,) = after.reconstruct(scans[2]).decisions
    assert (decision.index, decision.selector) == (3, "as acquired")
    with pytest.raises(BadInputError, match="does not have"):
        bank.reconstruct(scans[2])
    # Nothing chooses it for others.
    chosen = {one.index for one in after.reconstruct(first).decisions}
    assert chosen == {one.index for one in bank.reconstruct(first).decisions}
    assert any("joined" in note for note in delta.notes)
    assert (out / "2.mask.json").is_file()


def test_a_new_mask_replaces(bank: ReconstructionBank) -> None:
    other = foreign(bank.masks.masks[0])
    delta = made(bank, NewMask.REPLACE, other)
    after = adapted_bank(bank, delta)
    assert after.masks.masks == (other, *bank.masks.masks[1:])
    assert torch.equal(after.masks.centroids, bank.masks.centroids)
    assert after.selector is bank.selector
    assert after.networks[1] is bank.networks[1]
    assert any("replaces that of pair 0" in note for note in delta.notes)


def test_a_new_mask_alone(bank: ReconstructionBank, parts: Parts) -> None:
    """Of another budget it can only be a bank of its own."""
    other = thinner(bank.masks.masks[0])
    for refused in (NewMask.JOIN, NewMask.REPLACE):
        with pytest.raises(BadInputError, match=r"budget or block.*--new-mask alone"):
            adapted_bank(bank, made(bank, refused, other))
    after = adapted_bank(bank, made(bank, NewMask.ALONE, other))
    assert (len(after), after.masks.masks, after.sampler) == (1, (other,), None)
    assert isinstance(after.selector, FixedBest)
    assert {one.index for one in after.reconstruct(scan_of(parts)).decisions} == {0}


def test_a_selector_fitted_on_other_masks_gives_way(bank: ReconstructionBank) -> None:
    class Fitted:
        name = "fitted"
        needs_uncertainty = False

        def scores(self, _evidence: object, _bank: object) -> torch.Tensor:
            raise AssertionError

    fitted = replace(bank, selector=Fitted())
    other = foreign(bank.masks.masks[0])
    assert isinstance(adapted_bank(fitted, made(bank, NewMask.JOIN, other)).selector, FixedBest)
    assert adapted_bank(fitted, made(bank, NewMask.JOIN, None)).selector is fitted.selector


def test_bad_input(bank: ReconstructionBank, parts: Parts, tmp_path: Path) -> None:
    first, _ = both(parts)
    mask = bank.masks.masks[0]
    with pytest.raises(UsageError, match="masks of their own"):
        go(bank, cohort_of([blank(first, mask)]), tmp_path, mask=mask)
    narrow = replace(
        first,
        kspace=type(first.kspace).of(first.kspace[:][..., 2:-2]),
        acquired=first.acquired[2:-2],
        padding=(0, first.matrix[1] - 4),
    )
    with pytest.raises(BadInputError, match="another matrix"):
        go(bank, cohort_of([narrow]), tmp_path)
    with pytest.raises(BadInputError, match="--new-mask alone"):
        go(bank, cohort_of([first]), tmp_path, mask=thinner(mask))
    assert not (tmp_path / "run").exists()


def test_another_bank_and_damage_are_refused(
    bank: ReconstructionBank, parts: Parts, tmp_path: Path
) -> None:
    first, second = both(parts)
    out, delta = go(bank, cohort_of([first], [second]), tmp_path, mask=bank.masks.masks[0])
    with pytest.raises(BadInputError, match="of another bank"):
        adapted_bank(replace(bank, masks=bank.masks.permuted([1, 0, 2])), delta)
    swapped = replace(bank, networks=[bank.networks[1], bank.networks[1], bank.networks[2]])
    with pytest.raises(BadInputError, match="of another network"):
        adapted_bank(swapped, delta)
    with pytest.raises(BadInputError, match="exists already"):
        go(bank, cohort_of([first], [second]), tmp_path, mask=bank.masks.masks[0])
    for file in ("adaptation.json", "0/weights.safetensors", "manifest.json"):
        copy = tmp_path / file.replace("/", "-")
        shutil.copytree(out, copy)
        content = bytearray((copy / file).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / file).write_bytes(content)
        with pytest.raises(BadInputError, match=r"altered|cannot be read"):
            deltas.load(copy)
