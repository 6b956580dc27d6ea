"""Which pair of a bank reconstructs each slice of a scan, and with which mask.

A fully sampled scan is acquired in retrospect: the selector chooses from the low frequencies, and
the rest of k-space is hidden. An undersampled scan has its mask already, which decides.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from torch import Tensor

from adaptmr.data.scan import Scan, Stack
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.sampling.bank import MaskBank
from adaptmr.sampling.decision import Decision, versions
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.selection import Adaptation, check_matrix, foreign_coils
from adaptmr.sampling.volume import select_scan

AS_ACQUIRED: Final = "as acquired"
"""Selector of a decision that the scan's own mask made, which is one of the bank's."""
NEAREST_MASK: Final = "nearest mask"
"""Selector of a decision for the mask that is most like the scan's own, which the bank lacks."""

# Points that may be zero in all coils by chance: few bits, few coils. Undersampling leaves more.
_STRAY: Final = 0.05


@dataclass(frozen=True, eq=False)
class Choice:
    """The pair of every slice.

    Attributes:
        decisions: one for each slice, or one for all.
        masks: (J,) with which each pair reconstructs.
        foreign: why the pair was not made for this scan; None where it was.
        notes: what a person should know of it.
    """

    decisions: tuple[Decision, ...]
    masks: tuple[Mask, ...]
    foreign: str | None = None
    notes: tuple[str, ...] = ()

    def pair(self, index: int) -> int:
        """The pair of a slice."""
        return self.decisions[index if len(self.decisions) > 1 else 0].index


def choose(
    scan: Scan, bank: ReconstructionBank, adaptation: Adaptation, *, nearest: bool = False
) -> Choice:
    """Choose the pair of every slice; the slices of a 3-D scan (``phase_axes`` 2) share one.

    Args:
        scan: fully sampled, or acquired with a mask.
        bank: the pairs.
        adaptation: the bank's, on the device that the k-space is on.
        nearest: whether a scan whose mask the bank lacks is reconstructed by the pair whose mask
            shares most positions with it, with all that was acquired.

    Raises:
        BadInputError: the scan is of another matrix, acquired with another mask (and ``nearest``
            is not allowed), holds the low frequencies alone, or calls itself fully sampled and is
            not.
    """
    begun = time.perf_counter()
    check_matrix(scan, bank.masks)
    coils = foreign_coils(scan.coils, bank.masks)
    notes: tuple[str, ...] = () if coils is None else (coils,)
    if scan.fully_sampled:
        if bank.masks.axes == 2 and scan.header.phase_axes == 1:
            notes += ("points were left out along the readout: possible only in retrospect",)
        measured = replace(
            scan,
            kspace=Stack(scan.kspace.shape, partial(_read_measured, scan, bank.masks.axes)),
        )
        decisions = select_scan(measured, adaptation)
        notes = tuple(dict.fromkeys(notes + _reasons(decisions)))
        return Choice(decisions, bank.masks.masks, coils, notes)

    acquired = Mask.of_acquired(scan.acquired & scan.encoded, scan.encoded)
    shared = [overlap(acquired, mask, scan.matrix) for mask in bank.masks.masks]
    index = int(np.argmax(shared))
    if shared[index] == 1:
        record = _acquired_decision(bank.masks, index, shared, acquired, None, begun)
        return Choice((record,), bank.masks.masks, coils, notes)
    if acquired == acquired.low_frequency_only():
        raise _only_low_frequencies(scan, acquired, bank.masks, select_scan(scan, adaptation))
    if not nearest:
        raise BadInputError(
            "the scan was acquired with a mask that the bank does not have",
            file=scan.name,
            field="acquired",
            got=f"{acquired.budget} positions, {acquired.acceleration:.2f}x;"
            f" mask {index} shares {shared[index]:.0%} of the union",
            expected=f"one of the bank's {len(bank)} masks",
            hint="Allow the pair of that mask with --nearest, or reconstruct with --method",
        )
    flag = (
        f"acquired with a mask that the bank does not have: reconstructed by pair {index}, whose"
        f" mask shares {shared[index]:.0%} of the union"
    )
    used = with_block(acquired, bank.masks, scan)
    record = _acquired_decision(bank.masks, index, shared, acquired, flag, begun)
    return Choice((record,), (used,) * len(bank), flag, (*notes, flag))


