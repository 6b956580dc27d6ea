"""Weights of fastMRI's networks under our names."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from adaptmr.data.weights import assign_weights
from adaptmr.errors import BadInputError
from adaptmr.reconstruction.networks.unet import UNetConfig, UNetReconstructor
from adaptmr.reconstruction.networks.varnet import VarNet, VarNetConfig

_RENAMES = (
    (r"^(?:varnet|unet)\.(?=sens_net|cascades|down_sample_layers|conv|up_)", ""),  # Lightning's
    (r"^sens_net\.norm_unet\.", "sensitivities.network."),
    (r"^cascades\.(\d+)\.model\.", r"regularisers.\1."),
    (r"^(?=down_sample_layers|conv|up_)", "network.unet."),
    (r"\.layers\.0\.weight$", ".first.weight"),
    (r"\.layers\.4\.weight$", ".second.weight"),
    (r"unet\.down_sample_layers\.", "unet.down."),
    (r"unet\.conv\.", "unet.bottom."),
    (r"unet\.up_transpose_conv\.(\d+)\.first", r"unet.enlarge.\1"),
    (r"unet\.up_conv\.\d+\.1\.", "unet.last."),
    (r"unet\.up_conv\.(\d+)\.(?:0\.)?", r"unet.up.\1."),
)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values of a fastMRI state dict under our names, as far as we have one for them."""
    values = {}
    for name, value in state.items():
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        values[name] = value
    return values


def from_fastmri(
    state: Mapping[str, Tensor], file: Path | None = None
) -> VarNet | UNetReconstructor:
    """Our network with the weights of a fastMRI ``VarNet`` or ``Unet``; its size is in them.

    The data-consistency weight of the first cascade has no effect and is left out. fastMRI's
    U-Net sees images cropped and clamped to six standard deviations, ours neither.

    Args:
        state: fastMRI's ``state_dict()``, names with or without the prefix of its Lightning module.
        file: where the weights are from, for messages.

    Raises:
        BadInputError: a name or shape is not that of either network.
    """
    weights = renamed(state)
    weights.pop("loss.w", None)  # of the Lightning module
    try:
        network = _empty(weights)
    except KeyError as error:
        raise BadInputError(
            "these are not the weights of a fastMRI VarNet or U-Net",
            file=file,
            field=str(error.args[0]),
            got=f"{len(state)} other names, such as {', '.join(list(state)[:2])}",
            hint="Store the state dict of fastmri.models.VarNet or Unet",
        ) from error
    if isinstance(network, VarNet):
        names = [f"cascades.{cascade}.dc_weight" for cascade in range(network.config.cascades)]
        etas = [weights.pop(name).reshape(1) for name in names if name in weights]
        if etas:
            weights["step_sizes"] = torch.cat(etas)[1:]
    assign_weights(network, weights, file)
    return network


def _empty(weights: Mapping[str, Tensor]) -> VarNet | UNetReconstructor:
    """A network without weights, of the size that ``weights`` show."""

    def size(unet: str) -> tuple[int, int]:
        pools = sum(name.startswith(f"{unet}.enlarge.") for name in weights)
        return int(weights[f"{unet}.down.0.first.weight"].shape[0]), pools

    with torch.device("meta"):
        if not any(name.startswith("regularisers.") for name in weights):
            channels, pools = size("network.unet")
            return UNetReconstructor(UNetConfig(channels=channels, pools=pools))
        cascades = len({name.split(".")[1] for name in weights if name.startswith("regularisers.")})
        channels, pools = size("regularisers.0.unet")
        map_channels, map_pools = size("sensitivities.network.unet")
        return VarNet(
            VarNetConfig(
                cascades=cascades,
                channels=channels,
                pools=pools,
                map_channels=map_channels,
                map_pools=map_pools,
            )
        )
