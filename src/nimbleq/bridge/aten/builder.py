"""A graph under construction: its nodes and weights, and how an expression becomes a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nimbleq.bridge.aten.algebra import full, matrix_of, normal, per_observation, regroup, reshaped, rows
from nimbleq.bridge.aten.convolve import shifted_kernel
from nimbleq.bridge.aten.values import Expr, Gathered, Scaled, Softmax, Tensor, Value, in_order, plain
from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.ops import Op
from nimbleq.graph.tensor import TensorType
from nimbleq.types import Array

OBS = "obs"
_MAX_SUPPORTS = 64
_NOT_FIRST = "the batch must be the first axis here"


class Builder:
    """The nodes, weights and types so far.

    Args:
        obs: type of the observation.
    """

    def __init__(self, obs: TensorType) -> None:
        self.obs = Tensor(OBS, obs)
        self._inputs = {OBS: obs}
        self._types = {OBS: obs}
        self._nodes: list[Node] = []
        self._weights: dict[str, Array] = {}
        self._materialized: dict[int, tuple[Expr, Tensor]] = {}
        self._name = ""
        self._origins: dict[int, str] = {}

    def enter(self, name: str) -> None:
        """Start the op ``name``: the following nodes and weights are named after it."""
        self._name = name

    def name_constant(self, value: Any, name: str) -> None:
        """Note that ``value`` is the module's parameter or buffer ``name``, which names its weight."""
        self._origins[id(value)] = name

    def origin(self, value: Any, otherwise: str) -> str:
        """The name of the parameter ``value``, else a name from the current op and ``otherwise``."""
        return self._origins.get(id(value), f"{self._name}.{otherwise}")

    def add(self, op: Op, *sources: Tensor) -> Tensor:
        """Append a node.

        Raises:
            GraphError: the op refuses its inputs.
        """
        kind = op.infer(tuple(source.type for source in sources), self._weights)
        stem = f"{self._name}_" if self._name in (OBS, Q, ACTION) else self._name
        output, count = stem, 0
        while output in self._types:
            count += 1
            output = f"{stem}.{count}"
        self._types[output] = kind
        self._nodes.append(Node(op, tuple(source.name for source in sources), output))
        return Tensor(output, kind)

    def weight(self, value: Any, name: str) -> str:
        """Store an array as float32 under ``name``; equal arrays are stored once."""
        array = np.asarray(value, np.float32)
        unique, count = name, 0
        while unique in self._weights and not _same(self._weights[unique], array):
            count += 1
            unique = f"{name}.{count}"
        self._weights[unique] = array
        return unique

    def affine(self, source: Tensor, scale: Any, shift: Any) -> Tensor:
        """``source·scale + shift``; both broadcast to the source's shape."""
        names = [
            self.weight(compact(np.asarray(value, np.float64)), f"{self._name}.{field}")
            for value, field in ((scale, "scale"), (shift, "shift"))
        ]
        return self.add(ops.Affine(*names), source)

    def as_float(self, source: Tensor) -> Tensor:
        """``source`` itself, or the integers of a raw image as float32."""
        return self.affine(source, 1.0, 0.0) if source.is_integer else source

    def flat(self, source: Tensor) -> Tensor:
        """``source`` as a vector."""
        if len(source.shape) == 1:
            return source
        made = next((n for n in self._nodes if isinstance(n.op, ops.Flatten) and n.inputs == (source.name,)), None)
        return Tensor(made.output, self._types[made.output]) if made else self.add(ops.Flatten(), source)

    def aligned(self, value: Value) -> Expr:
        """``value`` as an expression of its shape per observation.

        Raises:
            GraphError: the batch is not the first axis, or observations are mixed.
        """
        layout, index = regroup(value.layout, value.expr.size)
        first = layout.ndim > 0 and np.array_equal(layout.reshape(-1), np.arange(layout.size))
        if not first or per_observation(layout) != layout.shape[1:]:
            raise GraphError(_NOT_FIRST)
        shape = layout.shape[1:]
        if not np.array_equal(index, np.arange(value.expr.size)):
            return rows(value.expr, index, shape)
        scaled = all(isinstance(term, Scaled) and isinstance(term.source, Tensor) for term in value.expr.terms)
        if shape != value.expr.shape and len(shape) == 1 and scaled:
            return plain(self.flat(self.materialize(value.expr)))
        return reshaped(value.expr, shape)

    def flattened(self, expr: Expr) -> Expr:
        """``expr`` as a vector, by a Flatten where it is an image of the graph."""
        return self.aligned(in_order(expr, (expr.size,)))

    def vector(self, value: Value) -> Tensor:
        """``value[B, n]`` as a vector of the graph."""
        expr = self.aligned(value)
        if len(expr.shape) != 1:
            raise GraphError(f"it needs a vector per observation, not {expr.shape}: flatten first")
        return self.flat(self.materialize(expr))

    def image(self, value: Value) -> Tensor | None:
        """``value[B, C, H, W]`` as an image of the graph, or None if no op of the graph makes it one."""
        expr = self.aligned(value)
        tensor = self.materialize(expr) if len(expr.shape) == 3 and self._stays_image(expr) else None
        return tensor if tensor is not None and tensor.shape == expr.shape else None

    def _stays_image(self, expr: Expr) -> bool:
        return all(
            isinstance(term.source, Tensor)
            and (
                isinstance(term, Scaled)
                or (isinstance(term, Gathered) and shifted_kernel(term, expr.shape) is not None)
            )
            for term in expr.terms
        )

    def materialize(self, expr: Expr) -> Tensor:
        """The graph tensor for ``expr``: of its shape, or a vector in the same order.

        Raises:
            GraphError: the graph has no op for it.
        """
        if id(expr) not in self._materialized:
            self._materialized[id(expr)] = expr, self._materialize(expr)
        return self._materialized[id(expr)][1]

    def _materialize(self, expr: Expr) -> Tensor:
        if not expr.terms:
            raise GraphError("it does not depend on the observation")
        if all(isinstance(term, Scaled) and isinstance(term.source, Tensor) for term in expr.terms):
            return self._sum(
                [
                    self._part(term, expr.shift if first else np.zeros(()), expr.shape)
                    for first, term in _marked(expr.terms)
                ]
            )
        if len(expr.shape) == 3:
            image = self._materialize_image(expr)
            if image is not None:
                return image
        return self._materialize_vector(reshaped(expr, (expr.size,)))

    def _materialize_image(self, expr: Expr) -> Tensor | None:
        """Elements selected along the axes of images: convolutions with kernels of zeros and ones."""
        parts = []
        for first, term in _marked(expr.terms):
            if isinstance(term, Scaled) and isinstance(term.source, Tensor):
                parts.append(self._part(term, expr.shift if first else np.zeros(()), expr.shape))
                continue
            kernel = shifted_kernel(term, expr.shape) if isinstance(term, Gathered) else None
            if kernel is None or not isinstance(term.source, Tensor):
                return None
            weight = self.weight(kernel.weight, f"{self._name}.pick")
            op = ops.Conv2d(weight, None, kernel.stride, kernel.padding, kernel.groups)
            tensor = self.add(op, self.as_float(term.source))
            parts.append(self.affine(tensor, 1.0, expr.shift) if first and expr.is_shifted else tensor)
        return self._sum(parts)

    def _materialize_vector(self, expr: Expr) -> Tensor:
        dueling = self._dueling(expr)
        if dueling is not None:
            return dueling
        parts: list[Tensor] = []
        shift = full(expr.shift, expr.shape)
        for term in expr.terms:
            if isinstance(term.source, Softmax):
                parts += self._expectations(term.source, matrix_of(term, expr.shape))
                continue
            if isinstance(term, Scaled):
                parts.append(self._part(term, shift, expr.shape))
                shift = np.zeros_like(shift)
                continue
            if isinstance(term, Gathered) and _is_flattened(term):
                parts.append(self.flat(self.as_float(term.source)))
                continue
            weight = self.weight(matrix_of(term, expr.shape), f"{self._name}.map")
            bias = self.weight(shift, f"{self._name}.shift") if np.any(shift) else None
            parts.append(self.add(ops.Linear(weight, bias), self.flat(self.as_float(term.source))))
            shift = np.zeros_like(shift)
        total = self._sum(parts)
        return self.affine(total, 1.0, shift) if np.any(shift) else total

    def _part(self, term: Scaled, shift: Array, shape: tuple[int, ...]) -> Tensor:
        assert isinstance(term.source, Tensor)
        if np.all(term.scale == 1) and not np.any(shift):
            return term.source
        return self.affine(term.source, np.broadcast_to(term.scale, shape), np.broadcast_to(shift, shape))

    def _sum(self, parts: Sequence[Tensor]) -> Tensor:
        total = parts[0]
        for part in parts[1:]:
            total = self.add(ops.Add(), self.as_float(total), self.as_float(part))
        return total

    def _dueling(self, expr: Expr) -> Tensor | None:
        """``v + a − mean(a)`` as one Dueling op [1511.06581 eq. 9]."""
        if len(expr.terms) != 2 or expr.is_shifted or expr.size < 2:
            return None
        if any(isinstance(term.source, Softmax) or term.source.is_integer for term in expr.terms):
            return None
        value, advantage = sorted(expr.terms, key=lambda term: term.source.shape != (1,))
        if value.source.shape != (1,) or advantage.source.shape != expr.shape:
            return None
        centred = np.eye(expr.size) - 1 / expr.size
        if np.all(matrix_of(value, expr.shape) == 1) and np.allclose(
            matrix_of(advantage, expr.shape), centred, rtol=0, atol=1e-7
        ):
            return self.add(ops.Dueling(), value.source, advantage.source)  # type: ignore[arg-type]
        return None

    def _expectations(self, source: Softmax, matrix: Array) -> list[Tensor]:
        """``matrix @ softmax``: one `Expectation` per support in the matrix (most networks have one).

        Raises:
            GraphError: for a log-softmax, or for too many supports.
        """
        if source.log:
            raise GraphError("the graph has no log-softmax: give action values, e.g. (log_softmax(x).exp() * z).sum")
        blocks = matrix.reshape(len(matrix), -1, source.atoms)  # [m, R, N]
        used = np.any(blocks != 0, axis=2)
        supports, which = np.unique(blocks[used], axis=0, return_inverse=True)
        if len(supports) > _MAX_SUPPORTS:
            raise GraphError("the graph has softmax only where its product with a support follows, as in C51")
        parts = []
        for at, support in enumerate(supports):
            means = self.add(ops.Expectation(self.weight(support, f"{self._name}.support")), source.logits)
            choice = np.zeros(used.shape)
            choice[used] = which.reshape(-1) == at
            if choice.shape[0] == choice.shape[1] and np.array_equal(choice, np.eye(len(choice))):
                parts.append(means)
            else:
                parts.append(self.add(ops.Linear(self.weight(choice, f"{self._name}.map")), means))
        return parts

    def finish(self, result: Value) -> Graph:
        """The graph whose action values are ``result``.

        Raises:
            GraphError: it is not one vector per observation.
        """
        expr = self.aligned(result)
        if len(expr.shape) != 1:
            raise GraphError(f"it must be one vector of action values per observation, not of shape {expr.shape}")
        last = self.flat(self.materialize(expr))
        if last == self.obs or last.is_integer:
            raise GraphError("it must be one vector of action values per observation, not the observation itself")
        rename = {last.name: Q}
        nodes = [
            Node(node.op, tuple(rename.get(name, name) for name in node.inputs), rename.get(node.output, node.output))
            for node in self._nodes
        ]
        nodes = [*_alive(nodes, Q), Node(ops.ArgMax(), (Q,), ACTION)]
        used = {name for node in nodes for name in node.op.weight_names()}
        weights = {name: array for name, array in self._weights.items() if name in used}
        return Graph(self._inputs, tuple(nodes), (Q, ACTION), weights)


