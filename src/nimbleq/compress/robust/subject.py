"""What is asked about: a policy as a network to bound, over the integers that it computes with if it has some.

An integer policy first turns every feature into a level by itself. Its network starts at these levels: a box of
observations becomes a box of levels, and all that follows is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nimbleq.compress.robust.network import Network
from nimbleq.compress.robust.rules import Builder, lower
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.rewrites.mask import without_mask
from nimbleq.graph.tensor import FLOAT32, Int
from nimbleq.types import Array

_FAR = 1 << 22
"""Zero points from here on leave out levels: float32 numbers are too far apart there."""


@dataclass(frozen=True, eq=False)
class Levels:
    """How observations become the levels that an integer network starts from.

    Attributes:
        graph: from the observation to the tensors `names`.
        names: the levels, one tensor after the other.
        feature: ``int64[n]`` the feature that each level is made of.
    """

    graph: Graph
    names: tuple[str, ...]
    feature: Array

    def of(self, obs: Array) -> Array:
        """``int32[B, n]`` levels of float32 ``[B, F]``."""
        shaped = obs.reshape(len(obs), *self.graph.obs_type.shape)
        made = interpret(self.graph, shaped)
        return np.concatenate([made[name].reshape(len(obs), -1) for name in self.names], axis=1)


@dataclass(frozen=True, eq=False)
class Subject:
    """Attributes:
    graph: the policy, without a mask.
    network: its layers; the outputs are what the action is the largest of.
    levels: how the network's inputs are made (None: they are the observation).
    whole: whether the outputs are integers, computed exactly.
    """

    graph: Graph
    network: Network
    levels: Levels | None
    whole: bool


def subject_of(graph: Graph, output: str | None = None) -> Subject:
    """The policy as a network whose outputs are the tensor ``output`` (None: what the action is the largest of).

    Raises:
        UnsupportedOpError: an op has no rule; see `rules`.
    """
    graph = without_mask(graph)
    output = output or decided_by(graph)
    levels = levels_of(graph)
    if levels is None:
        size, shape = graph.obs_type.size, graph.obs_type.shape
        builder, made = Builder(size), {graph.obs_name: np.arange(size).reshape(shape)}
        integer = isinstance(graph.obs_type.qtype, Int)
    else:
        builder, made, integer = Builder(len(levels.feature)), _placed(graph, levels.names), True
    outputs = lower(graph, made, builder, output).reshape(-1)
    network = builder.finish(outputs, integer)
    return Subject(graph, network, levels, network.exact and isinstance(graph.types[output].qtype, Int))


def decided_by(graph: Graph) -> str:
    """The tensor that the action is the largest of."""
    chooser = graph.producer(ACTION)
    return chooser.inputs[0] if chooser is not None and isinstance(chooser.op, ops.ArgMax) else Q


def _placed(graph: Graph, names: tuple[str, ...]) -> dict[str, Array]:
    made, start = {}, 0
    for name in names:
        shape, size = graph.types[name].shape, graph.types[name].size
        made[name] = np.arange(start, start + size).reshape(shape)
        start += size
    return made


def levels_of(graph: Graph) -> Levels | None:
    """The levels that a float32 observation becomes, if each is made of a feature of its own; else None."""
    if graph.obs_type.qtype != FLOAT32:
        return None
    made = {graph.obs_name: np.arange(graph.obs_type.size).reshape(graph.obs_type.shape)}
    names: list[str] = []
    front = []
    for node in graph.nodes:
        read = [made[name] for name in node.inputs if name in made]
        if not read:
            continue
        if len(read) < len(node.inputs):
            return None
        if isinstance(node.op, ops.Quantize):
            if (np.abs(node.op.zero_points(graph.weights).astype(np.int64)) >= _FAR).any():
                return None
            names.append(node.output)
        elif (moved := _moved(node.op, read, made)) is not None:
            made[node.output] = moved
        else:
            return None
        front.append(node)
    if not names:
        return None
    sources = {node.output: node.inputs[0] for node in front}
    feature = np.concatenate([made[sources[name]].reshape(-1) for name in names])
    if len(np.unique(feature)) < len(feature):
        return None
    weights = {name: graph.weights[name] for node in front for name in node.op.weight_names()}
    return Levels(Graph({graph.obs_name: graph.obs_type}, tuple(front), tuple(names), weights), tuple(names), feature)


def _moved(op: ops.Op, read: list[Array], made: Mapping[str, Array]) -> Array | None:
    """The features in a tensor made by an op that only moves values, or is monotone in each."""
    match op:
        case ops.Flatten():
            return read[0].reshape(-1)
        case ops.Slice():
            return read[0][op.start : op.stop]
        case ops.Unflatten():
            return read[0].reshape(op.channels, op.height, op.width)
        case ops.Concat():
            return np.concatenate(read)
        case ops.Affine():
            return read[0]
        case ops.Activation() if op.function != "leaky_relu" or op.slope >= 0:
            return read[0]
    return None