def require_measured(kspace: Tensor, scan: Scan, axes: int, slice_index: int) -> None:
    """Refuse a slice that holds zeros where its scan says that it was measured.

    Measured samples carry noise, so a column (for masks of points: more than a few points) that is
    exactly zero in all coils was never measured. A slice without any signal passes.

    Args:
        kspace: (coil, readout, phase).
        scan: where the slice belongs.
        axes: 1 for masks of lines, 2 for masks of points.
        slice_index: for the message.

    Raises:
        BadInputError: otherwise.
    """
    measured = (kspace != 0).any(0).cpu()
    if not bool(measured.any()):
        return
    exists = scan.encoded.expand(scan.matrix)
    columns = exists.any(0) & ~(measured & exists).any(0)
    points = exists & ~measured
    if bool(columns.any()):
        got = f"{int(columns.sum())} of {int(exists.any(0).sum())} columns are zero"
    elif axes == 2 and int(points.sum()) > _STRAY * int(exists.sum()):
        got = f"{int(points.sum())} of {int(exists.sum())} positions are zero"
    else:
        return
    raise BadInputError(
        "the scan is given as fully sampled, but was not measured everywhere",
        file=scan.name,
        slice_index=slice_index,
        field="kspace",
        got=f"{got} in all coils",
        expected="measured samples, which are never exactly zero",
        hint="Store the positions acquired with the scan (fastMRI: dataset 'mask')",
    )


def _read_measured(scan: Scan, axes: int, start: int, stop: int) -> Tensor:
    kspace = scan.kspace[start:stop]
    for index, one in enumerate(kspace, start):
        require_measured(one, scan, axes, index)
    return kspace


def _reasons(decisions: Sequence[Decision]) -> tuple[str, ...]:
    """What to say of slices that could not be judged, once for each reason."""
    reasons = [each.reason for each in decisions if each.reason is not None]
    return tuple(
        reason
        if len(decisions) == 1
        else f"{reasons.count(reason)} of {len(decisions)} slices got the fixed best mask: {reason}"
        for reason in dict.fromkeys(reasons)
    )


def overlap(one: Mask, other: Mask, matrix: tuple[int, int]) -> float:
    """Positions in both over positions in either; 1 only for masks that acquire the same."""
    first, second = (np.broadcast_to(each.positions, matrix) for each in (one, other))
    return float((first & second).sum() / (first | second).sum())


def with_block(acquired: Mask, bank: MaskBank, scan: Scan) -> Mask:
    """The positions acquired, with no larger a low-frequency block than the pairs were made for."""
    wanted = bank.block if acquired.axes == 2 else bank.block[1:]
    held = tuple(min(sizes) for sizes in zip(acquired.low_frequency, wanted, strict=True))
    if not all(held):
        raise BadInputError(
            "the centre of k-space was not acquired",
            file=scan.name,
            field="acquired",
            expected=f"a block of {bank.block} about the centre",
        )
    return replace(acquired, low_frequency=held)


def _acquired_decision(
    bank: MaskBank,
    index: int,
    shared: Sequence[float],
    acquired: Mask,
    flag: str | None,
    begun: float,
) -> Decision:
    return Decision(
        slice_index=None,
        index=index,
        selector=AS_ACQUIRED if flag is None else NEAREST_MASK,
        scores=tuple(shared),
        distances=None,
        fallback=False,
        reason=flag,
        samples=None,
        rejected=None,
        inputs=acquired.fingerprint,
        bank=bank.fingerprint,
        mask=bank.masks[index].fingerprint,
        sampler=None,
        versions=versions(),
        latency_ms=1000 * (time.perf_counter() - begun),
    )


def _only_low_frequencies(
    scan: Scan, acquired: Mask, bank: MaskBank, decisions: Sequence[Decision]
) -> BadInputError:
    held = np.broadcast_to(acquired.positions, scan.matrix)
    missing = []
    for index in sorted({each.index for each in decisions}):
        mask = bank.masks[index]
        lacking = np.broadcast_to(mask.positions, scan.matrix) & ~held
        lines = np.flatnonzero(lacking.any(0)).tolist()
        missing.append(
            f"columns {', '.join(map(str, lines))} of mask {index}"
            if mask.axes == 1
            else f"{int(lacking.sum())} positions of mask {index}"
        )
    return BadInputError(
        "only the low frequencies were acquired",
        file=scan.name,
        field="acquired",
        got=f"a block of {acquired.low_frequency} about the centre",
        expected=f"besides, {' or '.join(missing)}",
        hint="`adaptmr select` chooses the mask of each slice and lists its positions: acquire"
        " those, then reconstruct",
    )
