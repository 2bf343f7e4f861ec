"""A LiteRT model under construction: one subgraph of float32 tensors, of one observation."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from nimbleq.errors import NimbleqError
from nimbleq.graph.graph import Graph, Node
from nimbleq.types import Array
from nimbleq.version import VERSION

TARGET = "litert"
INSTALL = "the target litert needs the package ai-edge-litert: pip install 'nimbleq[litert]'"
_TYPES = {"float32": "FLOAT32", "int32": "INT32", "uint8": "UINT8", "int8": "INT8", "bool": "BOOL"}


def load_schema() -> tuple[Any, Any]:
    """The modules of the schema and of flatbuffers.

    Raises:
        NimbleqError: they are not installed.
    """
    try:
        return import_module("ai_edge_litert.schema_py_generated"), import_module("flatbuffers")
    except ImportError:
        raise NimbleqError(INSTALL) from None


class Build:
    """Collects tensors and operators.

    Attributes:
        graph: what is being written.
        stored: tensor of the layer graph → number of its tensor here, ``[1, …]``; images: height, width, channels.
    """

    def __init__(self, graph: Graph) -> None:
        self.schema, self.flatbuffers = load_schema()
        self.graph = graph
        self.stored: dict[str, int] = {}
        self._tensors: list[Any] = []
        self._shapes: list[tuple[int, ...]] = []
        self._buffers: list[Any] = [self.schema.BufferT()]
        self._operators: list[Any] = []
        self._codes: dict[int, int] = {}

    def tensor(self, shape: Sequence[int], dtype: str = "float32", name: str = "", data: bytes | None = None) -> int:
        """Number of a new tensor; a constant where it has ``data``."""
        made = self.schema.TensorT(
            shape=[int(n) for n in shape],
            type=getattr(self.schema.TensorType, _TYPES[dtype]),
            name=name or f"t{len(self._tensors)}",
            hasRank=True,
        )
        if data is not None:
            made.buffer = len(self._buffers)
            self._buffers.append(self.schema.BufferT(data=np.frombuffer(data, np.uint8)))
        self._tensors.append(made)
        self._shapes.append(tuple(made.shape))
        return len(self._tensors) - 1

    def constant(self, value: Any, dtype: str = "float32") -> int:
        """A tensor with these numbers."""
        array = np.ascontiguousarray(np.asarray(value, dtype))
        return self.tensor(np.shape(value), dtype, data=array.tobytes())

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Of a tensor, the batch axis included."""
        return self._shapes[tensor]

    def add(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        options: str = "",
        dtype: str = "float32",
        name: str = "",
        **fields: Any,
    ) -> int:
        """An operator ``kind`` with the options of the class ``options``; returns the tensor that it makes."""
        code = getattr(self.schema.BuiltinOperator, kind)
        output = self.tensor(shape, dtype, name)
        made = self.schema.OperatorT(
            opcodeIndex=self._codes.setdefault(code, len(self._codes)), inputs=list(inputs), outputs=[output]
        )
        if options:
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            made.builtinOptions = getattr(self.schema, f"{options}T")(**fields)
        self._operators.append(made)
        return output

    def binary(self, kind: str, x: int, other: Any, shape: Sequence[int] | None = None) -> int:
        """Arithmetic with a constant, or with another tensor (an ``int`` is one)."""
        right = other if isinstance(other, int) else self.constant(other)
        shape = np.broadcast_shapes(self.shape(x), self.shape(right)) if shape is None else shape
        options = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}.get(kind, "MaximumMinimumOptions")
        return self.add(kind, [x, right], shape, options)

    def clamp(self, x: int, low: float, high: float) -> int:
        """``min(max(x, low), high)``."""
        return self.binary("MINIMUM", self.binary("MAXIMUM", x, np.float32(low)), np.float32(high))

    def floor(self, x: int) -> int:
        """The next lower integer."""
        return self.add("FLOOR", [x], self.shape(x))

    def cast(self, x: int, dtype: str) -> int:
        """The same numbers in another format."""
        codes = self.schema.TensorType
        now = codes.__dict__[_TYPES[dtype]]
        return self.add(
            "CAST", [x], self.shape(x), "CastOptions", dtype, inDataType=self._tensors[x].type, outDataType=now
        )  # fmt: skip

    def reshape(self, x: int, shape: Sequence[int]) -> int:
        """The same numbers in another shape, in C order."""
        if self.shape(x) == tuple(shape):
            return x
        wanted = self.constant(shape, "int32")
        return self.add("RESHAPE", [x, wanted], shape, "ReshapeOptions", newShape=[int(n) for n in shape])

    def transpose(self, x: int, axes: Sequence[int]) -> int:
        """Axes in another order."""
        order = self.constant(axes, "int32")
        return self.add("TRANSPOSE", [x, order], [self.shape(x)[a] for a in axes], "TransposeOptions")

    def reduce(self, kind: str, x: int, axes: Sequence[int], keep: bool = True) -> int:
        """SUM or MEAN over ``axes``; REDUCE_ANY of flags."""
        shape = [1 if i in axes else n for i, n in enumerate(self.shape(x)) if keep or i not in axes]
        dtype = "bool" if kind == "REDUCE_ANY" else "float32"
        return self.add(
            kind, [x, self.constant(axes, "int32")], shape, "ReducerOptions", dtype, keepDims=keep
        )  # fmt: skip

    def linear(self, x: int, weight: Array, bias: Array | None = None) -> int:
        """``weight·x + bias`` of a vector ``[1, F]``."""
        offset = np.zeros(len(weight)) if bias is None else bias
        inputs = [x, self.constant(weight), self.constant(offset)]
        return self.add("FULLY_CONNECTED", inputs, (1, len(weight)), "FullyConnectedOptions")

    def source(self, node: Node, position: int = 0) -> int:
        """Tensor of an input of ``node``."""
        return self.stored[node.inputs[position]]

    def along(self, parameter: Array, tensor: str) -> Array:
        """A parameter of every channel, or of every number, of a tensor of the graph, as it lies here."""
        rank = len(self.graph.types[tensor].shape)
        wide = parameter.reshape(parameter.shape + (1,) * (rank - parameter.ndim)) if parameter.ndim == 1 else parameter
        return np.transpose(wide, (1, 2, 0)) if wide.ndim == 3 else wide

    def finish(self, inputs: Sequence[int], outputs: Sequence[int], description: str) -> bytes:
        """The file."""
        codes = [
            self.schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=1)
            for code in self._codes
        ]
        part = self.schema.SubGraphT(
            tensors=self._tensors, inputs=list(inputs), outputs=list(outputs), operators=self._operators, name="policy"
        )
        model = self.schema.ModelT(
            version=3, operatorCodes=codes, subgraphs=[part], buffers=self._buffers,
            description=f"nimbleq {VERSION}: {description}",
        )  # fmt: skip
        builder = self.flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
