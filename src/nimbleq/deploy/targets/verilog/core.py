"""Cutting a policy in two: what prepares the observation, and the integer core that becomes a circuit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, MASK, Graph, Node, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.tensor import Int, TensorType
from nimbleq.types import Array

TARGET = "verilog"
_WIRING = (ops.Flatten, ops.Slice, ops.Unflatten, ops.Concat)
_EXACT_BITS = 16
"""Integers of so many bits times a scale are different floats where they are different."""
_TREES = (ops.ObliqueTree, ops.AxisTree)
_CORE = (ops.Linear, ops.Requantize, ops.ArgMax, *_TREES, *_WIRING)


@dataclass(frozen=True, eq=False)
class Core:
    """The two parts of a policy.

    Attributes:
        policy: the whole.
        levels: name of the integer tensor that the circuit reads; an input of the policy, or made by a Quantize.
        nodes: of the circuit, in order.
        values: name of the tensor whose largest entry is the action: integers, or the 0 and 1 of a tree's leaf.
    """

    policy: Graph
    levels: str
    nodes: tuple[Node, ...]
    values: str

    @property
    def levels_type(self) -> TensorType:
        """What the circuit reads."""
        return self.policy.types[self.levels]

    @property
    def value_type(self) -> Int:
        """Number format of the values that are compared."""
        kind = self.policy.types[self.values].qtype
        return Int(kind.bits, kind.low < 0) if kind.is_integer else Int(2, signed=True)

    @property
    def quantize(self) -> ops.Quantize | None:
        """How an observation becomes levels; None where it is given in integers."""
        node = self.policy.producer(self.levels)
        return None if node is None else node.op if isinstance(node.op, ops.Quantize) else None

    def levels_of(self, obs: Array) -> Array:
        """``obs[N, *O]`` → ``int32[N, F]``: what the circuit is given."""
        if self.levels in self.policy.inputs:
            return obs.reshape(len(obs), -1).astype("int32")
        return interpret(self._graph(obs_side=True), obs)[self.levels].reshape(len(obs), -1)

    def answers_of(self, levels: Array, mask: Array | None) -> Mapping[str, Array]:
        """The interpreter's answers to ``levels[N, F]``: `ACTION` and the integers `values`."""
        shaped = levels.reshape(len(levels), *self.levels_type.shape)
        return interpret(self._graph(obs_side=False), shaped.astype(self.levels_type.qtype.dtype), mask)

    def q_of(self, values: Array) -> Array:
        """Action values ``float32[N, A]`` of the integers ``values[N, A]``."""
        policy = self.policy
        last = policy.producer(Q)
        if last is None or self.values == Q:
            return values.astype("float32")
        graph = Graph({self.values: policy.types[self.values]}, (last,), (Q,), policy.weights)
        return interpret(graph, values)[Q]

    def _graph(self, obs_side: bool) -> Graph:
        policy = self.policy
        if obs_side:
            inside = {node.output for node in self.nodes}
            nodes = tuple(n for n in policy.nodes if n.output not in inside and n.output != Q)
            return Graph({policy.obs_name: policy.obs_type}, nodes, (self.levels,), policy.weights)
        inputs = {self.levels: self.levels_type} | ({MASK: policy.inputs[MASK]} if policy.masked else {})
        return Graph(inputs, self.nodes, (ACTION, self.values), policy.weights)


def core_of(policy: Graph) -> Core:
    """The parts of ``policy``.

    Raises:
        UnsupportedOpError: it is not an integer policy of these layers.
    """
    action = policy.producer(ACTION)
    assert action is not None, "a policy makes its action"
    values = _compared(policy, action.inputs[0])
    starts = [n.output for n in policy.nodes if isinstance(n.op, ops.Quantize)]
    levels = starts[-1] if starts else policy.obs_name
    inside: list[Node] = []
    made = {levels, MASK}
    for node in policy.nodes:
        if node is action:
            node = replace(node, inputs=(values, *node.inputs[1:]))
        if made.issuperset(node.inputs) and node.output != levels and node.output not in _ends(policy, values):
            inside.append(node)
            made.add(node.output)
    wrong = [node.op.kind for node in inside if not isinstance(node.op, _CORE)]
    if not policy.types[levels].qtype.is_integer or ACTION not in made or values == levels:
        wrong += [n.op.kind for n in policy.nodes if n.output not in made and not isinstance(n.op, ops.Quantize)]
        wrong = wrong or [action.op.kind]
    wrong += [n.op.kind for n in inside if not policy.types[n.output].qtype.is_integer and not _is_leaf(n, policy)]
    if wrong:
        hint = (
            "circuits are made of one Quantize of the observation, integer Linear layers, integer trees, Requantize "
            "and ArgMax; compress with --recipe int8 (students without convolutions), or export to C"
        )
        raise UnsupportedOpError(
            ", ".join(dict.fromkeys(n.op.kind for n in policy.nodes if n.op.kind in wrong)), TARGET, hint
        )
    return Core(policy, levels, tuple(inside), values)


def _compared(policy: Graph, values: str) -> str:
    """The integers of which ``values`` are multiples by one positive scale, which compares as they do."""
    node = policy.producer(values)
    if node is None or not isinstance(node.op, ops.Dequantize) or policy.types[node.inputs[0]].qtype.bits > _EXACT_BITS:
        return values
    scale = np.ones(1) if node.op.scale is None else policy.weights[node.op.scale]
    return node.inputs[0] if scale.size == 1 and scale[0] > 0 else values


def _is_leaf(node: Node, policy: Graph) -> bool:
    """Whether it makes 0 and 1 of a leaf's action, from integers."""
    if not isinstance(node.op, _TREES) or policy.weights[node.op.leaf].ndim > 1:
        return False
    return isinstance(node.op, ops.AxisTree) or policy.weights[integer_split(node.op, policy)].dtype != np.float32


def integer_split(op: ops.ObliqueTree, policy: Graph) -> str:
    """Name of its splits.

    Raises:
        UnsupportedOpError: they are no integers.
    """
    if policy.weights[op.split].dtype == np.float32:
        raise UnsupportedOpError(op.kind, TARGET, "its splits are floats: compress with --passes … int8")
    return op.split


def _ends(policy: Graph, values: str) -> tuple[str, ...]:
    """The last Dequantize, whose floats only people read."""
    last = policy.producer(Q)
    return (Q,) if last is not None and isinstance(last.op, ops.Dequantize) and last.inputs == (values,) else ()
