"""Adapters: the changes of one network's weights, put on it, taken off, merged and stored."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, JsonValue
from torch import nn
from torch.nn.utils import parametrize

from adaptmr.continual.adapt.bases import Layer
from adaptmr.continual.adapt.family import FAMILY, Change, Strategy
from adaptmr.data.artefact import load_weights, read_artefact, write_artefact
from adaptmr.errors import BadInputError, UsageError

Network = TypeVar("Network", bound=nn.Module)

SCHEMA: Final = 1
_NAME: Final = "adapter"
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Adapter(nn.Module):
    """Changes of a network's parameters, zero until they are trained.

    Args:
        strategy: how they are spanned.
        layers: the parameters.
        base: fingerprint of the network that they are of.
        seed: of what is random in them at first.
    """

    def __init__(
        self, strategy: Strategy, layers: Iterable[Layer], base: str, *, seed: int = 0
    ) -> None:
        super().__init__()
        self.strategy, self.layers, self.base = strategy, tuple(layers), base
        generator = torch.Generator().manual_seed(seed)
        family = FAMILY[strategy]
        self.changes = nn.ModuleDict(
            {
                layer.name.replace(".", "/"): family.change(layer, generator)
                for layer in self.layers
                if layer.rank
            }
        )

    @property
    def trained_numbers(self) -> int:
        """Numbers that a training changes."""
        return sum(each.numel() for each in self.parameters() if each.requires_grad)

    def change(self, name: str) -> Change:
        """The change of a parameter of that name."""
        change = self.changes[name.replace(".", "/")]
        assert isinstance(change, Change)  # noqa: S101 - as made above
        return change

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that change."""
        return tuple(layer.name for layer in self.layers if layer.rank)


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA
    kind: Literal["adapter"] = "adapter"
    strategy: Strategy
    base: str
    layers: tuple[Layer, ...]
    provenance: dict[str, JsonValue]


def fingerprint(network: nn.Module) -> str:
    """sha256 over name, shape and bytes of every weight: networks that compute alike have one."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(repr((name, tuple(value.shape), str(value.dtype))).encode())
        flat = value.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def layers_of(network: nn.Module, rank: int) -> tuple[Layer, ...]:
    """All parameters of a network, of one rank as far as their shapes have it."""
    if parametrize.is_parametrized(network):
        raise UsageError("the network has an adapter on it already", hint="Detach it first")
    found = []
    for path, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            layer = Layer(
                name=f"{path}.{name}".lstrip("."),
                shape=tuple(parameter.shape),
                inputs=0 if isinstance(module, _TRANSPOSED) or parameter.ndim < 2 else 1,
                rank=1,
            )
            found.append(layer.model_copy(update={"rank": min(rank, layer.full_rank)}))
    return tuple(found)


def attach(network: nn.Module, adapter: Adapter) -> None:
    """Put an adapter on the network that it is of; what is trained then is the adapter alone.

    Raises:
        BadInputError: the adapter is of another network.
        UsageError: the network has an adapter on it already.
    """
    if parametrize.is_parametrized(network):
        raise UsageError("the network has an adapter on it already", hint="Detach it first")
    got = fingerprint(network)
    if got != adapter.base:
        raise BadInputError(
            "the adapter is of another network",
            field="base",
            got=got[:16],
            expected=adapter.base[:16],
            hint="Adapt this network anew: changes of other weights mean nothing here",
        )
    _require_shapes(network, adapter)
    network.requires_grad_(False)
    for name in adapter.names:
        module, own = _owner(network, name)
        parametrize.register_parametrization(module, own, adapter.change(name))


def collect(network: nn.Module, adapter: Adapter) -> None:
    """Give an adapter the values of the one like it that is on a network."""
    for name in adapter.names:
        module, own = _owner(network, name)
        (on,) = module.get_submodule(f"parametrizations.{own}").children()
        adapter.change(name).load_state_dict(on.state_dict())


def detach(network: nn.Module) -> None:
    """Take the adapter off: the network has the very weights that it had before, to be trained."""
    _remove(network, merge=False)


def merge(network: nn.Module) -> None:
    """Write the changes of the adapter that is on a network into its weights."""
    _remove(network, merge=True)


def unmerge(network: nn.Module, adapter: Adapter) -> None:
    """Take merged changes out of the weights again, up to rounding.

    Raises:
        BadInputError: a parameter is missing, or of another shape.
    """
    _require_shapes(network, adapter)
    with torch.no_grad():
        for name in adapter.names:
            parameter = network.get_parameter(name)
            parameter.copy_(adapter.change(name).without(parameter))


@contextmanager
def switched(network: Network, adapter: Adapter | None) -> Iterator[Network]:
    """The network with an adapter on it while the block runs, for switching from scan to scan.

    Args:
        network: is as before afterwards, to the bit.
        adapter: of this network; None for the network as it is.

    Raises:
        BadInputError: the adapter is of another network.
        UsageError: the network has an adapter on it already.
    """
    if adapter is None:
        yield network
        return
    trained = {name: each.requires_grad for name, each in network.named_parameters()}
    attach(network, adapter)
    try:
        yield network
    finally:
        detach(network)
        for name, each in network.named_parameters():
            each.requires_grad_(trained[name])


def save(
    adapter: Adapter, folder: Path, provenance: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write an adapter: ``adapter.json``, ``weights.safetensors``, ``manifest.json``.

    Args:
        adapter: what to write.
        folder: appears complete or not at all.
        provenance: how it came to be.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the folder exists or cannot be written.
    """
    description = _Description(
        strategy=adapter.strategy,
        base=adapter.base,
        layers=adapter.layers,
        provenance=dict(provenance),
    )
    write_artefact(folder, _NAME, description, adapter, overwrite=overwrite)


def load(folder: Path) -> Adapter:
    """Read an adapter that `save` wrote, on the CPU.

    Raises:
        BadInputError: the folder is missing, incomplete, altered, or of a newer version.
    """
    description = _read(folder)
    adapter = Adapter(description.strategy, description.layers, description.base)
    load_weights(adapter, folder)
    return adapter.requires_grad_(False)


def provenance(folder: Path) -> dict[str, Any]:
    """How the adapter in ``folder`` came to be.

    Raises:
        BadInputError: as `load`.
    """
    return _read(folder).provenance


def _read(folder: Path) -> _Description:
    return read_artefact(folder, _NAME, _Description, "an adapter")


def _remove(network: nn.Module, *, merge: bool) -> None:
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=merge)
    network.requires_grad_(True)


def _owner(network: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, own = name.rpartition(".")
    return network.get_submodule(path), own


def _require_shapes(network: nn.Module, adapter: Adapter) -> None:
    shapes = {name: tuple(each.shape) for name, each in network.named_parameters()}
    for layer in adapter.layers:
        if shapes.get(layer.name) != layer.shape:
            raise BadInputError(
                "the adapter does not fit the network",
                field=layer.name,
                got=shapes.get(layer.name, "no such parameter"),
                expected=layer.shape,
            )
