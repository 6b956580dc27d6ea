"""The fixed best mask and the selector, from losses of slices no network was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptmr.data.scan import Scan
from adaptmr.reconstruction.training.cohort import subject_of
from adaptmr.sampling import loss_aware
from adaptmr.sampling.bank import MaskBank
from adaptmr.sampling.features import features
from adaptmr.sampling.persistence import Sampler
from adaptmr.sampling.protocol_prior import ProtocolPrior, slice_positions
from adaptmr.sampling.selection import UncertaintyConfig, measure
from adaptmr.sampling.selector import Selector
from adaptmr.sampling.selectors import SelectorName, selector
from adaptmr.workflows.bank_training.config import LearnedSelector
from adaptmr.workflows.progress import track
from adaptmr.workflows.sampling import low_frequency_of


@dataclass(frozen=True, eq=False)
class Judged:
    """Slices with the loss of every mask.

    Attributes:
        scans: the scans.
        losses: (slices, J) scan by scan.
    """

    scans: Sequence[Scan]
    losses: Tensor

    @property
    def each(self) -> list[Scan]:
        """The scan of each slice."""
        return [scan for scan in self.scans for _ in range(scan.slices)]


def fitted_selector(
    name: SelectorName | LearnedSelector,
    bank: MaskBank,
    judged: Judged,
    sampler: Sampler,
    config: UncertaintyConfig,
    device: torch.device | str = "cpu",
) -> Selector:
    """The selector of that name, fitted where it learns.

    Args:
        name: which one.
        bank: with its fixed best mask.
        judged: slices to fit on.
        sampler: draws the samples, on ``device``.
        config: how the uncertainty of a slice is found when it is decided on.
        device: where to compute.

    Raises:
        BadInputError: there are too few subjects to fit on.
    """
    if isinstance(name, SelectorName):
        return selector(name)
    if name is LearnedSelector.PRIOR:
        positions = [slice_positions(scan.slices) for scan in judged.scans]
        headers = [scan.header for scan in judged.each]
        return ProtocolPrior.fit(headers, torch.cat(positions), judged.losses)
    described = []
    for scan in track(judged.scans, "describing"):
        low_frequency = low_frequency_of(scan, sampler).to(device)
        described.append(features(low_frequency, measure(sampler, low_frequency, config)))
    subjects = [subject_of(scan) for scan in judged.each]
    return loss_aware.fit(torch.cat(described), judged.losses, subjects, bank)
