"""The oracle: runs a graph in numpy. C, ONNX and hardware are checked against this.

Integer graphs are exact. Float results depend in their last bits on the order in which BLAS sums, which may differ
between batch sizes and machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph.graph import ACTION, MASK, Graph
from nimbleq.graph.kernels import Kernel, kernel
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.graph.tensor import Float32, TensorType
from nimbleq.types import Array


def interpret(graph: Graph, inputs: Mapping[str, Array] | Array, mask: Array | None = None) -> dict[str, Array]:
    """All outputs of ``graph``.

    Args:
        inputs: the observation ``[B, *O]``, or one array per graph input by name.
        mask: ``[B, A]`` not 0 (or True) where an action is legal; for graphs that take a mask, and only for those.

    Returns:
        Output name → array with the batch axis first; integers come as int32.

    Raises:
        GraphError: an input is missing, has the wrong shape, or does not fit the input's integer format; or a mask
            allows no action.
    """
    tensors = trace(graph, inputs, mask)
    return {name: tensors[name] for name in graph.outputs}


def trace(graph: Graph, inputs: Mapping[str, Array] | Array, mask: Array | None = None) -> dict[str, Array]:
    """Every tensor of the graph, by name; see `interpret`."""
    named = inputs if isinstance(inputs, Mapping) else {graph.obs_name: inputs}
    if mask is not None:
        if not graph.masked:
            raise GraphError("this policy takes no mask: with_mask gives it one")
        named = {**named, MASK: mask}
    elif graph.masked and MASK not in named:
        raise GraphError("this policy needs the mask of the legal actions beside the observation")
    tensors: dict[str, Array] = {}
    for name, kind in graph.inputs.items():
        if name not in named:
            raise GraphError(f"input {name!r} is missing")
        tensors[name] = _checked(name, np.asarray(named[name]), kind)
    for function, sources, output in _plan(graph):
        tensors[output] = function(*[tensors[name] for name in sources])
    return tensors


@lru_cache(maxsize=16)
def _plan(graph: Graph) -> tuple[tuple[Kernel, tuple[str, ...], str], ...]:
    """The nodes with their weights prepared; kept for the graphs used last, since policies are called step by step."""
    return tuple(
        (kernel(node.op, graph.weights, tuple(graph.types[name] for name in node.inputs)), node.inputs, node.output)
        for node in graph.nodes
    )


def _checked(name: str, array: Array, kind: TensorType) -> Array:
    """``array`` as float32 or int32, refused when ``kind`` cannot hold it."""
    if array.shape[1:] != kind.shape or array.ndim == 0:
        raise GraphError(f"input {name!r} has shape {array.shape}, expected (B, {', '.join(map(str, kind.shape))})")
    if isinstance(kind.qtype, Float32):
        return array.astype(np.float32, copy=False)
    if array.dtype.kind not in "iub":
        raise GraphError(f"input {name!r} is {array.dtype}, expected integers ({kind.qtype})")
    narrow = array.dtype == np.uint8 and kind.qtype.low <= 0 and kind.qtype.high >= 255
    if array.size and not narrow and not kind.qtype.low <= int(array.min()) <= int(array.max()) <= kind.qtype.high:
        raise GraphError(f"input {name!r} holds values outside {kind.qtype} ({kind.qtype.low}..{kind.qtype.high})")
    return array.astype(np.int32)


@dataclass(frozen=True)
class GraphPolicy:
    """The greedy policy ``obs[B, *O] → action int64[B]`` that a graph describes; pickles, so workers can play it.

    With ``mask: bool[B, A]`` it is the best of the legal actions (at least one a row; ties go to the lowest index), by
    the very ArgMax that runs on every target.
    """

    graph: Graph

    def __call__(self, obs: Array, mask: Array | None = None) -> Array:
        graph = self.graph if mask is None else _masked(self.graph)
        return interpret(graph, obs, mask)[ACTION].astype(np.int64)


@lru_cache(maxsize=16)
def _masked(graph: Graph) -> Graph:
    return with_mask(graph)
