"""The reference interpreter: runs a graph in numpy. All targets are checked against it.

Integer graphs are exact. Float results depend in their last bits on the order in which BLAS sums, which may differ
between batch sizes and machines; a first layer whose inputs are nearly all zeros adds up the few others in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, MASK, NEXT_STATE, STATE, Graph
from nimbleq.graph.kernels import Kernel, kernel, linear_of
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array, Policy


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


def interpret_rows(graph: Graph, obs: Array, mask: Array | None = None) -> dict[str, Array]:
    """`interpret` of ``obs[K, *O]``; to a policy that remembers, the rows are the steps of one episode, in order."""
    if not graph.units:
        return interpret(graph, obs, mask)
    state, rows = np.zeros((1, graph.units), np.float32), []
    for at in range(len(obs)):
        inputs = {graph.obs_name: obs[at : at + 1], STATE: state}
        rows.append(interpret(graph, inputs, None if mask is None else mask[at : at + 1]))
        state = rows[-1][NEXT_STATE]
    return {name: np.concatenate([row[name] for row in rows]) for name in graph.outputs}


def trace(graph: Graph, inputs: Mapping[str, Array] | Array, mask: Array | None = None) -> dict[str, Array]:
    """Every tensor of the graph, by name; see `interpret`."""
    named = inputs if isinstance(inputs, Mapping) else {graph.obs_name: inputs}
    if mask is not None:
        if not graph.masked:
            raise GraphError("this policy takes no mask: add one with with_mask")
        named = {**named, MASK: np.asarray(mask).astype(np.uint8) if np.asarray(mask).dtype == bool else mask}
    elif graph.masked and MASK not in named:
        raise GraphError("this policy needs the mask of the legal actions as well as the observation")
    if STATE in graph.inputs and STATE not in named:
        raise GraphError("this policy remembers, so it is played through episodes, not asked about single observations")
    tensors: dict[str, Array] = {}
    for name, kind in graph.inputs.items():
        if name not in named:
            raise GraphError(f"input {name!r} is missing")
        tensors[name] = checked(name, named[name], kind)
    for function, sources, output in _plan(graph):
        tensors[output] = function(*[tensors[name] for name in sources])
    return tensors


@lru_cache(maxsize=16)
def _plan(graph: Graph) -> tuple[tuple[Kernel, tuple[str, ...], str], ...]:
    """The nodes with their weights prepared; cached for the graphs used last, as policies are called step by step."""
    observed, made = set(graph.inputs), []
    for node in graph.nodes:
        types = tuple(graph.types[name] for name in node.inputs)
        first = node.inputs[0] in observed
        if first and isinstance(node.op, ops.Flatten):
            observed.add(node.output)
        function = (
            linear_of(node.op, graph.weights, types, first=True)
            if first and isinstance(node.op, ops.Linear)
            else kernel(node.op, graph.weights, types)
        )
        made.append((function, node.inputs, node.output))
    return tuple(made)


def checked(name: str, values: Array, kind: TensorType) -> Array:
    """``values`` as float32 or int32, ``[B, *shape]`` of the tensor ``name``.

    Raises:
        GraphError: ``kind`` cannot hold them: another shape, not numbers, or floats, bools or integers out of range for
            an integer format.
    """
    array = np.asarray(values)
    if array.ndim == 0 or array.shape[1:] != kind.shape:
        raise GraphError(f"input {name!r} has shape {array.shape}, expected (B, {', '.join(map(str, kind.shape))})")
    try:
        return kind.qtype.accept(array)
    except GraphError as error:
        raise GraphError(f"input {name!r} {error}") from None


@dataclass(frozen=True)
class GraphPolicy:
    """The greedy policy ``obs[B, *O] → action int64[B]`` of a graph; it can be pickled for worker processes.

    With ``mask: bool[B, A]`` it is the best of the legal actions (at least one a row; ties go to the lowest index), by
    the same ArgMax that runs on every target. A policy that remembers is played by what `begin` gives.
    """

    graph: Graph

    def begin(self, episodes: int) -> Policy:
        """What plays ``episodes`` episodes from their first step on; see `nimbleq.types.Policy`."""
        return Remembering(self.graph, episodes) if self.graph.units else self

    def __call__(self, obs: Array, mask: Array | None = None) -> Array:
        graph = self.graph if mask is None else _masked(self.graph)
        return interpret(graph, obs, mask)[ACTION].astype(np.int64)


class Remembering:
    """The greedy policy of a graph that remembers, in some episodes; each is known by its number.

    Args:
        graph: the policy.
        episodes: that it will play.
    """

    by_episode = True

    def __init__(self, graph: Graph, episodes: int) -> None:
        self.graph = graph
        self.state = np.zeros((episodes, graph.units), np.float32)

    def __call__(self, obs: Array, mask: Array | None = None, *, episode: Array) -> Array:
        """``obs[B, *O]`` of the episodes ``episode: int64[B]`` → ``action int64[B]``."""
        graph = self.graph if mask is None else _masked(self.graph)
        made = interpret(graph, {graph.obs_name: obs, STATE: self.state[episode]}, mask)
        self.state[episode] = made[NEXT_STATE]
        return made[ACTION].astype(np.int64)


@lru_cache(maxsize=16)
def _masked(graph: Graph) -> Graph:
    return with_mask(graph)
