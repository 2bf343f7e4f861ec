"""A graph as a PyTorch user would call it, to compare with nimbleq's engines."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nimbleq.bridge.torch_graph import to_module
from nimbleq.graph.graph import Graph
from nimbleq.types import Array


def eager_policy(graph: Graph) -> Callable[[Array], int]:
    """``obs [*O] → action`` in eager mode, on one thread, without gradients; ``graph`` is float32."""
    torch.set_num_threads(1)
    module = to_module(graph).eval()

    def act(obs: Array) -> int:
        with torch.inference_mode():
            return int(module(torch.from_numpy(obs)[None]).argmax(1))

    return act
