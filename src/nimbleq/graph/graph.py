"""The graph: frozen nodes in execution order over named tensors, checked on construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph.branches import combinations
from nimbleq.graph.ops import BranchArgMax, Op
from nimbleq.graph.tensor import TensorType
from nimbleq.graph.weight import Storage, Weight, default_storage
from nimbleq.types import Array

Q = "q"
"""Name of the output that holds action values, ``float32[A]``."""
ACTION = "action"
"""Name of the output that holds the greedy action, ``int32[]``."""
MASK = "mask"
"""Name of the input that says which actions are legal (not 0), ``uint8[A]``, if a policy takes one."""
STATE = "state"
"""Name of the input that holds what a policy remembers, ``float32[H]``, zeros before an episode, if it remembers."""
NEXT_STATE = "next_state"
"""Name of the output that holds what it remembers then."""


@dataclass(frozen=True)
class Node:
    """One op, the tensors it reads, and the tensor it makes (a tensor is made once)."""

    op: Op
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, eq=False)
class Graph:
    """A policy: observation in, action values `Q` and greedy action `ACTION` out.

    Checked on construction: every graph that exists is valid. A graph equals only itself: it can key a cache.

    Attributes:
        inputs: tensor name → type, in order.
        nodes: in execution order.
        outputs: names of the tensors that are results.
        weights: name → read-only array of values for arithmetic (float32, int8 or int32).
        storage: name → format and encoding, of the weights that are not dense in the format of their type.
        types: every tensor's type, inferred.

    Raises:
        GraphError: a tensor is used before it is made or made twice, an op refuses its inputs (names the node), or a
            weight has values that its format does not have.
    """

    inputs: Mapping[str, TensorType]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, Array]
    storage: Mapping[str, Storage] = field(default_factory=dict)
    types: Mapping[str, TensorType] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        weights = {}
        for name, array in self.weights.items():
            scalar = not isinstance(array, np.ndarray)  # what numpy makes of an array without axes
            ours = not scalar and not array.flags.writeable and array.base is None and array.flags.c_contiguous
            weights[name] = array if ours else np.array(array, order="C")
            weights[name].flags.writeable = False
        object.__setattr__(self, "inputs", MappingProxyType(dict(self.inputs)))
        object.__setattr__(self, "weights", MappingProxyType(weights))
        object.__setattr__(self, "storage", MappingProxyType(_checked_storage(weights, self.storage)))
        object.__setattr__(self, "types", MappingProxyType(_infer_types(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Mapping proxies cannot be pickled; worker processes get plain dicts and check again.
        return (Graph, (dict(self.inputs), self.nodes, self.outputs, dict(self.weights), dict(self.storage)))

    def producer(self, tensor: str) -> Node | None:
        """The node that makes ``tensor``, or None for a graph input."""
        return next((node for node in self.nodes if node.output == tensor), None)

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read ``tensor``."""
        return tuple(node for node in self.nodes if tensor in node.inputs)

    def stored(self, name: str) -> Weight:
        """The weight ``name`` as codes in its format and encoding.

        Raises:
            GraphError: its values have no format.
        """
        try:
            how = self.storage.get(name) or default_storage(self.weights[name])
        except GraphError as error:
            raise GraphError(f"weight {name!r} {error}") from None
        return Weight(how.format.encode(self.weights[name]), how.format, how.encoding)

    def with_weights(self, changed: Mapping[str, Array]) -> Graph:
        """The same graph with some weights replaced, in their default storage."""
        storage = {name: how for name, how in self.storage.items() if name not in changed}
        return replace(self, weights={**self.weights, **changed}, storage=storage)

    def with_storage(self, storage: Mapping[str, Storage]) -> Graph:
        """The same graph with another storage for some weights; their values stay.

        Raises:
            GraphError: a format cannot represent the values.
        """
        return replace(self, storage={**self.storage, **storage})

    @property
    def obs_name(self) -> str:
        """Name of the only input besides `MASK` and `STATE`.

        Raises:
            GraphError: there is not exactly one.
        """
        names = [name for name in self.inputs if name not in (MASK, STATE)]
        if len(names) != 1:
            raise GraphError(f"expected one input, the graph has {len(names)}: {', '.join(names)}")
        return names[0]

    @property
    def obs_type(self) -> TensorType:
        """Type of the only input besides `MASK` and `STATE`."""
        return self.inputs[self.obs_name]

    @property
    def masked(self) -> bool:
        """Whether the policy takes a mask of the legal actions."""
        return MASK in self.inputs

    @property
    def units(self) -> int:
        """Numbers that the policy remembers from decision to decision; 0: it remembers nothing."""
        return self.inputs[STATE].size if STATE in self.inputs else 0

    @property
    def actions(self) -> int:
        """Number of action values ``A``: one for each action, or for each choice of each of `branches`."""
        return self.types[Q].size

    @property
    def branches(self) -> tuple[int, ...]:
        """Sizes of the action's dimensions; empty where it is a single choice."""
        producer = self.producer(ACTION)
        return producer.op.branches if producer is not None and isinstance(producer.op, BranchArgMax) else ()

    @property
    def choices(self) -> int:
        """How many actions there are: 0 … `choices` − 1."""
        return combinations(self.actions, self.branches)


def _checked_storage(weights: Mapping[str, Array], storage: Mapping[str, Storage]) -> dict[str, Storage]:
    """``storage`` of the existing weights, checked against their values."""
    present = {name: how for name, how in storage.items() if name in weights}
    for name, how in present.items():
        try:
            how.format.check(weights[name])
            if why := how.encoding.misfit(how.format.encode(weights[name]), how.format):
                raise GraphError(why)
        except GraphError as error:
            raise GraphError(f"weight {name!r} {error}") from None
    return {name: how for name, how in present.items() if how != default_storage(weights[name])}


def _infer_types(graph: Graph) -> dict[str, TensorType]:
    """Types of all tensors; this is the graph's check."""
    types = dict(graph.inputs)
    for node in graph.nodes:
        where = f"{node.op.kind} → {node.output!r}"
        missing = [name for name in node.inputs if name not in types]
        if missing:
            raise GraphError(f"{where}: input {missing[0]!r} is not made by an earlier node")
        if node.output in types:
            raise GraphError(f"{where}: the tensor {node.output!r} is made twice")
        if (node.op.arity is None and not node.inputs) or node.op.arity not in (None, len(node.inputs)):
            raise GraphError(f"{where}: takes {node.op.arity or 'one or more'} inputs, got {len(node.inputs)}")
        try:
            types[node.output] = node.op.infer(tuple(types[name] for name in node.inputs), graph.weights)
        except GraphError as error:
            raise GraphError(f"{where}: {error}") from None
    for name in graph.outputs:
        if name not in types:
            raise GraphError(f"output {name!r} is not made by any node")
    return types
