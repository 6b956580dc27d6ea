"""`MaskBank`: J masks of one budget, each with the uncertainty that it answers."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from safetensors.torch import save_file
from torch import Tensor

from adaptmr.data.files import complete_folder
from adaptmr.data.manifest import check_manifest, read_description, write_manifest
from adaptmr.data.weights import read_weights
from adaptmr.errors import BadInputError, UsageError
from adaptmr.sampling.clustering import Clustering, cluster
from adaptmr.sampling.frame import Frame
from adaptmr.sampling.informed import DrawRule, informed_mask
from adaptmr.sampling.low_frequency import block_of
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.refinement import Scorer, best_draw, best_of, climb
from adaptmr.sampling.uncertainty import UncertaintyMap

SCHEMA: Final = 1
_DESCRIPTION = "bank.json"
_CENTROIDS = "centroids.safetensors"


class BankConfig(BaseModel):
    """How a bank is made. The defaults are those of Hong et al. (ECCV 2024)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    masks: int = Field(default=3, ge=1)
    """J, the number of masks."""
    seed: int = Field(default=1, ge=0)
    """Of the k-means starts."""
    restarts: int = Field(default=10, ge=1)
    """Starts of k-means, of which the best is kept."""
    rule: DrawRule = DrawRule()
    """How a mask is drawn from its centroid."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Of the draw of each mask, in order; masks for which there is none are drawn with the seed of
    the rule."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.seeds) > self.masks:
            raise ValueError(f"{len(self.seeds)} seeds for {self.masks} masks")
        return self

    @property
    def rules(self) -> tuple[DrawRule, ...]:
        """(J,) how each mask is drawn."""
        own = [self.rule.model_copy(update={"seed": seed}) for seed in self.seeds[: self.masks]]
        return (*own, *[self.rule] * (self.masks - len(own)))


class RefineConfig(BaseModel):
    """How the masks of a bank are made better under a scorer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draws: int = Field(default=16, ge=1)
    """Draws from each centroid, of which the best is kept."""
    evaluations: int = Field(default=200, ge=1)
    """Masks scored for each cluster in each of two rounds of swaps; 1 swaps nothing."""
    seed: int = Field(default=0, ge=0)
    """Of the swaps."""


