"""The adaptation of one network, from scans to an adapter on disk."""

import copy
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from adaptmr.continual.adapt import adapter as adapters
from adaptmr.continual.adapt.adapter import (
    Adapter,
    Network,
    attach,
    collect,
    fingerprint,
    layers_of,
    merge,
)
from adaptmr.continual.adapt.bases import Layer
from adaptmr.continual.adapt.family import FAMILY, Ranks, Strategy
from adaptmr.continual.adapt.held_out import SeenPart, held_out_loss
from adaptmr.continual.adapt.ranks import by_contribution, contributions
from adaptmr.data.files import require_absent
from adaptmr.errors import UsageError
from adaptmr.reconstruction.losses import dissimilarity
from adaptmr.reconstruction.networks.varnet import VarNet
from adaptmr.reconstruction.training.cohort import Cohort
from adaptmr.reconstruction.training.config import SeededSchedule
from adaptmr.reconstruction.training.data import (
    Emphasis,
    Material,
    Plan,
    training_plans,
    training_slices,
    validation_plans,
)
from adaptmr.reconstruction.training.run import run_training
from adaptmr.sampling.mask import Mask
from adaptmr.sampling.sources import FixedMask

if TYPE_CHECKING:
    from adaptmr.continual.adapt.module import AdaptationTraining


