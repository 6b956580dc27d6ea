"""From a scan to images, intervals and the record of the choice, in memory that stays flat.

Slices of one pair are reconstructed together, ``batch_size`` at a time. Nothing is computed before
it is read: a reconstruction is a stack for the images and one for each bound, all of which are
served from one window of slices that is kept.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Final, TypeVar

import torch
from torch import Tensor, nn

from adaptmr.data.crop import center_crop
from adaptmr.data.scan import Header, Scan, Stack
from adaptmr.data.target import image_size
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.bank.choice import Choice, choose
from adaptmr.reconstruction.calibration.control import Refusal
from adaptmr.reconstruction.calibration.intervals import Calibration
from adaptmr.reconstruction.classical import ZeroFilled
from adaptmr.reconstruction.reconstructor import Reconstructor
from adaptmr.sampling.decision import Decision
from adaptmr.sampling.mask import Mask

CPU: Final = torch.device("cpu")
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class BankReconstruction:
    """A scan reconstructed by a bank, computed as it is read.

    Read the slices in order, all three stacks of a slice before the next: `slices` does.

    Attributes:
        image: (slices, rows, columns) float32 magnitude, cropped to the scan's image size.
        lower: (slices, rows, columns) float32 lower bounds; None where nothing can be promised.
        upper: the same, upper bounds.
        why_no_interval: why there are no bounds; None where there are.
        decisions: one for each slice, or one for all slices together.
        acceleration: measured, mean over the slices.
        notes: what a person should know of the choice or the bounds.
    """

    image: Stack
    lower: Stack | None
    upper: Stack | None
    why_no_interval: str | None
    decisions: tuple[Decision, ...]
    acceleration: float
    notes: tuple[str, ...]

    @property
    def stacks(self) -> dict[str, Stack]:
        """``reconstruction``, and ``lower`` and ``upper`` where there are any."""
        named = {"reconstruction": self.image, "lower": self.lower, "upper": self.upper}
        return {name: stack for name, stack in named.items() if stack is not None}

    def slices(self) -> Iterator[dict[str, Tensor]]:
        """What `stacks` holds, slice by slice, (rows, columns) each."""
        for index in range(len(self.image)):
            yield {name: stack[index] for name, stack in self.stacks.items()}


def reconstruct(
    bank: ReconstructionBank,
    scan: Scan,
    *,
    batch_size: int = 4,
    device: torch.device = CPU,
    nearest: bool = False,
) -> BankReconstruction:
    """Choose the pair of every slice now; reconstruct when the result is read.

    The choice is made on ``device`` too, where its random numbers come from. The image of a slice
    does not depend on the slices beside it, but for rounding in float32.

    Args:
        bank: the bank.
        scan: fully sampled, of which all outside the chosen masks is hidden; or acquired with a
            mask of the bank.
        batch_size: slices at once; halved when memory runs out.
        device: where to compute; the results are on the CPU.
        nearest: as for `adaptmr.reconstruction.bank.choice.choose`.

    Raises:
        BadInputError: the scan does not fit the bank; while reading, also: a slice cannot be read,
            or does not fit in memory.
    """
    adaptation = bank.adaptation
    if bank.sampler is not None:
        adaptation = replace(adaptation, sampler=_on(bank.sampler, device))
    placed = replace(scan, kspace=Stack(scan.kspace.shape, partial(_read_to, scan, device)))
    with torch.inference_mode():
        choice = choose(placed, bank, adaptation, nearest=nearest)
    calibration, refusal, pooled = _calibration(bank, scan, choice)
    run = _Run(bank, placed, choice, calibration, device, batch_size)
    rows, columns = image_size(scan)

    def stack(part: int) -> Stack:
        return Stack((scan.slices, rows, columns), partial(run.read, part))

    pairs = [choice.pair(index) for index in range(scan.slices)]
    return BankReconstruction(
        image=stack(0),
        lower=None if calibration is None else stack(1),
        upper=None if calibration is None else stack(2),
        why_no_interval=refusal,
        decisions=choice.decisions,
        acceleration=sum(choice.masks[pair].acceleration for pair in pairs) / max(1, len(pairs)),
        notes=choice.notes + (() if pooled is None else (f"interval of all strata: {pooled}",)),
    )


def image_and_width(
    network: Reconstructor, width: nn.Module | None, kspace: Tensor, mask: Mask
) -> tuple[Tensor, Tensor | None]:
    """What a pair makes of slices; a calibration has to measure just this.

    Args:
        network: the pair's.
        width: the bank's.
        kspace: (batch, coil, readout, phase); positions outside the mask are not looked at.
        mask: the pair's.

    Returns:
        Images (batch, readout, phase), and the widths of their intervals before calibration.
    """
    measured = mask.apply(kspace)
    image = network(measured, mask)
    return image, None if width is None else width(image, ZeroFilled()(measured, mask))


def stratum(header: Header) -> str:
    """What a scan is calibrated together with: contrast and orientation."""
    return f"{header.acquisition or 'unknown'}, {header.orientation or 'unknown'}"


class _Run:
    """One scan, reconstructed window by window; the last window is kept."""

    def __init__(
        self,
        bank: ReconstructionBank,
        scan: Scan,
        choice: Choice,
        calibration: Calibration | None,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self._bank, self._scan, self._choice = bank, scan, choice
        self._calibration = calibration
        self._batch_size = max(1, batch_size)
        # Long enough to fill a batch of every pair; what is kept grows with the batch size only.
        self._length = self._batch_size * len({one.index for one in choice.decisions})
        self._network = lru_cache(None)(lambda pair: _on(bank.networks[pair], device))
        self._width = None if bank.width is None else _on(bank.width, device)
        self._window = lru_cache(1)(self._compute)

    def read(self, part: int, start: int, stop: int) -> Tensor:
        """Image (part 0), lower (1) or upper bound (2) of slices, (stop - start, rows, columns)."""
        pieces = [torch.empty(0, *image_size(self._scan))]
        windows = range(start // self._length, -(-stop // self._length))
        for number in windows if stop > start else ():
            first = number * self._length
            piece = self._window(number)[:, part]
            pieces.append(piece[max(0, start - first) : max(0, stop - first)])
        return torch.cat(pieces)

    def _compute(self, number: int) -> Tensor:
        """(slices, parts, rows, columns) of a window."""
        first = number * self._length
        members: dict[int, list[int]] = {}
        for index in range(first, min(first + self._length, self._scan.slices)):
            members.setdefault(self._choice.pair(index), []).append(index)
        images: dict[int, Tensor] = {}
        with torch.inference_mode():
            for pair, slices in sorted(members.items()):
                images.update(zip(slices, self._batches(pair, slices), strict=True))
        return torch.stack([images[index] for index in sorted(images)])

    def _batches(self, pair: int, slices: Sequence[int]) -> Iterator[Tensor]:
        """(parts, rows, columns) of each slice, in batches that fit in memory."""
        done = 0
        while done < len(slices):
            some = slices[done : done + self._batch_size]
            found = _unless_out_of_memory(partial(self._batch, pair, some))
            if found is not None:
                yield from found
                done += len(some)
            elif len(some) > 1:
                self._batch_size = len(some) // 2
            else:
                raise BadInputError(
                    "one slice alone does not fit in memory",
                    file=self._scan.name,
                    slice_index=some[0],
                    got=f"{self._scan.coils} coils of {self._scan.matrix}",
                    hint="Compute on a device with more memory, or compress the coils",
                )

    def _batch(self, pair: int, slices: Sequence[int]) -> Tensor:
        """(batch, parts, rows, columns) float32 on the CPU."""
        kspace = torch.cat([self._scan.kspace[index : index + 1] for index in slices])
        image, width = image_and_width(
            self._network(pair), self._width, kspace, self._choice.masks[pair]
        )
        size = image_size(self._scan)
        image = center_crop(image, size).float().cpu()
        if self._calibration is None or width is None:
            return image[:, None]
        name = stratum(self._scan.header)
        interval = self._calibration.interval(image, center_crop(width, size).float().cpu(), name)
        assert not isinstance(interval, Refusal)  # noqa: S101 - `_calibration` asked before
        return torch.stack((image, interval.lower, interval.upper), 1)


def _calibration(
    bank: ReconstructionBank, scan: Scan, choice: Choice
) -> tuple[Calibration | None, str | None, str | None]:
    """The calibration, or why it promises nothing for this scan; why that of all strata is used."""
    if bank.width is None or bank.calibration is None:
        return None, "the bank was not calibrated", None
    if choice.foreign is not None:
        return None, f"the calibration is of other scans: {choice.foreign}", None
    used, pooled = bank.calibration.used(stratum(scan.header))
    if used.factor is None:
        return None, f"{pooled}; all strata: {used.reason}", None
    return bank.calibration, None, pooled


def _read_to(scan: Scan, device: torch.device, start: int, stop: int) -> Tensor:
    return scan.kspace[start:stop].to(device)


def _on(module: Module, device: torch.device) -> Module:
    """The module itself where it is on the device already, else a copy: a bank never changes."""
    parameter = next(module.parameters(), None)
    if parameter is None or parameter.device == device:
        return module
    return copy.deepcopy(module).to(device)


def _unless_out_of_memory(work: Callable[[], Tensor]) -> Tensor | None:
    """What the work gives; None when memory ran out, with all that it had taken let go."""
    try:
        return work()
    except MemoryError:
        pass
    except RuntimeError as error:
        text = str(error).lower()
        short = "not enough memory" in text or "can't allocate memory" in text
        if not (short or isinstance(error, torch.OutOfMemoryError)):
            raise
    torch.cuda.empty_cache()
    return None
