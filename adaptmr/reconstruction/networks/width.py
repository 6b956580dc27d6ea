"""How far each pixel may be off: the heuristic width that a calibration makes honest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from adaptmr.data.artefact import load_weights, read_artefact, write_artefact
from adaptmr.data.weights import initialise
from adaptmr.reconstruction.networks.unet import padded_unet
from adaptmr.sampling.unet import UNet

SCHEMA: Final = 1
_NAME: Final = "width"
# Of the last layer: widths start at some hundredths of the image's deviation.
_FIRST_BIAS: Final = -3.0


class WidthConfig(BaseModel):
    """Size of a `WidthNetwork`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: PositiveInt = 8
    """Channels of the first level, doubled at each pool."""
    pools: PositiveInt = 3


class WidthNetwork(nn.Module):
    """U-Net from a reconstruction and its zero-filled image to a width per pixel.

    Trained with `pinball`, the width is about the 0.9 quantile of the error given what the network
    sees: where the two images differ, and what is there. One network serves all pairs of a bank.
    Scale-equivariant: ``w(a x, a z) = a w(x, z)`` for ``a > 0``.

    Args:
        config: size of the network.
    """

    def __init__(self, config: WidthConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet(2, 1, config.channels, config.pools)

    def forward(self, image: Tensor, zero_filled: Tensor) -> Tensor:
        """Widths.

        Args:
            image: (batch, rows, columns) magnitude, as reconstructed.
            zero_filled: (batch, rows, columns) magnitude of the same data, zero-filled.

        Returns:
            (batch, rows, columns) not negative, in the unit of the image; 0 for an image without
            variation.
        """
        both = torch.stack((image, zero_filled), 1)
        deviation = image.std((-2, -1), keepdim=True)[:, None]
        scaled = both / torch.where(deviation > 0, deviation, 1)
        return (functional.softplus(padded_unet(self.unet, scaled)) * deviation)[:, 0]


def pinball(error: Tensor, width: Tensor, quantile: float) -> Tensor:
    """Pinball loss of each pixel; in the mean least where ``width`` is the error's quantile."""
    over = error - width
    return torch.maximum(quantile * over, (quantile - 1) * over)


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA
    config: WidthConfig
    provenance: dict[str, JsonValue]


def build(config: WidthConfig, seed: int) -> WidthNetwork:
    """A network with first weights drawn from ``seed``."""
    network = WidthNetwork(config)
    initialise(network, seed)
    bias = network.unet.last.bias
    assert bias is not None  # noqa: S101 - a convolution with bias
    nn.init.constant_(bias, _FIRST_BIAS)
    return network


def save(
    network: WidthNetwork, folder: Path, provenance: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write a network so that `load` gives it back bit by bit.

    Args:
        network: the network.
        folder: name of the folder; it appears complete or not at all.
        provenance: how the network came to be.
        overwrite: whether an existing folder may be replaced.

    Raises:
        BadInputError: the folder exists or cannot be written.
    """
    description = _Description(config=network.config, provenance=dict(provenance))
    write_artefact(folder, _NAME, description, network, overwrite=overwrite)


def load(folder: Path) -> WidthNetwork:
    """Read what `save` wrote, on the CPU and in evaluation mode.

    Raises:
        BadInputError: the folder is missing, incomplete, altered, or of a newer version.
    """
    description = read_artefact(folder, _NAME, _Description, "a network of widths")
    network = WidthNetwork(description.config)
    load_weights(network, folder)
    return network.eval()


def provenance(folder: Path) -> dict[str, Any]:
    """How the network in ``folder`` came to be, as given to `save`.

    Raises:
        BadInputError: as `load`.
    """
    return read_artefact(folder, _NAME, _Description, "a network of widths").provenance