class AdaptationConfig(SeededSchedule):
    """How a network is adapted."""

    strategy: Strategy = Strategy.SCALE_SHIFT
    """How weights may change. The learning rate is that of a schedule unless it is given: each
    strategy has one of its own in `adaptmr.continual.adapt.family.FAMILY`."""
    rank: PositiveInt = 4
    """Of the changes, of strategies that have ranks; layers without so many have fewer."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Share of the subjects that choose the epoch; with 0 the last epoch is kept."""
    probe_epochs: PositiveInt = 5
    """Of full fine-tuning, from which the contributions of layers are found."""
    hidden: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Of undersampled scans: share of what was acquired outside the low-frequency block that
    the network does not see in a batch, and is judged on."""


class _Identified(AdaptationConfig):
    """With all that a stopped adaptation is told by."""

    base: str
    """Fingerprint of the network."""


def adapt_network(
    network: nn.Module,
    cohort: Cohort,
    mask: Mask,
    config: AdaptationConfig,
    out: Path,
    run: Path,
    *,
    acquired: bool = False,
    emphasis: Emphasis | None = None,
    overwrite: bool = False,
    resume: bool = True,
) -> Path:
    """Adapt a network to scans.

    The epoch that does best on the validation scans is kept; when none of them beats the network
    as it came, the adapter changes nothing. Without validation the last epoch is kept. Resumes, and
    repeats, as `adaptmr.reconstruction.training.run.train`.

    Args:
        network: stays as it is.
        cohort: scans to learn from and to choose the epoch on.
        mask: with which the network is to reconstruct.
        config: how.
        out: folder for the adapter, see `adaptmr.continual.adapt.adapter.load`.
        run: folder of the training while it runs.
        acquired: whether the scans were acquired with the mask and have no targets: the network
            then learns from lines that are hidden from it (`held_out`).
        emphasis: slices that come more often.
        overwrite: whether an existing ``out`` may be replaced.
        resume: whether to continue an adaptation that was stopped.

    Returns:
        ``out``.

    Raises:
        BadInputError: the scans do not fit the mask, ``out`` exists, or the loss became NaN.
        UsageError: the network gives no complex images, which undersampled scans need; or the
            stopped run had another configuration or other data.
    """
    require_absent(out, overwrite=overwrite)
    if acquired and not isinstance(network, VarNet):
        raise UsageError(
            "this network cannot learn from undersampled scans: it gives magnitudes alone",
            field="architecture",
            got=type(network).__name__,
            expected="a VarNet, whose k-space can be held against what was measured",
            hint="Adapt on fully sampled scans",
        )
    source = SeenPart(mask, config.hidden) if acquired else FixedMask(mask)
    material, judged = Material(cohort, (source,), emphasis), mask if acquired else None
    base = fingerprint(network)
    family = FAMILY[config.strategy]
    layers = layers_of(network, config.rank)
    if family.ranks is Ranks.CONTRIBUTION:
        target = _probed(network, cohort, mask, config, run, acquired=acquired, resume=resume)
        plans = training_plans(
            training_slices(cohort.training, config.max_slices, config.seed),
            material.masks,
            config.batch_size,
            config.seed,
            0,
        )
        losses = [partial(_loss, plan, judged) for plan in plans]
        layers = by_contribution(layers, contributions(network, target, losses))
    before = _mean_loss(
        network, validation_plans(cohort.validation, material.masks, config.batch_size), judged
    )
    identified = _Identified.model_validate({**config.model_dump(), "base": base})
    return run_training(
        identified,
        material,
        out,
        run,
        partial(_begin, network, layers, identified, judged, before),
        partial(_export, layers, identified, before),
        overwrite=overwrite,
        resume=resume,
    )


def _begin(
    network: nn.Module,
    layers: Sequence[Layer],
    config: _Identified,
    judged: Mask | None,
    before: float | None,
) -> "AdaptationTraining":
    from adaptmr.continual.adapt.module import AdaptationTraining

    own = copy.deepcopy(network).train()
    made = Adapter(config.strategy, layers, config.base, seed=config.seed)
    attach(own, made)
    training = AdaptationTraining(own, made, config, judged)
    if before is not None:
        training.keep_as_best(before)
    return training


def _export(
    layers: Sequence[Layer],
    config: _Identified,
    before: float | None,
    network: nn.Module,
    out: Path,
    provenance: dict[str, Any],
    *,
    overwrite: bool,
) -> None:
    made = Adapter(config.strategy, layers, config.base)
    collect(network, made)
    history = {**provenance, "before": before, "trained_numbers": made.trained_numbers}
    adapters.save(made, out, history, overwrite=overwrite)


def adapted(network: Network, adapter: Adapter) -> Network:
    """A copy of a network with an adapter merged into it, in evaluation mode.

    Raises:
        BadInputError: the adapter is of another network.
    """
    own = copy.deepcopy(network)
    attach(own, adapter)
    merge(own)
    return own.eval()


def _probed(
    network: nn.Module,
    cohort: Cohort,
    mask: Mask,
    config: AdaptationConfig,
    run: Path,
    *,
    acquired: bool,
    resume: bool,
) -> nn.Module:
    """The network after a short full fine-tuning, whose last epoch counts; done once."""
    probe = run.with_name(run.name + ".probe")
    if not resume:
        shutil.rmtree(probe, ignore_errors=True)
    full = config.model_copy(
        update={
            "strategy": Strategy.FULL,
            "epochs": config.probe_epochs,
            "learning_rate": FAMILY[Strategy.FULL].learning_rate,
        }
    )
    blind = Cohort(cohort.training, (), cohort.fingerprint)
    out = adapt_network(
        network, blind, mask, full, probe / "adapter", probe, acquired=acquired, overwrite=True
    )
    return adapted(network, adapters.load(out))


def _loss(plan: Plan, judged: Mask | None, network: nn.Module) -> Tensor:
    """Mean loss of the slices of a batch; ``judged`` as of `AdaptationTraining`."""
    batch = plan.read()
    if judged is None:
        return dissimilarity(network, batch).mean()
    assert isinstance(network, VarNet)  # noqa: S101 - asked before
    return held_out_loss(network, batch.kspace, batch.mask, judged).mean()


@torch.no_grad()
def _mean_loss(network: nn.Module, plans: Sequence[Plan], judged: Mask | None) -> float | None:
    """Over slices; None without any."""
    losses = [len(plan.slices) * float(_loss(plan, judged, network)) for plan in plans]
    return sum(losses) / sum(len(plan.slices) for plan in plans) if plans else None
