"""The weights of a network: first values, reading, assigning."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from adaptmr.errors import BadInputError


def initialise(network: nn.Module, seed: int) -> None:
    """Give all convolutions the first values that torch would give them, from a seed.

    The global random state is neither read nor written.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            if module.bias is not None:
                bound = 1 / math.sqrt(module.weight[0].numel())
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)


def assign_weights(
    network: torch.nn.Module, weights: Mapping[str, Tensor], file: Path | None = None
) -> None:
    """Give a network its weights; its parameters take their dtype and device.

    Raises:
        BadInputError: a weight is missing, unknown, or of another shape.
    """
    expected = network.state_dict()
    for name in sorted(expected.keys() | weights.keys()):
        got = tuple(weights[name].shape) if name in weights else "nothing"
        wanted = tuple(expected[name].shape) if name in expected else "nothing"
        if got != wanted:
            raise BadInputError(
                "a weight does not fit the network", file=file, field=name, got=got, expected=wanted
            )
    network.load_state_dict({name: value.clone() for name, value in weights.items()}, assign=True)


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        BadInputError: the file is missing or not safetensors.
    """
    try:
        return load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise BadInputError(
            "the weights cannot be read",
            file=file,
            got=str(error) or type(error).__name__,
            expected="a safetensors file",
            hint="Convert a .pt file that you trust with safetensors.torch.save_file",
        ) from error
