"""A function that becomes a CUDA graph where there is CUDA, and stays a function elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

_WARM_UP = 3  # calls before the capture: libraries set themselves up and choose their kernels in them


class Captured:
    """``function()`` on ``device``. On CUDA its kernels are recorded once and replayed as one launch after that.

    The function takes nothing and returns nothing: it reads and writes tensors that stay where they are, does the same
    kernels every time, never waits for the device and keeps no count in Python. The first calls run it as it is, on a
    side stream as capture demands; so every call does its work exactly once, whether it is recorded or not.

    Args:
        function: the work.
        device: where.
        generators: what it draws from, other than PyTorch's own; their state goes on from call to call.
    """

    def __init__(
        self, function: Callable[[], None], device: torch.device, generators: Sequence[torch.Generator] = ()
    ) -> None:
        self.function, self.device, self.generators = function, device, generators
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self) -> None:
        """Do the work; on CUDA: put it into the current stream's queue."""
        if self.stream is None:
            self.function()
        elif self.calls < _WARM_UP:
            self._warm_up(self.stream)
        else:
            if self.graph is None:
                self.graph = self._record(self.stream)
            self.graph.replay()
        self.calls += 1

    def _warm_up(self, stream: torch.cuda.Stream) -> None:
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            self.function()
        torch.cuda.current_stream(self.device).wait_stream(stream)

    def _record(self, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self.function()
        return graph
