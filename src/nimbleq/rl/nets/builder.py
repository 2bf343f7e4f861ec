"""A layer graph in the making, from the named weights of a network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, NEXT_STATE, STATE, Graph, Node, Q
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array


class GraphBuilder:
    """Collects the nodes of a graph, and knows the weights of the network that it is made from."""

    def __init__(self, obs: TensorType, weights: Mapping[str, Array], branches: tuple[int, ...] = ()) -> None:
        self.obs, self.branches, self._given = obs, branches, weights
        self._units = 0
        self._nodes: list[Node] = []
        self._weights: dict[str, Array] = {}
        self._read: set[str] = set()

    def given(self, name: str) -> Array:
        """A weight of the network."""
        if name not in self._given:
            raise GraphError(f"the network's weights lack {name!r}: they belong to another network")
        self._read.add(name)
        return np.asarray(self._given[name], np.float32)

    def has(self, name: str) -> bool:
        """Whether the network has such a weight."""
        return name in self._given

    def store(self, name: str, value: Array) -> str:
        """Make ``value`` a weight of the graph."""
        self._weights[name] = np.asarray(value, np.float32)
        return name

    def add(self, op: ops.Op, name: str, *sources: str) -> str:
        """Append a node."""
        self._nodes.append(Node(op, sources, name))
        return name

    def affine(self, x: str, name: str, scale: Array, shift: Array) -> str:
        """``x·scale + shift``."""
        names = self.store(f"{name}.scale", scale), self.store(f"{name}.shift", shift)
        return self.add(ops.Affine(*names), name, x)

    def linear(self, x: str, name: str, weight: Array, bias: Array) -> str:
        """``weight @ x + bias``."""
        names = self.store(f"{name}.weight", weight), self.store(f"{name}.bias", bias)
        return self.add(ops.Linear(*names), name, x)

    def layer(self, path: str) -> tuple[Array, Array]:
        """Weight and bias of a layer; of a noisy one the means, of a spectral one the divided weight."""
        for sigma in (f"{path}.weight_sigma", f"{path}.bias_sigma"):
            if sigma in self._given:
                self._read.add(sigma)
        weight, bias = self.given(f"{path}.weight"), self.given(f"{path}.bias")
        if not self.has(f"{path}.left"):
            return weight, bias
        left, right = (self.given(f"{path}.{side}").astype(np.float64) for side in ("left", "right"))
        return weight / (left @ weight.reshape(len(weight), -1) @ right), bias

    def remember(self, units: int) -> None:
        """Give the graph a state of so many numbers; a node makes the next one."""
        self._units = units

    def graph(self) -> Graph:
        """The whole, once `Q` is made."""
        unknown = sorted(set(self._given) - self._read)
        if unknown:
            raise GraphError(f"the network has no weight {unknown[0]!r}: the weights belong to another network")
        choose = ops.BranchArgMax(self.branches) if self.branches else ops.ArgMax()
        nodes = (*self._nodes, Node(choose, (Q,), ACTION))
        if not self._units:
            return Graph({"obs": self.obs}, nodes, (Q, ACTION), self._weights)
        inputs = {"obs": self.obs, STATE: TensorType((self._units,))}
        return Graph(inputs, nodes, (Q, ACTION, NEXT_STATE), self._weights)

    def joined(self, actions: int, outputs: int, dueling: bool) -> tuple[Array, Array]:
        """The head as one linear layer, float64 ``[A, N, H]`` and ``[A, N]``: a dueling head is linear, too."""
        weight, bias = (part.astype(np.float64) for part in self.layer("advantage"))
        if weight.ndim != 2 or weight.shape[0] != actions * outputs or bias.shape != weight.shape[:1]:
            raise GraphError(f"the head has weights {weight.shape}, expected {actions * outputs} rows")
        weight, bias = weight.reshape(actions, outputs, -1), bias.reshape(actions, outputs)
        if not dueling:
            return weight, bias
        value_weight, value_bias = self.layer("value")
        return weight - weight.mean(axis=0) + value_weight, bias - bias.mean(axis=0) + value_bias
