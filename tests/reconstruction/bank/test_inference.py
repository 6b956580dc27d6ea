"""From a scan to images: by the right pair, from what its mask acquired, in batches that fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_banks import COILS, MATRIX, Change, Parts, acquired_with, calibrated, scan_of
from torch import Tensor, nn

from adaptmr.data.crop import center_crop
from adaptmr.data.scan import Scan, Stack
from adaptmr.data.target import image_size
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.inference import (
    BankReconstruction,
    image_and_width,
    reconstruct,
    stratum,
)
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.selection import select
from adaptmr.sampling.selector import FixedBest, Uniform


def everything(done: BankReconstruction) -> dict[str, Tensor]:
    """All that was computed, read slice by slice."""
    slices = list(done.slices())
    return {name: torch.stack([one[name] for one in slices]) for name in slices[0]}


def images(bank: ReconstructionBank, scan: Scan, **how: object) -> Tensor:
    return everything(reconstruct(bank, scan, **how))["reconstruction"]  # type: ignore[arg-type]


def mixed(bank: ReconstructionBank) -> ReconstructionBank:
    """The bank with a selector whose choices differ from slice to slice."""
    return replace(bank, selector=Uniform(seed=1))


def repeated(scan: Scan, times: int) -> Scan:
    """The scan with other noise in each copy of its slices."""
    kspace = scan.kspace[:].repeat(times, 1, 1, 1)
    noise = torch.randn(
        kspace.shape, generator=torch.Generator().manual_seed(0), dtype=kspace.dtype
    )
    return replace(scan, kspace=Stack.of(kspace + 0.01 * kspace.abs().amax() * noise), target=None)


def loud(kspace: Tensor, count: int) -> Tensor:
    """Numbers with a structure of their own, far above all else."""
    return (1e3 * kspace.abs().max() * torch.arange(1, count + 1)).to(kspace.dtype)


class Recording(nn.Module):
    """The zero-filled image of the first coil, with what came in."""

    def __init__(self, most: int = 10**6, error: type[Exception] = RuntimeError) -> None:
        super().__init__()
        self.most, self.error = most, error
        self.seen: list[Tensor] = []
        self.tried: list[int] = []

    def forward(self, kspace: Tensor, _mask: Mask) -> Tensor:
        self.tried.append(len(kspace))
        if len(kspace) > self.most:
            raise self.error("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        self.seen.append(kspace)
        return kspace[:, 0].abs()


def with_network(bank: ReconstructionBank, network: nn.Module) -> ReconstructionBank:
    return replace(bank, networks=[network] * len(bank))  # type: ignore[list-item]


def test_each_slice_is_its_pairs(bank: ReconstructionBank, lines: Parts) -> None:
    scan, several = repeated(scan_of(lines), 3), mixed(bank)
    done = several.reconstruct(scan, batch_size=3)
    assert [one.slice_index for one in done.decisions] == list(range(12))
    assert len({one.index for one in done.decisions}) == 3
    assert done.acceleration == pytest.approx(bank.masks.masks[0].acceleration)
    expected = []
    for index, decision in enumerate(done.decisions):
        with torch.inference_mode():
            image = bank.networks[decision.index](
                scan.kspace[index : index + 1], bank.masks.masks[decision.index]
            )
        expected.append(center_crop(image, image_size(scan))[0])
    # Convolutions of a batch may round otherwise than those of a slice.
    found = everything(done)["reconstruction"]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-6 * found.max())
    assert found.dtype == torch.float32


def test_the_choice_is_that_of_select(bank: ReconstructionBank, lines: Parts) -> None:
    scan = scan_of(lines)
    done = bank.reconstruct(scan)
    expected = select(scan, bank.adaptation)
    assert [one.choice for one in done.decisions] == [one.choice for one in expected]
    assert not any(one.fallback for one in done.decisions)
    assert done.notes == ()


def test_stacks_are_read_in_any_order(bank: ReconstructionBank, lines: Parts) -> None:
    scan = repeated(scan_of(lines), 2)
    done = mixed(bank).reconstruct(scan, batch_size=1)
    whole = done.image[:]
    assert tuple(whole.shape) == done.image.shape == (8, *image_size(scan))
    assert torch.equal(done.image[5], whole[5])
    assert torch.equal(done.image[2:7], whole[2:7])
    assert done.image[3:3].shape == (0, *image_size(scan))


def test_only_slices_asked_for_are_read(bank: ReconstructionBank, lines: Parts) -> None:
    scan, read = repeated(scan_of(lines), 4), []

    def reading(start: int, stop: int) -> Tensor:
        read.append((start, stop))
        return scan.kspace.read(start, stop)

    watched = replace(scan, kspace=Stack(scan.kspace.shape, reading))
    done = replace(bank, selector=FixedBest()).reconstruct(watched, batch_size=2)
    assert read == [(index, index + 1) for index in range(16)]  # for the choice
    read.clear()
    for index, _ in enumerate(done.slices()):
        assert len(read) == 2 * (index // 2 + 1)  # each window once, when its first slice is read


def test_the_rest_of_k_space_is_not_seen(bank: ReconstructionBank, lines: Parts) -> None:
    scan, several = scan_of(lines), mixed(bank)
    done = calibrated(several).reconstruct(scan)
    other = scan.kspace[:]
    for index, decision in enumerate(done.decisions):
        hidden = ~bank.masks.masks[decision.index].tensor().expand(MATRIX)
        other[index][:, hidden] = loud(other, int(hidden.sum()))
    again = calibrated(several).reconstruct(replace(scan, kspace=Stack.of(other)))
    assert [one.choice for one in again.decisions] == [one.choice for one in done.decisions]
    first, second = everything(done), everything(again)
    assert first.keys() == {"reconstruction", "lower", "upper"}
    for name, values in first.items():
        assert torch.equal(second[name], values)
    recording = Recording()
    images(with_network(several, recording), replace(scan, kspace=Stack.of(other)))
    assert max(float(seen.abs().max()) for seen in recording.seen) <= scan.kspace[:].abs().max()


def test_outside_the_block_nothing_is_decided(bank: ReconstructionBank, lines: Parts) -> None:
    scan = scan_of(lines)
    outside = ~bank.masks.masks[0].low_frequency_only().tensor().expand(MATRIX)
    other = scan.kspace[:]
    other[..., outside] = loud(other, int(outside.sum()))
    again = bank.reconstruct(replace(scan, kspace=Stack.of(other)))
    expected = bank.reconstruct(scan)
    assert [one.choice for one in again.decisions] == [one.choice for one in expected.decisions]


def test_masks_and_networks_move_together(bank: ReconstructionBank, lines: Parts) -> None:
    scan, order = scan_of(lines), [2, 0, 1]
    moved = replace(
        bank, masks=bank.masks.permuted(order), networks=[bank.networks[j] for j in order]
    )
    here, there = bank.reconstruct(scan), moved.reconstruct(scan)
    assert [order[one.index] for one in there.decisions] == [one.index for one in here.decisions]
    assert torch.equal(everything(here)["reconstruction"], everything(there)["reconstruction"])


def one_pair(bank: ReconstructionBank, pair: int) -> ReconstructionBank:
    """The bank of one of the pairs alone."""
    masks = replace(
        bank.masks,
        masks=(bank.masks.masks[pair],),
        centroids=bank.masks.centroids[pair : pair + 1],
        populations=(bank.masks.populations[pair],),
        best=0,
    )
    return replace(bank, masks=masks, networks=[bank.networks[pair]])


def test_one_pair_is_a_plain_network(bank: ReconstructionBank, lines: Parts) -> None:
    scan = scan_of(lines)
    with torch.inference_mode():
        plain = bank.networks[1](scan.kspace[:], bank.masks.masks[1])
    expected = center_crop(plain, image_size(scan))
    single = one_pair(bank, 1)
    assert torch.equal(images(single, scan), expected)
    without = replace(single, selector=FixedBest(), sampler=None, sampler_fingerprint=None)
    assert torch.equal(images(without, scan), expected)


def test_equal_pairs_leave_nothing_to_choose(bank: ReconstructionBank, lines: Parts) -> None:
    scan = scan_of(lines)
    masks = replace(bank.masks, masks=(bank.masks.masks[0],) * 3)
    alike = replace(bank, masks=masks, networks=[bank.networks[0]] * 3)
    expected = images(alike, scan, batch_size=1)
    for selector in (FixedBest(), Uniform(seed=1), Uniform(seed=2)):
        other = replace(alike, selector=selector)
        assert torch.equal(images(other, scan, batch_size=1), expected)


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, torch.OutOfMemoryError])
def test_batches_are_halved_until_they_fit(
    bank: ReconstructionBank, lines: Parts, error: type[Exception]
) -> None:
    scan = repeated(scan_of(lines), 4)
    fixed, recording = replace(bank, selector=FixedBest()), Recording(3, error)
    found = images(with_network(fixed, recording), scan, batch_size=8)
    assert recording.tried == [8, 4, *[2] * 8]  # once halved, never tried again
    assert torch.equal(found, images(with_network(fixed, Recording()), scan, batch_size=8))


def test_a_slice_that_does_not_fit(bank: ReconstructionBank, lines: Parts) -> None:
    recording = Recording(0)
    done = with_network(bank, recording).reconstruct(scan_of(lines), batch_size=4)
    with pytest.raises(BadInputError, match="one slice alone does not fit in memory") as refused:
        done.image[0]
    assert recording.tried[-1] == 1
    assert refused.value.slice_index is not None


def test_other_errors_are_told_as_they_are(bank: ReconstructionBank, lines: Parts) -> None:
    class Broken(nn.Module):
        def forward(self, _kspace: Tensor, _mask: Mask) -> Tensor:
            raise RuntimeError("sizes do not match")

    done = with_network(bank, Broken()).reconstruct(scan_of(lines))
    with pytest.raises(RuntimeError, match="sizes do not match"):
        done.image[0]


def test_intervals(bank: ReconstructionBank, lines: Parts) -> None:
    scan = scan_of(lines)
    done = calibrated(bank).reconstruct(scan)
    assert done.why_no_interval is None
    assert done.notes == ("interval of all strata: stratum 'AXT2, axial': not calibrated",)
    found = everything(done)
    for index, decision in enumerate(done.decisions):
        with torch.inference_mode():
            image, width = image_and_width(
                bank.networks[decision.index],
                Change(),
                scan.kspace[index : index + 1],
                bank.masks.masks[decision.index],
            )
        assert width is not None
        image, width = (center_crop(each, image_size(scan)) for each in (image, width))
        half = 2 * (width + 0.01 * image.max())
        for name, expected in (
            ("reconstruction", image),
            ("lower", (image - half).clamp(min=0)),
            ("upper", image + half),
        ):
            torch.testing.assert_close(found[name][index], expected[0], rtol=1e-4, atol=1e-6)


def test_why_there_are_no_intervals(bank: ReconstructionBank, lines: Parts) -> None:
    scan = scan_of(lines)
    foreign = replace(bank, masks=replace(bank.masks, coils=(8,)))
    other = acquired_with(scan, shifted(bank.masks.masks[0]))
    for made, what, why in (
        (bank, scan, "was not calibrated"),
        (calibrated(bank, None), scan, "stratum 'AXT2, axial': not calibrated; all strata: 2"),
        (calibrated(foreign), scan, "2 coils; the bank was made from scans of 8"),
        (calibrated(bank), other, "a mask that the bank does not have"),
    ):
        done = made.reconstruct(what, nearest=True)
        assert done.why_no_interval is not None
        assert why in done.why_no_interval
        assert (done.lower, done.upper) == (None, None)
        assert everything(done).keys() == {"reconstruction"}


def test_strata_are_contrast_and_orientation(lines: Parts) -> None:
    header = scan_of(lines).header
    assert stratum(header) == "AXT2, axial"
    assert stratum(header.model_copy(update={"orientation": None})) == "AXT2, unknown"


def shifted(mask: Mask) -> Mask:
    """The mask with one line (or point) outside the block moved to where it acquires nothing."""
    positions = mask.positions.copy()
    positions[tuple(np.argwhere(positions)[0])] = False
    positions[tuple(np.argwhere(~mask.positions)[0])] = True
    return Mask(positions, mask.low_frequency)


def test_a_three_dimensional_scan_has_one_mask(
    bank_of_points: ReconstructionBank, lines: Parts
) -> None:
    scan = scan_of(lines)
    volume = replace(scan, header=scan.header.model_copy(update={"phase_axes": 2}))
    flat, deep = bank_of_points.reconstruct(scan), bank_of_points.reconstruct(volume)
    assert len(flat.decisions) == 4
    assert flat.notes == ("points were left out along the readout: possible only in retrospect",)
    (decision,) = deep.decisions
    assert (decision.slice_index, deep.notes) == (None, ())
    recording = Recording()
    images(with_network(bank_of_points, recording), volume)
    acquired = bank_of_points.masks.masks[decision.index].tensor()
    for seen in recording.seen:
        assert torch.equal((seen != 0).any(1), acquired.expand(len(seen), *MATRIX))


@pytest.mark.parametrize("kind", ["lines", "points"])
@pytest.mark.parametrize("pair", [0, 2])
def test_a_scan_acquired_with_a_mask_of_the_bank(
    bank: ReconstructionBank,
    bank_of_points: ReconstructionBank,
    lines: Parts,
    kind: str,
    pair: int,
) -> None:
    used, scan = bank if kind == "lines" else bank_of_points, scan_of(lines)
    mask = used.masks.masks[pair]
    done = calibrated(used).reconstruct(acquired_with(scan, mask))
    (decision,) = done.decisions
    assert (decision.index, decision.selector) == (pair, "as acquired")
    assert (decision.fallback, decision.reason, decision.slice_index) == (False, None, None)
    assert decision.scores[pair] == 1
    assert decision.mask == mask.fingerprint
    assert done.why_no_interval is None
    expected = used.networks[pair](scan.kspace[:], mask).detach()
    assert torch.equal(done.image[:], center_crop(expected, image_size(scan)))


@pytest.mark.parametrize("kind", ["lines", "points"])
def test_a_scan_acquired_with_another_mask(
    bank: ReconstructionBank, bank_of_points: ReconstructionBank, lines: Parts, kind: str
) -> None:
    used, scan = bank if kind == "lines" else bank_of_points, scan_of(lines)
    mask = shifted(used.masks.masks[1])
    other = acquired_with(scan, mask)
    with pytest.raises(BadInputError, match="a mask that the bank does not have") as refused:
        used.reconstruct(other)
    assert "--nearest" in str(refused.value)
    assert "mask 1 shares" in str(refused.value)
    done = used.reconstruct(other, nearest=True)
    (decision,) = done.decisions
    overlap = (mask.budget - 1) / (mask.budget + 1)
    assert (decision.index, decision.selector) == (1, "nearest mask")
    assert decision.scores[1] == pytest.approx(overlap)
    assert decision.reason is not None
    assert done.notes == (decision.reason,)
    # All that was acquired is used, none of it hidden and nothing taken for measured that was not.
    expected = used.networks[1](scan.kspace[:], mask).detach()
    assert torch.equal(done.image[:], center_crop(expected, image_size(scan)))
    assert done.acceleration == mask.acceleration


def test_nearest_needs_the_centre(bank: ReconstructionBank, lines: Parts) -> None:
    mask = bank.masks.masks[1]
    narrow = Mask(np.roll(mask.positions, 3), (0,))
    positions = narrow.positions.copy()
    positions[MATRIX[1] // 2] = False
    with pytest.raises(BadInputError, match="centre of k-space was not acquired"):
        bank.reconstruct(acquired_with(scan_of(lines), Mask(positions, (0,))), nearest=True)


def test_only_the_low_frequencies(bank: ReconstructionBank, lines: Parts) -> None:
    scan = scan_of(lines)
    block = bank.masks.masks[0].low_frequency_only()
    only = acquired_with(scan, block)
    with pytest.raises(BadInputError, match="only the low frequencies were acquired") as refused:
        bank.reconstruct(only, nearest=True)
    text = str(refused.value)
    assert "adaptmr select" in text
    for index in {one.index for one in select(only, bank.adaptation)}:
        missing = sorted(set(bank.masks.masks[index].lines()) - set(block.lines()))
        assert f"columns {', '.join(map(str, missing))} of mask {index}" in text


def test_only_the_low_frequencies_of_points(
    bank_of_points: ReconstructionBank, lines: Parts
) -> None:
    mask = bank_of_points.masks.masks[0]
    only = acquired_with(scan_of(lines), mask.low_frequency_only())
    missing = mask.budget - mask.low_frequency_only().budget
    with pytest.raises(BadInputError, match=f"besides, {missing} positions of mask"):
        bank_of_points.reconstruct(only)


def test_another_matrix(bank: ReconstructionBank, lines: Parts) -> None:
    scan = scan_of(lines)
    kspace = scan.kspace[:][..., :-2]
    other = replace(
        scan,
        kspace=Stack.of(kspace),
        acquired=scan.acquired[:-2],
        padding=(0, MATRIX[1] - 2),
        target=None,
    )
    for how in (False, True):
        with pytest.raises(BadInputError, match="another matrix than the bank") as refused:
            bank.reconstruct(other, nearest=how)
        assert refused.value.got == (MATRIX[0], MATRIX[1] - 2)


def test_another_coil_count_is_flagged(bank: ReconstructionBank, lines: Parts) -> None:
    foreign = replace(bank, masks=replace(bank.masks, coils=(4, 8)))
    done = foreign.reconstruct(scan_of(lines))
    reason = f"{COILS} coils; the bank was made from scans of 4, 8"
    assert all(one.fallback and one.reason == reason for one in done.decisions)
    assert done.notes == (reason, f"4 of 4 slices got the fixed best mask: {reason}")
    assert torch.isfinite(done.image[:]).all()
    fixed = replace(foreign, selector=FixedBest()).reconstruct(scan_of(lines))
    assert fixed.notes == (reason,)


def test_undersampled_as_if_fully_sampled(
    bank: ReconstructionBank, bank_of_points: ReconstructionBank, lines: Parts
) -> None:
    scan = scan_of(lines)
    kspace = scan.kspace[:]
    kspace[2] = bank.masks.masks[0].apply(kspace[2])
    one_slice = replace(scan, kspace=Stack.of(kspace))
    with pytest.raises(BadInputError, match="not measured everywhere") as refused:
        bank.reconstruct(one_slice)
    assert refused.value.slice_index == 2
    missing = MATRIX[1] - bank.masks.masks[0].budget
    assert f"{missing} of {MATRIX[1]} columns are zero" in str(refused.value)

    dotted = scan.kspace[:]
    some = torch.rand(MATRIX, generator=torch.Generator().manual_seed(0)) < 0.3
    dotted[..., some] = 0
    with pytest.raises(BadInputError, match=f"{int(some.sum())} of .* positions are zero"):
        bank_of_points.reconstruct(replace(scan, kspace=Stack.of(dotted)))


def test_zeros_that_are_no_undersampling(
    bank: ReconstructionBank, bank_of_points: ReconstructionBank, lines: Parts
) -> None:
    scan = scan_of(lines)
    silent = scan.kspace[:]
    silent[1] = 0  # a slice without signal
    silent[0, :, 3, 5] = 0  # a stray zero
    for used in (bank, bank_of_points):
        done = used.reconstruct(replace(scan, kspace=Stack.of(silent)))
        assert [one.fallback for one in done.decisions] == [False, True, False, False]
        assert torch.isfinite(done.image[:]).all()


def test_padding_that_the_masks_acquire(bank: ReconstructionBank, lines: Parts) -> None:
    scan = scan_of(lines)
    with pytest.raises(BadInputError, match="zero padding"):
        bank.reconstruct(replace(scan, padding=(MATRIX[1] // 2 - 3, MATRIX[1] // 2 + 3)))
