"""Replay a plan from a CUDA graph: at small sizes the host cannot launch kernels fast enough."""

from typing import Final

import torch
from torch import Tensor

from adaptmr.efficiency.varnet import Plan

_KEPT: Final = 4
_WARM_UPS: Final = 3

_Key = tuple[torch.Size, torch.Size, torch.dtype]


class _Captured:
    """A graph with the memory that it reads and writes."""

    def __init__(self, plan: Plan, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = tuple(one.clone() for one in inputs)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        # Plans of transforms and choices of convolutions are made before anything is captured.
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._run(plan)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = self._run(plan)

    def _run(self, plan: Plan) -> Tensor:
        measured, mask, low_frequency = self._inputs
        return plan(measured.clone(), mask, low_frequency)  # a plan overwrites what is measured

    def replay(self, inputs: tuple[Tensor, ...]) -> Tensor:
        for static, one in zip(self._inputs, inputs, strict=True):
            static.copy_(one)
        self._graph.replay()
        return self._output.clone()


class GraphedPlan:
    """A plan on a GPU, captured once for each size; masks of one kind share a graph.

    Args:
        plan: launches kernels only: it never asks the GPU for a value.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._captured: dict[_Key, _Captured] = {}

    def __call__(self, measured: Tensor, mask: Tensor, low_frequency: Tensor) -> Tensor:
        """As of `adaptmr.efficiency.varnet.Plan`."""
        inputs = (measured, mask, low_frequency)
        key = (measured.shape, mask.shape, measured.dtype)
        found = self._captured.pop(key, None) or _Captured(self._plan, inputs)
        self._captured[key] = found  # the last one used is the last one to go
        while len(self._captured) > _KEPT:
            del self._captured[next(iter(self._captured))]
        return found.replay(inputs)
