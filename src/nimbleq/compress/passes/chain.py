"""Fully connected students as the native engine sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node, Q
from nimbleq.graph.tensor import UINT8, Float32
from nimbleq.types import Array


@dataclass(frozen=True, eq=False)
class Chain:
    """``scale·obs + shift → (Linear → ReLU)* → Linear``.

    Attributes:
        scale, shift: ``float32[O]`` of the flat observation; not trained.
        layers: the nodes of the Linears, each with a bias.
        inputs: name of what each of them reads.
    """

    scale: Array
    shift: Array
    layers: tuple[Node, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(node.inputs[0] for node in self.layers)

    def weight_names(self) -> tuple[tuple[str, str], ...]:
        """(weight, bias) of each layer."""
        return tuple((node.op.weight, node.op.bias) for node in self.layers)  # type: ignore[attr-defined]

    def widths(self, graph: Graph) -> tuple[int, ...]:
        """Of the flat observation, the hidden layers and the actions."""
        return (len(self.scale), *(graph.types[node.output].size for node in self.layers))


def as_chain(graph: Graph) -> Chain | str:
    """The chain that ``graph`` is, or why it is none, in words for a person."""
    kind = graph.obs_type
    if not (isinstance(kind.qtype, Float32) or kind.qtype == UINT8):
        return f"observations are {kind.qtype}"
    scale, shift = np.ones(kind.size, np.float32), np.zeros(kind.size, np.float32)
    layers: list[Node] = []
    open_sums, tensor = "", graph.obs_name
    for node in graph.nodes:
        if isinstance(node.op, ops.ArgMax):
            continue
        if node.inputs != (tensor,):
            return "it branches"
        match node.op:
            case ops.Affine() if not layers:
                gain, offset = (
                    np.broadcast_to(graph.weights[name], graph.types[tensor].shape).reshape(-1)
                    for name in (node.op.scale, node.op.shift)
                )
                scale, shift = scale * gain, shift * gain + offset
            case ops.Flatten():
                pass
            case ops.Linear(bias=None):
                return "a layer has no bias"
            case ops.Linear() if not open_sums:
                layers.append(node)
                open_sums = node.output
            case ops.Linear():
                return "no ReLU stands between two layers: fold first"
            case ops.Activation(function="relu") if open_sums == tensor:
                open_sums = ""
            case ops.Activation():
                return f"it has the activation {node.op.function}"
            case _:
                return f"it has {node.op.kind}"
        tensor = node.output
    names = [name for node in layers for name in node.op.weight_names()]
    if len(set(names)) < len(names):
        return "layers share weights"
    return Chain(scale, shift, tuple(layers)) if open_sums == Q else "its last layer is not linear"
