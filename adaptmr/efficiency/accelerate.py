"""`accelerate`: the same network, faster, or a refusal.

Nothing is trained and no data is needed. What comes back has the signature of the network and has
shown, against the network itself, that it stays within the tolerance that its precision promises.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, cast, overload

import torch
from torch import Tensor, nn

from adaptmr.efficiency.graphs import GraphedPlan
from adaptmr.efficiency.varnet import Plan, plan
from adaptmr.errors import BadInputError, GateError, UsageError
from adaptmr.kernels.dispatch import SWITCH, reference_forced, require_memory
from adaptmr.kernels.fourier import fourier
from adaptmr.reconstruction.bank.bank import ReconstructionBank
from adaptmr.reconstruction.networks.checkpoint import Network
from adaptmr.reconstruction.networks.sensitivity import require_low_frequency
from adaptmr.reconstruction.networks.unet import UNetReconstructor
from adaptmr.reconstruction.networks.varnet import VarNet
from adaptmr.sampling.generators import MaskKind, MaskSpec, make_mask
from adaptmr.sampling.mask import Mask

TOLERANCE: Final = {torch.float32: 3e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}
"""Largest relative error, ``|fast - network| / |network|``, that each precision promises."""

_CHECK_COILS: Final = 3
_CHECK_MATRIX: Final = (60, 52)
# On a CPU smaller slices run the network itself: it has fewer calls, and that is what takes time.
_SMALL_PIXELS: Final = 1 << 14
# Arrays of all coils that a call makes: what is measured, and the maps.
_MULTI_COIL_ARRAYS: Final = 2


class Accelerated(nn.Module):
    """A network for inference, with the network's signature and within a tolerance of it.

    Where it first runs on a device, it compares itself with the network there and refuses to run
    when they differ by more than `TOLERANCE`. On a CPU it leaves slices of less than 128 x 128
    pixels to the network, which is faster there. Gradients do not flow. Weights are taken when it
    first runs on a device; changes after that are not seen.

    Args:
        network: the network.
        dtype: of the convolutions: float32, or float16 or bfloat16 at a larger tolerance;
            statistics, transforms and data consistency keep the precision of the k-space.
        graphs: whether a GPU replays CUDA graphs.
        batch: most slices at once; as many as come when not given.
    """

    def __init__(
        self, network: Network, dtype: torch.dtype, *, graphs: bool, batch: int | None
    ) -> None:
        super().__init__()
        if dtype not in TOLERANCE:
            raise UsageError(
                "no tolerance is promised for this precision",
                field="dtype",
                got=dtype,
                expected=", ".join(map(str, TOLERANCE)),
            )
        if batch is not None and batch < 1:
            raise UsageError("a batch holds at least one slice", field="batch", got=batch)
        self.network = network
        self.dtype = dtype
        self._graphs, self._batch = graphs, batch
        self._plan: Plan | None = None
        self._device: torch.device | None = None
        self._masks: tuple[Mask, torch.device, Tensor, Tensor] | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> "Accelerated":
        network = copy.deepcopy(self.network, memo)
        return Accelerated(network, self.dtype, graphs=self._graphs, batch=self._batch)

    def forward(self, kspace: Tensor, mask: Mask) -> Tensor:
        """Reconstruct, see `adaptmr.reconstruction.reconstructor.Reconstructor`.

        Args:
            kspace: (batch, coil, readout, phase) complex.
            mask: positions acquired.

        Returns:
            (batch, readout, phase) magnitude images.

        Raises:
            BadInputError: the k-space or the mask does not fit, or is not where the network is.
            GateError: the result on this device is further from the network's than promised.
            MemoryError: it does not fit in memory; says how many bytes are needed.
        """
        self._check(kspace, mask)
        rows, columns = kspace.shape[-2:]
        small = kspace.device.type == "cpu" and rows * columns < _SMALL_PIXELS
        if reference_forced() or (small and self.dtype == torch.float32):
            with torch.no_grad():
                return cast(Tensor, self.network(kspace, mask))
        if self._plan is None or self._device != kspace.device:
            self._prepare(kspace.device)
        positions, low_frequency = self._tensors(mask, kspace.device)
        assert self._plan is not None  # noqa: S101 - just prepared
        images = []
        with torch.no_grad():
            for some in torch.split(kspace.resolve_conj(), self._batch or max(1, len(kspace))):
                needed = _MULTI_COIL_ARRAYS * some.numel() * some.element_size()
                require_memory("a reconstruction", needed, some.device)
                images.append(self._plan(mask.apply(some), positions, low_frequency))
        return torch.cat(images)

    def _check(self, kspace: Tensor, mask: Mask) -> None:
        if kspace.ndim != 4 or not kspace.is_complex() or 0 in kspace.shape[1:]:
            raise BadInputError(
                "the k-space has no coils, or other axes or a dtype than it should",
                field="kspace",
                got=f"{tuple(kspace.shape)} {kspace.dtype}",
                expected="(batch, coil, readout, phase), complex, at least one coil",
            )
        place = next(self.network.parameters()).device
        if kspace.device != place:
            raise BadInputError(
                "the k-space is not where the network is",
                field="kspace",
                got=kspace.device,
                expected=place,
            )
        if isinstance(self.network, VarNet):
            require_low_frequency(mask)

    def _prepare(self, device: torch.device) -> None:
        """Take the weights, compare, and only then be ready."""
        made = plan(self.network, self.dtype)
        for mask in _check_masks():
            error = self_check(self.network, made, mask, device)
            if not error <= TOLERANCE[self.dtype]:
                raise GateError(
                    "the accelerated network differs from the network by more than is promised",
                    field=str(self.dtype),
                    got=f"relative error {error:.1e} on {device}",
                    expected=f"at most {TOLERANCE[self.dtype]:.0e}",
                    hint=f"Use float32, or set {SWITCH}=reference to run the network as it is",
                )
        graphed = self._graphs and device.type == "cuda"
        self._plan, self._device = GraphedPlan(made) if graphed else made, device

    def _tensors(self, mask: Mask, device: torch.device) -> tuple[Tensor, Tensor]:
        """The mask and its low-frequency block on the device; the last are kept."""
        kept = self._masks
        if kept is None or kept[0] is not mask or kept[1] != device:
            low_frequency = mask.low_frequency_only()
            kept = (mask, device, mask.tensor(device), low_frequency.tensor(device))
            self._masks = kept
        return kept[2], kept[3]


def self_check(network: Network, made: Plan, mask: Mask, device: torch.device) -> float:
    """Relative error of a plan against its network on a slice that is made up; NaN if not finite.

    A network whose own image is not finite has nothing to differ from: its plan has to give no
    finite image either.

    Args:
        network: the network, on the device.
        made: its plan.
        mask: for `_CHECK_MATRIX`.
        device: where to compute.
    """
    generator = torch.Generator().manual_seed(0)
    coils = torch.randn(
        (1, _CHECK_COILS, *_CHECK_MATRIX), dtype=torch.complex64, generator=generator
    )
    # Energy towards the centre of k-space, as in images.
    rows, columns = (torch.arange(size) - size // 2 for size in _CHECK_MATRIX)
    decay = 1 + (rows[:, None].square() + columns.square()) / 16
    measured = mask.apply(fourier(coils) / decay).to(device)
    tensors = mask.tensor(device), mask.low_frequency_only().tensor(device)
    with torch.no_grad():
        expected = network(measured, mask)
        found = made(measured.clone(), *tensors)
    if not bool(expected.isfinite().all()):
        return torch.inf if bool(found.isfinite().all()) else 0.0
    error = torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected)
    return float(error)


def _check_masks() -> Iterator[Mask]:
    """One of lines, one of points."""
    for kind in (MaskKind.VARIABLE_DENSITY_1D, MaskKind.VARIABLE_DENSITY_2D):
        spec = MaskSpec(kind=kind, acceleration=4, center_fraction=0.16)
        yield make_mask(spec, _CHECK_MATRIX, seed=0)


class _AcceleratedNetworks(Sequence[Accelerated]):
    """The networks of a bank, each accelerated when it is first asked for, then kept."""

    def __init__(
        self, networks: Sequence[Network], dtype: torch.dtype, *, graphs: bool, batch: int | None
    ) -> None:
        self._networks, self._dtype, self._graphs, self._batch = networks, dtype, graphs, batch
        self._made: dict[int, Accelerated] = {}

    def __len__(self) -> int:
        return len(self._networks)

    @overload
    def __getitem__(self, index: int) -> Accelerated: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Accelerated]: ...
    def __getitem__(self, index: int | slice) -> Accelerated | Sequence[Accelerated]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        if place not in self._made:
            self._made[place] = Accelerated(
                self._networks[place], self._dtype, graphs=self._graphs, batch=self._batch
            )
        return self._made[place]


@overload
def accelerate(
    subject: ReconstructionBank,
    *,
    dtype: torch.dtype = torch.float32,
    graphs: bool = True,
    batch: int | None = None,
) -> ReconstructionBank: ...
@overload
def accelerate(
    subject: Network,
    *,
    dtype: torch.dtype = torch.float32,
    graphs: bool = True,
    batch: int | None = None,
) -> Accelerated: ...
def accelerate(
    subject: ReconstructionBank | Network,
    *,
    dtype: torch.dtype = torch.float32,
    graphs: bool = True,
    batch: int | None = None,
) -> ReconstructionBank | Accelerated:
    """The same bank or network, faster, for inference.

    Args:
        subject: what to accelerate; it stays as it is.
        dtype: of the convolutions, see `TOLERANCE` for what each promises.
        graphs: whether a GPU replays CUDA graphs.
        batch: most slices at once; as many as come when not given.

    Returns:
        A bank whose networks are accelerated, or an `Accelerated`. A network is compared with its
        accelerated form where it first runs.

    Raises:
        UsageError: nothing is promised for this precision, or the batch is empty.
    """
    if isinstance(subject, (VarNet, UNetReconstructor)):
        return Accelerated(subject, dtype, graphs=graphs, batch=batch)
    networks = _AcceleratedNetworks(subject.networks, dtype, graphs=graphs, batch=batch)
    # To the bank they are what they accelerate: called alike, moved alike, of equal results.
    return replace(subject, networks=cast(Sequence[Network], networks))
