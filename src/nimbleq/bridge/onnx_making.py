"""The graph that an ONNX model becomes, while it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nimbleq.graph import ops
from nimbleq.graph.graph import Node
from nimbleq.graph.tensor import FLOAT32, TensorType
from nimbleq.types import Array

Attributes = Mapping[str, Any]


class Unfit(Exception):  # noqa: N818 (the text says what does not fit; it becomes the tail of a one-line error)
    """The op is used in a way that the graph cannot express."""


@dataclass(frozen=True, eq=False)
class Table:
    """A vector read as ``(rows, columns)``; see `nimbleq.bridge.onnx_rows`.

    Attributes:
        vector: tensor of the graph.
        rows, columns: of the table.
        is_softmax: its values are those of the vector's softmax along each row.
        support: what each of them is multiplied by; None: nothing.
    """

    vector: str
    rows: int
    columns: int
    is_softmax: bool = False
    support: Array | None = None


@dataclass
class Making:
    """The graph so far.

    Attributes:
        arrays: ONNX name → constant.
        tensors: ONNX name → tensor of the graph.
        types: of the graph's tensors.
        once: tensors of the graph that one ONNX node reads.
        moves: whether the observation's axes may be taken in another order, if the model moves them first.
    """

    arrays: dict[str, Array]
    tensors: dict[str, Any]
    types: dict[str, TensorType]
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    once: set[str] = field(default_factory=set)
    prefix: str = ""
    moves: bool = False

    def enter(self, name: str) -> None:
        """What is made next belongs to the ONNX tensor ``name``."""
        self.prefix = f"{len(self.nodes)}.{name}"

    def emit(self, op: ops.Op, *inputs: str, **weights: Array) -> str:
        """Append a node whose weights are named after it."""
        self.weights |= weights
        output = f"{self.prefix}.{len(self.nodes)}"
        self.types[output] = op.infer(tuple(self.types[name] for name in inputs), self.weights)
        self.nodes.append(Node(op, inputs, output))
        return output

    def weight(self, name: str, array: Array) -> str:
        """Keep a float32 weight; returns its name."""
        single = np.asarray(array, np.float64).astype(np.float32)
        if not np.isfinite(single).all():
            raise Unfit("it has a weight that is not a finite float32")
        full = f"{self.prefix}.{len(self.nodes)}.{name}"
        self.weights[full] = single
        return full

    def as_float(self, tensor: str) -> str:
        """``tensor`` in float32."""
        if self.types[tensor].qtype == FLOAT32:
            return tensor
        return self.affine(tensor, np.ones(()), np.zeros(()))

    def affine(self, tensor: str, scale: Array, shift: Array) -> str:
        """``tensor·scale + shift``, whose shapes have no batch axis."""
        scale_name, shift_name = self.weight("scale", scale), self.weight("shift", shift)
        return self.emit(ops.Affine(scale_name, shift_name), tensor)
