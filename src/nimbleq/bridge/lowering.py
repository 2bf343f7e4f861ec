"""A graph under construction while a torch trace is read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.ops import Op
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array

OBS = "obs"


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph, by name."""

    name: str


@dataclass(frozen=True)
class Mean:
    """``a.mean(1, keepdim=keep)`` of a vector: half of a dueling head."""

    of: Tensor
    keep: bool


@dataclass(frozen=True)
class Centred:
    """``a − mean(a)``."""

    of: Tensor


@dataclass(frozen=True)
class ValuePlus:
    """``v + a`` with ``v [1]`` broadcast over ``a [A]``."""

    value: Tensor
    advantage: Tensor


@dataclass(frozen=True)
class ValueMinusMean:
    """``v − mean(a)``."""

    value: Tensor
    advantage: Tensor


@dataclass(frozen=True)
class Rows:
    """``x.view(batch, count, size)`` of a vector: the logits of a histogram for each action; then their softmax."""

    of: Tensor
    size: int
    softmax: bool = False


@dataclass(frozen=True)
class Shape:
    """``x.shape``: the batch, then constants."""

    of: Tensor


@dataclass(frozen=True)
class Batch:
    """``x.shape[0]``."""


_SYMBOLIC = (Tensor, Mean, Centred, ValuePlus, ValueMinusMean, Rows, Shape, Batch)


class Lowering:
    """Nodes, weights and types so far. Everything else about a trace is a constant.

    Args:
        obs: type of the observation.
    """

    def __init__(self, obs: TensorType) -> None:
        self.obs = Tensor(OBS)
        self._inputs = {OBS: obs}
        self._types = {OBS: obs}
        self._nodes: list[Node] = []
        self._weights: dict[str, Array] = {}
        self._names: dict[int, tuple[str, Any]] = {}
        self._name, self._where = "", ""

    def enter(self, name: str, where: str) -> None:
        """Start on the traced call ``name`` in the module at path ``where``."""
        self._name, self._where = name, where

    @property
    def path(self) -> str:
        """Path of the module that is being lowered."""
        return self._where

    def unsupported(self, op: str, hint: str) -> UnsupportedOpError:
        """The error that says ``op`` cannot be expressed at the current place; ``hint`` is what to do."""
        place = f"{op} (in {self._where})" if self._where else op
        return UnsupportedOpError(place, "the layer graph", hint)

    def type_of(self, tensor: Tensor) -> TensorType:
        """Shape and format of a tensor."""
        return self._types[tensor.name]

    def add(self, op: Op, *sources: Tensor) -> Tensor:
        """Append a node.

        Raises:
            GraphError: the op refuses its inputs.
        """
        names = tuple(source.name for source in sources)
        kind = op.infer(tuple(self._types[name] for name in names), self._weights)
        stem = f"{self._name}_" if self._name in (OBS, Q, ACTION) else self._name
        output, count = stem, 0
        while output in self._types:
            count += 1
            output = f"{stem}.{count}"
        self._types[output] = kind
        self._nodes.append(Node(op, names, output))
        return Tensor(output)

    def constant(self, name: str, value: Any) -> Any:
        """A parameter or buffer; its path will name the weight it becomes."""
        self._names[id(value)] = (name, value)
        return value

    def weight(self, value: Any, name: str = "") -> str:
        """Store a tensor or array as float32; the same one is stored once."""
        array = to_array(value)
        stem = self._names[id(value)][0] if id(value) in self._names else (name or self._name)
        unique, count = stem, 0
        while unique in self._weights and not _same(self._weights[unique], array):
            count += 1
            unique = f"{stem}.{count}"
        self._weights[unique] = array
        return unique

    def affine(self, source: Tensor, scale: Any, shift: Any) -> Tensor:
        """``source·scale + shift`` with constants that broadcast as torch does against ``[B, *O]``."""
        rank = len(self.type_of(source).shape)
        arrays = [_without_batch(to_array(value), rank) for value in (scale, shift)]
        names = [
            self.weight(array, f"{self._name}.{field}") for array, field in zip(arrays, ("scale", "shift"), strict=True)
        ]
        return self.add(ops.Affine(*names), source)

    def tensors(self, values: Sequence[Any], op: str) -> list[Tensor]:
        """``values``, all of which must be tensors of the graph."""
        for value in values:
            if not isinstance(value, Tensor):
                raise self.unsupported(
                    op, _UNFINISHED if isinstance(value, _SYMBOLIC) else "it must be given tensors of the network"
                )
        return list(values)

    def call(self, handler: Callable[..., Any], op: str, args: Any, kwargs: Any) -> Any:
        """Lower one call; arguments that the handler does not know are refused."""
        try:
            bound = inspect.signature(handler).bind(self, *args, **kwargs)
        except TypeError as error:
            raise self.unsupported(op, f"it is called in a way that the graph cannot express ({error})") from None
        return handler(*bound.args, **bound.kwargs)

    @staticmethod
    def holds_tensor(values: Any) -> bool:
        """Whether a nest of arguments depends on the observation."""
        if isinstance(values, dict):
            return Lowering.holds_tensor(list(values.values()))
        if isinstance(values, list | tuple):
            return any(Lowering.holds_tensor(value) for value in values)
        if isinstance(values, slice):
            return Lowering.holds_tensor([values.start, values.stop, values.step])
        return isinstance(values, _SYMBOLIC)

    def finish(self, result: Any) -> Graph:
        """The graph whose action values are ``result``."""
        self._where = ""
        (last,) = self.tensors([result], "the network's result")
        kind = self.type_of(last)
        if len(kind.shape) != 1 or last == self.obs:
            raise self.unsupported(
                f"the network's result {kind}", "it must be one vector of action values per observation"
            )
        rename = {last.name: Q}
        nodes = [
            Node(node.op, tuple(rename.get(name, name) for name in node.inputs), rename.get(node.output, node.output))
            for node in self._nodes
        ]
        nodes.append(Node(ops.ArgMax(), (Q,), ACTION))
        used = {name for node in nodes for name in node.op.weight_names()}
        weights = {name: array for name, array in self._weights.items() if name in used}
        return Graph(self._inputs, tuple(nodes), (Q, ACTION), weights)


_UNFINISHED = "only the dueling head v + a - a.mean(1, keepdim=True) may add or subtract a mean or a broadcast value"


def to_array(value: Any) -> Array:
    """A torch tensor, array or number as float32."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    return np.asarray(value, np.float32)


def _without_batch(array: Array, rank: int) -> Array:
    """Drop leading axes of one that stand for the batch."""
    while array.ndim > rank and array.shape[0] == 1:
        array = array[0]
    return array


def _same(left: Array, right: Array) -> bool:
    return left.shape == right.shape and bool(np.array_equal(left, right))
