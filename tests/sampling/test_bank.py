"""Mask banks: built, refined, reordered, and on disk."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from sampling_reference import known

from adaptmr.data.manifest import write_manifest
from adaptmr.errors import BadInputError, UsageError
from adaptmr.sampling import bank as banks
from adaptmr.sampling.bank import BankConfig, MaskBank, RefineConfig
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.informed import DrawRule, informed_mask
from adaptmr.sampling.refinement import CapturedVariance

MATRIX, BLOCK = (18, 21), (4, 5)


def maps(slices: int = 24, block: tuple[int, int] = BLOCK):
    """Two kinds of slices: uncertain along rows, or along columns."""
    generator = torch.Generator().manual_seed(3)
    values = torch.rand(slices, *MATRIX, generator=generator)
    values[: slices // 3, :, 8:13] += 3
    values[slices // 3 :, 7:11] += 3
    return known(values, block)


def bank(block: tuple[int, ...] = BLOCK, **config: object) -> MaskBank:
    frame = Frame.of(MATRIX, block, 3)
    found = maps(block=BLOCK if len(block) == 2 else (MATRIX[0], block[0]))
    return banks.build(found, frame, BankConfig(masks=2, **config))[0]


@pytest.mark.parametrize("block", [BLOCK, (3,)])
def test_masks_are_drawn_from_the_centroids(block: tuple[int, ...]) -> None:
    made = bank(block)
    for mask, centroid in zip(made.masks, made.centroids, strict=True):
        assert mask == informed_mask(centroid, made.frame, DrawRule())
    assert made.populations == (16, 8)
    assert (made.axes, made.matrix, len(made)) == (len(block), MATRIX, 2)
    assert made.block == (BLOCK if len(block) == 2 else (18, 3))
    assert (made.provenance["slices"], made.provenance["distinct_masks"]) == (24, 2)
    assert made.masks[0] != made.masks[1]


def test_same_input_same_bank() -> None:
    assert bank().fingerprint == bank().fingerprint
    assert bank().fingerprint != bank(rule=DrawRule(seed=1)).fingerprint
    assert bank().fingerprint != bank((3,)).fingerprint


def test_a_seed_of_its_own_changes_one_mask_alone() -> None:
    first, second = bank().masks
    changed = bank(seeds=(42, 7)).masks
    assert changed[0] == first
    assert changed[1] != second
    assert bank(seeds=(42, 42)).masks == (first, second)
    with pytest.raises(ValidationError, match="3 seeds for 2 masks"):
        BankConfig(masks=2, seeds=(1, 2, 3))


def test_one_mask_is_that_of_the_mean() -> None:
    frame = Frame.of(MATRIX, BLOCK, 3)
    single, clusters = banks.build(maps(), frame, BankConfig(masks=1))
    mean = maps().values.mean(0)
    assert torch.allclose(single.centroids[0], mean, atol=1e-6)
    assert not clusters.labels.any()
    assert single.masks[0] == informed_mask(clusters.centroids[0], frame, DrawRule())


def test_masks_and_centroids_move_together() -> None:
    made = bank()
    turned = made.permuted((1, 0))
    assert turned.masks == made.masks[::-1]
    assert torch.equal(turned.centroids, made.centroids.flip(0))
    assert turned.populations == made.populations[::-1]
    assert turned.masks[turned.best] == made.masks[made.best]
    assert turned.permuted((1, 0)).fingerprint == made.fingerprint
    with pytest.raises(UsageError, match="no order"):
        made.permuted((0, 0))


def test_best_is_the_most_populated_until_losses_are_known() -> None:
    made = bank()
    assert made.best == 0
    assert made.with_best(torch.tensor([[0.3, 0.1], [0.2, 0.3]])).best == 1
    for losses in (torch.zeros(3, 3), torch.zeros(0, 2), torch.tensor([[0.1, torch.nan]])):
        with pytest.raises(BadInputError):
            made.with_best(losses)


@pytest.mark.parametrize("block", [BLOCK, (3,)])
def test_refinement_raises_every_mask_on_its_own_slices(block: tuple[int, ...]) -> None:
    frame = Frame.of(MATRIX, block, 3)
    found = maps(block=BLOCK if len(block) == 2 else (MATRIX[0], block[0]))
    made, clusters = banks.build(found, frame, BankConfig(masks=2))

    def scorer_of(members: torch.Tensor) -> CapturedVariance:
        return CapturedVariance(found.values[members])

    better = banks.refine(
        made, clusters.labels, scorer_of, RefineConfig(draws=6, evaluations=300), [DrawRule()] * 2
    )
    for index in range(2):
        scorer = scorer_of(torch.nonzero(clusters.labels == index).flatten())
        before, after = scorer(made.masks[index]), scorer(better.masks[index])
        assert after > before
        assert better.provenance["refined"]["scores"][index] == pytest.approx([before, after])
        best = informed_mask(
            found.values[clusters.labels == index].mean(0), frame, DrawRule(sort_fraction=1)
        )
        assert after <= scorer(best) + 1e-9
        assert better.masks[index].budget == frame.budget
    assert torch.equal(better.centroids, made.centroids)
    # No mask is better for a cluster than its own.
    for members in (clusters.labels == 0, clusters.labels == 1):
        scores = [scorer_of(torch.nonzero(members).flatten())(mask) for mask in better.masks]
        assert scores[int(clusters.labels[members][0])] == max(scores)
    # Without draws and swaps of their own, clusters still share what there is.
    shared = banks.refine(
        made, clusters.labels, scorer_of, RefineConfig(draws=1, evaluations=1), [DrawRule()] * 2
    )
    for index, mask in enumerate(shared.masks):
        scorer = scorer_of(torch.nonzero(clusters.labels == index).flatten())
        assert scorer(mask) == max(scorer(each) for each in made.masks)
        assert mask in made.masks


@pytest.mark.parametrize("block", [BLOCK, (3,)])
def test_round_trip(block: tuple[int, ...], tmp_path: Path) -> None:
    made = bank(block).with_best(torch.tensor([[0.3, 0.1]]))
    banks.save(made, tmp_path / "bank")
    again = banks.load(tmp_path / "bank")
    assert again.masks == made.masks
    assert torch.equal(again.centroids, made.centroids)
    assert (again.populations, again.best, again.coils) == (made.populations, 1, made.coils)
    assert again.provenance == made.provenance
    assert again.fingerprint == made.fingerprint
    with pytest.raises(BadInputError, match="exists already"):
        banks.save(made, tmp_path / "bank")
    banks.save(bank(block), tmp_path / "bank", overwrite=True)
    assert banks.load(tmp_path / "bank").best == 0
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


def test_damage_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "bank"
    banks.save(bank(), folder)
    original = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(original) == {
        "bank.json",
        "mask-0.json",
        "mask-1.json",
        "centroids.safetensors",
        "manifest.json",
    }
    for name, data in original.items():
        for damaged in (data[:-9], data.replace(b"1", b"2", 1), None):
            if damaged is None:
                (folder / name).unlink()
            else:
                (folder / name).write_bytes(damaged)
            with pytest.raises(BadInputError):
                banks.load(folder)
            (folder / name).write_bytes(data)
    assert banks.load(folder).fingerprint == bank().fingerprint
    with pytest.raises(BadInputError, match="manifest is missing"):
        banks.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema_version", 2),
        ("best", 2),
        ("best", 1),
        ("populations", [1]),
        ("populations", [1, 1, 1]),
        ("surprise", 0),
    ],
)
def test_altered_banks_are_refused(tmp_path: Path, key: str, value: object) -> None:
    folder = tmp_path / "bank"
    banks.save(bank(), folder)
    file = folder / "bank.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    write_manifest(folder)
    with pytest.raises(BadInputError):
        banks.load(folder)


def test_other_centroids_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "bank"
    banks.save(bank(), folder)
    save_file({"others": torch.zeros(2, *MATRIX)}, folder / "centroids.safetensors")
    write_manifest(folder)
    with pytest.raises(BadInputError, match="do not fit together"):
        banks.load(folder)


def test_swapped_masks_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "bank"
    banks.save(bank(), folder)
    first, second = folder / "mask-0.json", folder / "mask-1.json"
    swapped = second.read_bytes(), first.read_bytes()
    first.write_bytes(swapped[0])
    second.write_bytes(swapped[1])
    write_manifest(folder)
    with pytest.raises(BadInputError, match="changed since it was written"):
        banks.load(folder)


def test_parts_that_do_not_fit_are_refused() -> None:
    made = bank()
    other = informed_mask(made.centroids[0], Frame.of(MATRIX, BLOCK, 4), DrawRule())
    moved = informed_mask(
        made.centroids[0], Frame(made.frame.encoded, (5, 4), made.frame.budget), DrawRule()
    )
    for masks in ((made.masks[0], other), (made.masks[0], moved), made.masks[:1], ()):
        with pytest.raises(BadInputError, match="do not fit together"):
            MaskBank(masks, made.centroids, made.populations)
    for centroids in (made.centroids[:, 1:], made.centroids / 0, -made.centroids):
        with pytest.raises(BadInputError, match="do not fit together"):
            MaskBank(made.masks, centroids, made.populations)
    with pytest.raises(BadInputError, match="do not fit together"):
        MaskBank(made.masks, made.centroids, made.populations, best=2)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(BadInputError, match="another matrix"):
        banks.build(maps(), Frame.of((18, 22), BLOCK, 3), BankConfig(masks=2))
    with pytest.raises(BadInputError, match="fewer training slices"):
        banks.build(maps(2), Frame.of(MATRIX, BLOCK, 3), BankConfig(masks=3))
    with pytest.raises(ValidationError):
        BankConfig(mask=3)


def test_reassigned_slices_move_centroids_and_masks() -> None:
    made, found = bank(), maps()
    labels = torch.zeros(24, dtype=torch.int64)
    labels[:6] = 1
    moved = banks.reassign(made, found, labels, [DrawRule()] * 2)
    assert moved.populations == (18, 6)
    for index, centroid in enumerate(moved.centroids):
        torch.testing.assert_close(centroid, found.values[labels == index].mean(0))
        assert moved.masks[index] == informed_mask(centroid, made.frame, DrawRule())
    emptied = banks.reassign(made, found, torch.ones(24, dtype=torch.int64), [DrawRule()] * 2)
    assert emptied.populations == (0, 24)
    assert emptied.best == 1
    assert emptied.masks[0] == made.masks[0]
    assert torch.equal(emptied.centroids[0], made.centroids[0])