def elementwise(builder: Builder, value: Value) -> tuple[Value, Tensor]:
    """``value`` over a single graph tensor, and that tensor."""
    value = normal(value)
    tensor = builder.as_float(builder.materialize(value.expr))
    return Value(value.layout, plain(tensor)), tensor


def tensor_value(tensor: Tensor) -> Value:
    """A tensor of the graph as ``[B, *shape]``."""
    return in_order(plain(tensor))


def _is_flattened(term: Gathered) -> bool:
    size = term.source.type.size if isinstance(term.source, Tensor) else -1
    return np.array_equal(term.index, np.arange(size)) and bool(np.all(term.scale == 1))


def _alive(nodes: Sequence[Node], result: str) -> list[Node]:
    """The nodes that ``result`` depends on."""
    needed, alive = {result}, []
    for node in reversed(nodes):
        if node.output in needed:
            needed.update(node.inputs)
            alive.append(node)
    return alive[::-1]


def _marked(terms: Sequence[Any]) -> list[tuple[bool, Any]]:
    return [(at == 0, term) for at, term in enumerate(terms)]


def compact(array: Array) -> Array:
    """The smallest array that broadcasts to ``array``: equal entries along an axis once, no leading axes of one."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if np.all(array == first):
            array = first
    while array.ndim and array.shape[0] == 1:
        array = array[0]
    return array


def _same(left: Array, right: Array) -> bool:
    return left.shape == right.shape and bool(np.array_equal(left, right))
