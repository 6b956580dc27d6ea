"""The loss of every pair on every slice, and of one network under any mask."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptmr.data.scan import Scan
from adaptmr.reconstruction.reconstructor import Reconstructor
from adaptmr.reconstruction.similarity import ssim
from adaptmr.reconstruction.training.data import Batch, Plan, Slice, common_crop
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.sources import FixedMask


def dissimilarity(reconstructor: Reconstructor, batch: Batch) -> Tensor:
    """(batch,) 1 - SSIM of each slice, with its volume's maximum as data range: as trained."""
    image, target = common_crop(reconstructor(batch.kspace, batch.mask), batch.target)
    return 1 - ssim(image.float(), target, batch.data_range)


def pair_losses(
    networks: Sequence[Reconstructor],
    masks: Sequence[Mask],
    scans: Iterable[Scan],
    *,
    batch_size: int = 4,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The loss of every pair on every slice.

    Args:
        networks: (J,) on ``device``.
        masks: (J,) the mask of each.
        scans: fully sampled, with targets.
        batch_size: slices at once.
        device: where to compute.

    Returns:
        (slices, J) on the CPU, scan by scan.
    """
    rows = [torch.empty(0, len(masks))]
    with torch.inference_mode():
        for scan in scans:
            for first in range(0, scan.slices, batch_size):
                some = range(first, min(first + batch_size, scan.slices))
                batch = _batch([(scan, index) for index in some], masks[0], device)
                losses = [
                    dissimilarity(network, batch.under(mask)).cpu()
                    for network, mask in zip(networks, masks, strict=True)
                ]
                rows.append(torch.stack(losses, 1))
    return torch.cat(rows)


@dataclass(frozen=True, eq=False)
class ReconstructionScore:
    """Minus the loss of one network on slices under a mask: a `adaptmr.sampling.refinement.Scorer`.

    Attributes:
        network: a network that reconstructs from any mask.
        batches: the slices; their own masks do not count.
    """

    network: Reconstructor
    batches: tuple[Batch, ...]

    @classmethod
    def of(
        cls,
        network: Reconstructor,
        slices: Sequence[Slice],
        mask: Mask,
        *,
        batch_size: int = 4,
        device: torch.device | str = "cpu",
    ) -> "ReconstructionScore":
        """Read slices once, for any number of masks.

        Args:
            network: on ``device``.
            slices: at least one.
            mask: any mask that fits them.
            batch_size: slices at once; those of one batch are of one size.
            device: where to compute.
        """
        groups: dict[object, list[Slice]] = {}
        for scan, index in slices:
            groups.setdefault(scan.kspace.shape[1:], []).append((scan, index))
        return cls(
            network,
            tuple(
                _batch(group[first : first + batch_size], mask, device)
                for group in groups.values()
                for first in range(0, len(group), batch_size)
            ),
        )

    def __call__(self, mask: Mask) -> float:
        """Mean over the slices."""
        with torch.inference_mode():
            losses = [dissimilarity(self.network, each.under(mask)) for each in self.batches]
        return -float(torch.cat(losses).double().mean())


def _batch(slices: Sequence[Slice], mask: Mask, device: torch.device | str) -> Batch:
    return Plan(tuple(slices), FixedMask(mask), 0).read().to(torch.device(device))