@dataclass(frozen=True, eq=False)
class MaskBank:
    """J masks of one frame with the uncertainties they were drawn from.

    Attributes:
        masks: the masks; all of one size, block and budget.
        centroids: (J, rows, columns) float32 mean uncertainties of the clusters; not normalised.
        populations: training slices of each cluster.
        best: index of the fixed best mask, which is fallen back on when a slice cannot be judged:
            that of the most populated cluster, until `with_best` knows better.
        coils: coil counts of the scans the bank was made from; empty when it suits any.
        provenance: how the bank came to be.
    """

    masks: tuple[Mask, ...]
    centroids: Tensor
    populations: tuple[int, ...]
    best: int = 0
    coils: tuple[int, ...] = ()
    provenance: dict[str, JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.masks)
        if not count or len(self.populations) != count or self.centroids.ndim != 3:
            raise _inconsistent("masks", f"{count} masks, {len(self.populations)} populations")
        if len(self.centroids) != count or not 0 <= self.best < count:
            raise _inconsistent("centroids", f"{len(self.centroids)} for {count} masks")
        if not bool(torch.isfinite(self.centroids).all()) or bool((self.centroids < 0).any()):
            raise _inconsistent("centroids", "values that are negative or not finite")
        for index, mask in enumerate(self.masks):
            same = mask.budget == self.masks[0].budget and bool(
                mask.low_frequency_only() == self.masks[0].low_frequency_only()
            )
            if not same or not mask.fits(self.matrix):
                raise _inconsistent("masks", f"mask {index} of another size, block or budget")

    def __len__(self) -> int:
        """J, the number of masks."""
        return len(self.masks)

    @property
    def axes(self) -> int:
        """1 for lines, 2 for points."""
        return self.masks[0].axes

    @property
    def matrix(self) -> tuple[int, int]:
        """(readout, phase) of the k-space that the masks are for."""
        return self.centroids.shape[1], self.centroids.shape[2]

    @property
    def block(self) -> tuple[int, int]:
        """(rows, columns) of the low-frequency block."""
        return block_of(self.masks[0].low_frequency, self.matrix)

    @property
    def frame(self) -> Frame:
        """What all masks share."""
        return Frame.of_mask(self.masks[0])

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of masks, centroids and fallback: banks that choose alike have one fingerprint."""
        digest = hashlib.sha256(repr((self.matrix, self.best, self.coils)).encode())
        for mask in self.masks:
            digest.update(mask.fingerprint.encode())
        digest.update(self.centroids.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def permuted(self, order: Sequence[int]) -> Self:
        """The same bank with its masks in another order; centroids and fallback move along."""
        if sorted(order) != list(range(len(self))):
            raise UsageError("this is no order of the masks", field="order", got=tuple(order))
        return replace(
            self,
            masks=tuple(self.masks[j] for j in order),
            centroids=self.centroids[list(order)],
            populations=tuple(self.populations[j] for j in order),
            best=list(order).index(self.best),
        )

    def with_best(self, losses: Tensor) -> Self:
        """The bank that falls back on the mask with the least mean loss.

        Args:
            losses: (slices, J) of training slices, one per mask; smaller is better.

        Raises:
            BadInputError: not one finite loss per mask.
        """
        check_losses(losses, len(self))
        return replace(self, best=int(losses.double().mean(0).argmin()))


def check_losses(losses: Tensor, masks: int, slices: int | None = None) -> None:
    """Check that there is one finite loss per slice and mask; any number of slices when not given.

    Raises:
        BadInputError: otherwise.
    """
    wanted = max(1, losses.numel() // masks) if slices is None else slices
    if tuple(losses.shape) != (wanted, masks):
        raise BadInputError(
            "there is not one loss per slice and mask",
            field="losses",
            got=tuple(losses.shape),
            expected=(wanted, masks),
        )
    if not bool(torch.isfinite(losses).all()):
        raise BadInputError("losses are not finite", field="losses", expected="finite numbers")


def build(
    uncertainty: UncertaintyMap,
    frame: Frame,
    config: BankConfig,
    *,
    coils: tuple[int, ...] = (),
) -> tuple[MaskBank, Clustering]:
    """Cluster training uncertainties and draw one mask per centroid.

    Args:
        uncertainty: the training slices; those not known are left out.
        frame: lines or points, block, budget.
        config: how.
        coils: coil counts of the training scans; empty when the bank is to serve any.

    Raises:
        BadInputError: too few training slices, or another matrix than the frame's.
    """
    clusters = cluster(uncertainty, config.masks, seed=config.seed, restarts=config.restarts)
    masks = tuple(
        informed_mask(centroid, frame, rule)
        for centroid, rule in zip(clusters.centroids, config.rules, strict=True)
    )
    unknown = int((~uncertainty.known).sum())
    bank = MaskBank(
        masks,
        clusters.centroids,
        clusters.populations,
        coils=coils,
        provenance={
            "config": config.model_dump(mode="json"),
            "slices": uncertainty.batch,
            "slices_left_out": unknown,
            "distinct_masks": len(set(masks)),
            "inertia": clusters.inertia,
        },
    )
    return bank, clusters


def reassign(
    bank: MaskBank, uncertainty: UncertaintyMap, labels: Tensor, rules: Sequence[DrawRule]
) -> MaskBank:
    """The bank with centroids and masks of other clusters, drawn anew.

    Args:
        bank: the bank.
        uncertainty: the training slices.
        labels: (slices,) the mask that each belongs to now; slices that are not known do not count.
        rules: (J,) how each mask is drawn. A cluster without members keeps centroid and mask.
    """
    masks, centroids, populations = [], [], []
    each = zip(bank.masks, bank.centroids, rules, strict=True)
    for index, (mask, centroid, rule) in enumerate(each):
        members = uncertainty.values[(labels == index) & uncertainty.known]
        populations.append(len(members))
        centroids.append(members.double().mean(0).float() if len(members) else centroid)
        masks.append(informed_mask(centroids[-1], bank.frame, rule) if len(members) else mask)
    return replace(
        bank,
        masks=tuple(masks),
        centroids=torch.stack(centroids),
        populations=tuple(populations),
        best=int(np.argmax(populations)),
    )


def refine(
    bank: MaskBank,
    labels: Tensor,
    scorer_of: Callable[[Tensor], Scorer],
    config: RefineConfig,
    rules: Sequence[DrawRule],
) -> MaskBank:
    """Replace each mask by a better one for the slices of its cluster.

    Drawn masks differ more in luck than slices differ in need, so clusters share what they find:
    each starts from the best draw of any cluster, and when all have climbed, goes on from the best
    mask of any. No mask drawn, or found before the second climb, is then better for a cluster than
    its own.

    Args:
        bank: the bank.
        labels: (slices,) cluster of each training slice, -1 for none: `Clustering.labels`.
        scorer_of: makes the scorer of a cluster from the indices of its slices.
        config: how much to try.
        rules: (J,) how each mask is drawn from its centroid.

    Raises:
        BadInputError: a score is not finite.
    """
    members = [torch.nonzero(labels == index).flatten() for index in range(len(bank))]
    scorers = [scorer_of(each) for each in members]
    weights = [bank.frame.weights(centroid.cpu().numpy()) for centroid in bank.centroids]
    before = [float(scorer(mask)) for scorer, mask in zip(scorers, bank.masks, strict=True)]
    found = [
        best_draw(centroid, bank.frame, rule, config.draws, scorer).mask
        for centroid, rule, scorer in zip(bank.centroids, rules, scorers, strict=True)
    ]
    for round_number in range(2):
        climbed = [
            climb(
                best_of([mask, *found, *bank.masks], scorer),
                weight,
                scorer,
                evaluations=config.evaluations,
                seed=config.seed + round_number,
            )
            for mask, weight, scorer in zip(found, weights, scorers, strict=True)
        ]
        found = [each.mask for each in climbed]
    refined: dict[str, JsonValue] = {
        "config": config.model_dump(mode="json"),
        "scores": [[first, each.scores[-1]] for first, each in zip(before, climbed, strict=True)],
    }
    return replace(bank, masks=tuple(found), provenance={**bank.provenance, "refined": refined})


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = SCHEMA
    populations: tuple[int, ...]
    best: int
    coils: tuple[int, ...]
    provenance: dict[str, JsonValue]
    fingerprint: str


def save(bank: MaskBank, folder: Path, *, overwrite: bool = False) -> None:
    """Write a bank as JSON, one file more per mask, safetensors and a manifest of their sha256.

    Args:
        bank: the bank.
        folder: name of the folder; it appears complete or not at all.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the folder exists or cannot be written.
    """
    description = _Description(
        populations=bank.populations,
        best=bank.best,
        coils=bank.coils,
        provenance=bank.provenance,
        fingerprint=bank.fingerprint,
    )
    with complete_folder(folder, overwrite=overwrite) as partial:
        (partial / _DESCRIPTION).write_text(description.model_dump_json(indent=1) + "\n")
        for index, mask in enumerate(bank.masks):
            (partial / _mask_file(index)).write_text(mask.to_json() + "\n")
        save_file({"centroids": bank.centroids.cpu().float().contiguous()}, partial / _CENTROIDS)
        write_manifest(partial)


def load(folder: Path) -> MaskBank:
    """Read a bank that `save` wrote.

    Raises:
        BadInputError: the folder is missing, incomplete, altered, or of a newer version.
    """
    check_manifest(folder)
    file = folder / _DESCRIPTION
    description = read_description(file, _Description, "a mask bank")
    files = [folder / _mask_file(index) for index in range(len(description.populations))]
    # What is missing here does not fit together below.
    masks = tuple(Mask.from_json(each.read_bytes()) for each in files if each.is_file())
    bank = MaskBank(
        masks,
        read_weights(folder / _CENTROIDS).get("centroids", torch.empty(0)),
        description.populations,
        description.best,
        description.coils,
        description.provenance,
    )
    if bank.fingerprint != description.fingerprint:
        raise BadInputError(
            "the bank was changed since it was written", file=file, field="fingerprint"
        )
    return bank


def _mask_file(index: int) -> str:
    return f"mask-{index}.json"


def _inconsistent(what: str, got: str) -> BadInputError:
    return BadInputError("the parts of the bank do not fit together", field=what, got=got)
