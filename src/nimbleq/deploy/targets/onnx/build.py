"""An ONNX graph under construction, and how the layer graph's tensors are stored in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from nimbleq.errors import NimbleqError, UnsupportedOpError
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import QType
from nimbleq.types import Array

TARGET = "onnx"
CHOICES = "choices"
"""Name of the output that holds the choices of an action of several dimensions."""


def load_onnx() -> Any:
    """The module ``onnx``.

    Raises:
        NimbleqError: it is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise NimbleqError("the target onnx needs the package onnx: pip install 'nimbleq[onnx]'") from None
    return onnx


def level_offset(qtype: QType) -> int:
    """What is added to an integer of at most 8 bits to store it as uint8; 0 for others.

    Signed levels are stored with an offset of 128, and int8 weights too: ONNX Runtime's kernels for uint8 × int8
    saturate intermediate sums at 16 bits on x86 processors without VNNI, those for uint8 × uint8 never do.
    """
    return 128 if is_byte(qtype) and qtype.low < 0 else 0


def is_byte(qtype: QType) -> bool:
    """Whether levels of this format are stored as uint8; wider ones are int32."""
    return qtype.is_integer and qtype.bits <= 8


class Build:
    """Collects nodes and constants.

    Attributes:
        graph: what is being emitted.
        opset: version of the operators.
        exact: integer ops as pinned integer arithmetic rather than as QuantizeLinear and DequantizeLinear.
        stored: tensor of the layer graph → its ONNX name. float32 stays float32; up to 8 bits become uint8
            (see `level_offset`); wider levels and accumulators are int32 when exact, and float32 otherwise.
    """

    def __init__(self, graph: Graph, exact: bool, opset: int) -> None:
        self.onnx = load_onnx()
        self.graph = graph
        self.exact = exact
        self.opset = opset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.stored: dict[str, str] = {}
        self._names = {*graph.inputs, *(node.output for node in graph.nodes)}

    def type_code(self, dtype: Any) -> int:
        """ONNX element type of a numpy dtype."""
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def name(self, hint: str) -> str:
        """A name that nothing else has."""
        name, count = hint, 1
        while name in self._names:
            name, count = f"{hint}_{count}", count + 1
        self._names.add(name)
        return name

    def constant(self, value: Any, dtype: Any, hint: str) -> str:
        """An initializer holding ``value``."""
        name = self.name(hint)
        array = np.ascontiguousarray(np.asarray(value, dtype)).reshape(np.shape(value))
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """A node; returns the name of its output: ``out``, or a fresh one."""
        output = self.name(f"{inputs[0]}/{kind}") if out is None else out
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def cast(self, tensor: str, dtype: Any, out: str | None = None) -> str:
        """A Cast node."""
        return self.add("Cast", tensor, out=out, to=self.type_code(dtype))

    def reduce(self, kind: str, tensor: str, axes: list[int], keepdims: int = 1, out: str | None = None) -> str:
        """A node that reduces ``axes``: an attribute at first, an input since opset 18."""
        if self.opset < 18:
            return self.add(kind, tensor, out=out, axes=axes, keepdims=keepdims)
        return self.add(kind, tensor, self.constant(axes, np.int64, f"{tensor}/axes"), out=out, keepdims=keepdims)

    def needs(self, opset: int, node: Node) -> None:
        """Raises `UnsupportedOpError` when ``node`` cannot be said in the opset of the model."""
        if self.opset < opset:
            what = f"{node.op.kind} to {self.qtype(node.output)}"
            raise UnsupportedOpError(what, f"{TARGET} opset {self.opset}", f"use opset {opset} or newer")

    def source(self, node: Node, position: int = 0) -> str:
        """ONNX name of an input of ``node``."""
        return self.stored[node.inputs[position]]

    def qtype(self, tensor: str) -> QType:
        """Number format of a tensor of the layer graph."""
        return self.graph.types[tensor].qtype

    def set_stored(self, node: Node, name: str) -> None:
        """Say where the output of ``node`` is."""
        self.stored[node.output] = name

    def levels(self, node: Node) -> str:
        """The input of an integer layer, as uint8.

        Raises:
            UnsupportedOpError: it has more than 8 bits.
        """
        qtype = self.qtype(node.inputs[0])
        if is_byte(qtype):
            return self.source(node)
        raise UnsupportedOpError(f"{node.op.kind} on {qtype}", TARGET, "its integer layers take at most 8 bits")

    def along_first(self, parameter: Array, tensor: str) -> Array:
        """A ``(1,)`` or ``(C,)`` parameter shaped to broadcast against ``[B, C, …]``."""
        return parameter.reshape((-1,) + (1,) * (len(self.graph.types[tensor].shape) - 1))


def storable(qtype: QType) -> bool:
    """Whether a tensor of this format has a place in the ONNX graph."""
    return not qtype.is_integer or qtype.low < 0 or qtype.bits < 32
