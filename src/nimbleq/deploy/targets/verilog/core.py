"""Cutting a policy in two: what prepares the observation, and the integer core that becomes a circuit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, MASK, Graph, Node, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array

TARGET = "verilog"
_WIRING = (ops.Flatten, ops.Slice, ops.Unflatten, ops.Concat)
_CORE = (ops.Linear, ops.Requantize, ops.ArgMax, *_WIRING)


@dataclass(frozen=True, eq=False)
class Core:
    """The two parts of a policy.

    Attributes:
        policy: the whole.
        levels: name of the integer tensor that the circuit reads; an input of the policy, or made by a Quantize.
        nodes: of the circuit, in order.
        values: name of the integer tensor whose largest entry is the action.
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
            inside = {id(node) for node in self.nodes}
            nodes = tuple(n for n in policy.nodes if id(n) not in inside and n.output != Q)
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
    values = action.inputs[0]
    starts = [n.output for n in policy.nodes if isinstance(n.op, ops.Quantize)]
    levels = starts[-1] if starts else policy.obs_name
    inside: list[Node] = []
    made = {levels, MASK}
    for node in policy.nodes:
        if made.issuperset(node.inputs) and node.output != levels and node.output not in _ends(policy, values):
            inside.append(node)
            made.add(node.output)
    wrong = [node.op.kind for node in inside if not isinstance(node.op, _CORE)]
    if not policy.types[levels].qtype.is_integer or action not in inside or values == levels:
        reached = {id(node) for node in inside}
        wrong += [n.op.kind for n in policy.nodes if id(n) not in reached and not isinstance(n.op, ops.Quantize)]
        wrong = wrong or [action.op.kind]
    wrong += [n.op.kind for n in inside if not policy.types[n.output].qtype.is_integer]
    if wrong:
        hint = (
            "circuits are made of one Quantize of the observation, integer Linear layers, Requantize and ArgMax; "
            "compress with --recipe int8 (students without convolutions), or export to C"
        )
        raise UnsupportedOpError(
            ", ".join(dict.fromkeys(n.op.kind for n in policy.nodes if n.op.kind in wrong)), TARGET, hint
        )
    return Core(policy, levels, tuple(inside), values)


def _ends(policy: Graph, values: str) -> tuple[str, ...]:
    """The last Dequantize, whose floats only people read."""
    last = policy.producer(Q)
    return (Q,) if last is not None and isinstance(last.op, ops.Dequantize) and last.inputs == (values,) else ()
