"""Layers read from a table of tensors, and the graph that they make together.

A checkpoint of torch holds tensors by name, and no code: what stands between two layers of an ``nn.Sequential`` shows
only as a gap in their numbers. `sequential` reads layers and gaps; `Stack` makes nodes of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nimbleq.errors import FileError, GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.tensor import FLOAT32, UINT8, TensorType
from nimbleq.types import Array, ObsSpec

RELU = ops.Activation("relu")
STRIDES: Mapping[int, int] = {8: 4, 4: 2, 3: 1}
"""Kernel → stride of the three convolutions of Mnih et al. 2015, which all these libraries use."""


def title(op: ops.Activation | ops.Tanh) -> str:
    """What an activation is called."""
    return op.function if isinstance(op, ops.Activation) else "tanh"


_WEIGHTS = (("weight", "bias"), ("weight_mu", "bias_mu"), ("mu_W", "mu_bias"))
"""Names of a layer's tensors: plain, and the means of a noisy layer [1706.10295], which acts with them."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution or a linear layer, and what follows it.

    Attributes:
        weight, bias: as in torch.
        norm: gain and shift of a LayerNorm behind it; None: there is none.
        active: whether an activation follows.
    """

    weight: Array
    bias: Array
    norm: tuple[Array, Array] | None = None
    active: bool = True

    @property
    def is_conv(self) -> bool:
        """Whether it is a convolution."""
        return self.weight.ndim == 4


class Tensors:
    """Tensors by name, and which of them were read: what is left over is code that nobody knows."""

    def __init__(self, arrays: Mapping[str, Array], path: Path) -> None:
        self.arrays, self.path = arrays, path
        self._read: set[str] = set()

    def has(self, prefix: str) -> bool:
        """Whether a name begins with ``prefix``."""
        return any(name.startswith(prefix) for name in self.arrays)

    def take(self, name: str) -> Array:
        """One tensor.

        Raises:
            FileError: there is none of that name.
        """
        if name not in self.arrays:
            raise FileError(f"{self.path} has no tensor {name}")
        self._read.add(name)
        return self.arrays[name]

    def layer(self, name: str) -> Layer:
        """The layer ``name``.

        Raises:
            FileError: its parts do not fit each other.
        """
        for weight, bias in _WEIGHTS:
            if f"{name}.{weight}" in self.arrays:
                made = Layer(self.take(f"{name}.{weight}"), self.take(f"{name}.{bias}"))
                if made.weight.ndim not in (2, 4) or made.bias.shape != made.weight.shape[:1]:
                    raise FileError(f"{self.path}: {name} is not a layer with weight and bias that fit")
                self._read |= {key for key in self.arrays if weight != "weight" and key.startswith(f"{name}.")}
                return made
        raise FileError(f"{self.path} has no layer {name}")

    def sequential(self, prefix: str) -> list[Layer]:
        """The layers of an ``nn.Sequential``; modules without tensors show as gaps in the numbers.

        Raises:
            FileError: the gaps are not those of activations, LayerNorms, and one Flatten.
        """
        pattern = re.compile(rf"{re.escape(prefix)}(\d+)\.(?:weight|weight_mu|mu_W)")
        found = sorted(int(match[1]) for match in map(pattern.fullmatch, self.arrays) if match)
        layers: list[Layer] = []
        at = 0
        while at < len(found):
            made, number = self.layer_or_norm(f"{prefix}{found[at]}"), found[at]
            if not isinstance(made, Layer):
                raise FileError(f"{self.path}: {prefix}{number} is a normalisation that no layer precedes")
            norm = self.layer_or_norm(f"{prefix}{found[at + 1]}") if found[at + 1 : at + 2] == [number + 1] else None
            at += 1
            if isinstance(norm, tuple):
                made, number, at = Layer(made.weight, made.bias, norm), number + 1, at + 1
            gap = found[at] - number if at < len(found) else 0
            flat = int(made.is_conv and at < len(found) and self.arrays_ndim(f"{prefix}{found[at]}") == 2)
            if gap not in (0, 1 + flat, 2 + flat):
                raise FileError(
                    f"{self.path}: the layers {prefix}* are numbered {found}: what lies between {number} and "
                    f"{found[at]} is not in the file"
                )
            layers.append(Layer(made.weight, made.bias, made.norm, gap == 2 + flat))
        return layers

    def layer_or_norm(self, name: str) -> Layer | tuple[Array, Array]:
        """The layer ``name``, or gain and shift of a LayerNorm."""
        gain = self.arrays.get(f"{name}.weight")
        if gain is not None and gain.ndim in (1, 3) and f"{name}.running_mean" not in self.arrays:
            return self.take(f"{name}.weight"), self.take(f"{name}.bias")
        return self.layer(name)

    def arrays_ndim(self, name: str) -> int:
        """Axes of the weight of the layer ``name``."""
        return next(self.arrays[f"{name}.{key}"].ndim for key, _ in _WEIGHTS if f"{name}.{key}" in self.arrays)

    def check_all_read(self, but: tuple[str, ...] = (), what: str = "whose use is not in the file") -> None:
        """Refuse tensors that nothing has read, besides those whose names begin as ``but`` says.

        Raises:
            FileError: names one, and says ``what`` it is.
        """
        left = [name for name in self.arrays if name not in self._read and not name.startswith(but or ("\0",))]
        if left:
            raise FileError(f"{self.path} has the tensor {left[0]}, {what}")


class Stack:
    """A graph under construction.

    Args:
        obs: what it reads.
        divide: what bytes are divided by first.
    """

    def __init__(self, obs: ObsSpec, divide: float = 1.0) -> None:
        self.inputs = {"obs": TensorType(obs.shape, UINT8 if obs.dtype == "uint8" else FLOAT32)}
        self.types = dict(self.inputs)
        self.nodes: list[Node] = []
        self.weights: dict[str, Array] = {}
        self.start = "obs"
        if obs.dtype == "uint8" or divide != 1:
            self.weights |= {"obs.scale": np.array(1 / divide, np.float32), "obs.shift": np.zeros((), np.float32)}
            self.start = self.add(ops.Affine("obs.scale", "obs.shift"), "pixels", "obs")

    def add(self, op: ops.Op, name: str, *sources: str) -> str:
        """Append a node; returns its output, ``name``."""
        self.types[name] = op.infer(tuple(self.types[source] for source in sources), self.weights)
        self.nodes.append(Node(op, sources, name))
        return name

    def layers(
        self,
        source: str,
        layers: Sequence[Layer],
        name: str,
        between: ops.Activation | ops.Tanh | None = RELU,
        last: bool = False,
    ) -> str:
        """The layers one after the other, numbered after ``name``.

        Args:
            between: what an activation is; None: the identity.
            last: whether an activation follows the last one, too.
        """
        for index, layer in enumerate(layers):
            source = self.layer(source, layer, f"{name}{index}")
            if between is not None and (last if index == len(layers) - 1 else layer.active):
                source = self.add(between, f"{name}{index}.{title(between)}", source)
        return source

    def layer(self, source: str, layer: Layer, name: str) -> str:
        """One layer, and its LayerNorm."""
        self.weights |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
        names = f"{name}.weight", f"{name}.bias"
        if layer.is_conv:
            rows, columns = layer.weight.shape[2:]
            if rows != columns or rows not in STRIDES:
                raise GraphError(f"{name} has a kernel of {rows} x {columns}, and the file does not say its stride")
            stride = STRIDES[rows]
            source = self.add(ops.Conv2d(*names, stride=(stride, stride)), name, source)
        else:
            source = self.add(ops.Linear(*names), name, self.flat(source))
        if layer.norm is None:
            return source
        self.weights |= {f"{name}.norm.weight": layer.norm[0], f"{name}.norm.bias": layer.norm[1]}
        return self.add(ops.LayerNorm(f"{name}.norm.weight", f"{name}.norm.bias"), f"{name}.norm", source)

    def flat(self, source: str) -> str:
        """``source`` as a vector."""
        if len(self.types[source].shape) == 1:
            return source
        name = f"{source}.flat"
        return name if name in self.types else self.add(ops.Flatten(), name, source)

    def expectation(self, source: str, support: Array) -> str:
        """Action values of histograms over ``support``."""
        self.weights["support"] = support
        return self.add(ops.Expectation("support"), "values", source)

    def finish(self, result: str) -> Graph:
        """The graph whose action values are ``result``, with the greedy action."""
        renamed = {result: Q}
        nodes = [
            Node(node.op, tuple(renamed.get(name, name) for name in node.inputs), renamed.get(node.output, node.output))
            for node in self.nodes
        ]
        return Graph(self.inputs, (*nodes, Node(ops.ArgMax(), (Q,), ACTION)), (Q, ACTION), self.weights)


def dueling(stack: Stack, source: str, value: Sequence[Layer], advantage: Sequence[Layer]) -> str:
    """``v + a − mean(a)`` of two heads [1511.06581]."""
    heads = [stack.layers(source, layers, name) for name, layers in (("value", value), ("advantage", advantage))]
    return stack.add(ops.Dueling(), "dueling", *heads)


def dueling_logits(stack: Stack, source: str, value: Sequence[Layer], advantage: Sequence[Layer], atoms: int) -> str:
    """Logits ``v + a − mean(a)`` of each atom: linear in what the two last layers read, so one layer."""
    ends = [
        stack.flat(stack.layers(source, layers[:-1], name, last=True))
        for name, layers in (("value", value), ("advantage", advantage))
    ]
    v, a = (
        np.concatenate([layer.weight, layer.bias[:, None]], axis=1, dtype=np.float64).reshape(-1, atoms, width + 1)
        for layer, width in ((layers[-1], layers[-1].weight.shape[1]) for layers in (value, advantage))
    )
    a = a - a.mean(axis=0)
    count = len(a) * atoms
    one = [np.broadcast_to(v, (len(a), *v.shape[1:])).reshape(count, -1), a.reshape(count, -1)]
    bias = (one[0][:, -1] + one[1][:, -1]).astype(np.float32)
    if ends[0] == ends[1]:
        return stack.layer(ends[0], Layer((one[0] + one[1])[:, :-1].astype(np.float32), bias), "logits")
    weight = np.concatenate([part[:, :-1] for part in one], axis=1).astype(np.float32)
    return stack.layer(stack.add(ops.Concat(), "hidden", *ends), Layer(weight, bias), "logits")


def mean_of(layer: Layer, groups: int, first: bool) -> Layer:
    """A last layer of ``groups`` quantiles per action as the layer of their means.

    Args:
        first: whether the outputs are ordered by quantile first, then by action.
    """
    shape = (groups, -1) if first else (-1, groups)
    axis = 0 if first else 1
    weight = layer.weight.astype(np.float64).reshape(*shape, layer.weight.shape[1]).mean(axis=axis)
    bias = layer.bias.astype(np.float64).reshape(shape).mean(axis=axis)
    return Layer(weight.astype(np.float32), bias.astype(np.float32), None, False)
