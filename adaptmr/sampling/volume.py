"""One mask for all slices of a volume, which a 3-D scan needs: its slices share one mask."""

import hashlib
from collections.abc import Sequence

import numpy as np

from adaptmr.data.scan import Scan
from adaptmr.errors import BadInputError
from adaptmr.sampling.bank import MaskBank
from adaptmr.sampling.decision import Decision
from adaptmr.sampling.selection import Adaptation, select


def for_volume(decisions: Sequence[Decision], bank: MaskBank) -> Decision:
    """The choice for a volume from the choices of its slices.

    The scores of the slices that could be judged are averaged, and the distances likewise. When
    none could be judged, the volume gets the bank's fixed best mask.

    Args:
        decisions: of all slices of one scan, by one rule.
        bank: the bank they were chosen from.

    Returns:
        A decision without a slice index; its latency is that of all slices together.

    Raises:
        BadInputError: there are no decisions, or they are of different rules, banks or samplers.
    """
    kinds = {(each.selector, each.bank, each.sampler) for each in decisions}
    if len(kinds) != 1 or decisions[0].bank != bank.fingerprint:
        raise BadInputError(
            "the slices were not decided on alike",
            field="decisions",
            got=f"{len(decisions)} decisions of {len(kinds)} kinds",
            expected="at least one, all of one selector and sampler, and of this bank",
        )
    judged = [each for each in decisions if not each.fallback]
    scores = _means([each.scores for each in judged])
    index = bank.best if scores is None else int(np.argmax(scores))
    left_out = len(decisions) - len(judged)
    return decisions[0].model_copy(
        update={
            "slice_index": None,
            "index": index,
            "scores": (None,) * len(bank) if scores is None else scores,
            "distances": _means([each.distances for each in judged]),
            "others": {},
            "fallback": not judged,
            "reason": f"{left_out} of {len(decisions)} slices could not be judged"
            if left_out
            else None,
            "samples": _total([each.samples for each in decisions]),
            "rejected": _total([each.rejected for each in decisions]),
            "inputs": hashlib.sha256(
                "".join(each.inputs for each in decisions).encode()
            ).hexdigest(),
            "mask": bank.masks[index].fingerprint,
            "latency_ms": sum(each.latency_ms for each in decisions),
        }
    )


def select_scan(scan: Scan, adaptation: Adaptation) -> tuple[Decision, ...]:
    """Choose a mask for every slice of a scan; those of a 3-D scan (``phase_axes`` 2) share one.

    Raises:
        BadInputError: as `adaptmr.sampling.selection.select`.
        UsageError: as there.
    """
    decisions = select(scan, adaptation)
    return (for_volume(decisions, adaptation.bank),) if scan.header.phase_axes == 2 else decisions


def _means(rows: Sequence[tuple[float | None, ...] | None]) -> tuple[float, ...] | None:
    known = [row for row in rows if row is not None]
    if not known:
        return None
    return tuple(float(mean) for mean in np.mean(np.array(known, dtype=np.float64), axis=0))


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
