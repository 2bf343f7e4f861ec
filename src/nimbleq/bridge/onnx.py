"""An ONNX model → graph: one input (the observation), one output (the action values), the batch axis first.

The rules are in `nimbleq.bridge.onnx_ops`. Constants are computed; everything else needs a rule.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.bridge.onnx_making import Making, Table, Unfit
from nimbleq.bridge.onnx_ops import CONSTANT_OPS, RULES
from nimbleq.bridge.onnx_rows import ROW_RULES
from nimbleq.errors import FileError, GraphError, UnsupportedOpError
from nimbleq.files import read_bytes
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node, Q
from nimbleq.graph.rewrite import with_action
from nimbleq.graph.tensor import FLOAT32, UINT8, QType, TensorType
from nimbleq.types import Array

_INPUT_TYPES: dict[int, QType] = {1: FLOAT32, 2: UINT8}
"""ONNX's number of an element type → ours."""
_SUPPORTED = "write the network with MatMul, Gemm, Conv, Relu and the like (docs/robust.md lists them)"


def read_onnx(path: Path, moves: bool = False) -> Graph:
    """The policy in an ONNX file, with the greedy action added.

    Args:
        moves: a model that first moves the channels of its pictures to the front gives a graph that reads them there.

    Raises:
        FileError: it is not a readable model, or has no single input and output; names the file.
        UnsupportedOpError: the graph has no such op.
        ModuleNotFoundError: the package onnx is not installed.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(read_bytes(path))
        arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    except (DecodeError, ValueError, TypeError) as error:
        raise FileError(f"{path} is not a readable ONNX model ({' '.join(str(error).split())[:120]})") from None
    try:
        return _graph_of(model.graph, arrays, moves)
    except (Unfit, GraphError) as error:
        raise FileError(f"{path}: {error}") from None


def _graph_of(source: Any, arrays: dict[str, Array], moves: bool) -> Graph:
    import onnx

    given = [value for value in source.input if value.name not in arrays]
    if len(given) != 1 or len(source.output) != 1:
        raise Unfit(f"a policy has one input and one output, the model has {len(given)} and {len(source.output)}")
    kind = given[0].type.tensor_type
    if kind.elem_type not in _INPUT_TYPES:
        raise Unfit("its input must be float32 or uint8 numbers")
    sides = [side.dim_value for side in kind.shape.dim]
    if len(sides) < 2 or sides[0] > 1 or min(sides[1:]) < 1:
        raise Unfit(f"its input has the shape {sides}: it must be (1 or any number, then fixed sizes)")
    obs = "obs"
    making = Making(
        dict(arrays), {given[0].name: obs}, {obs: TensorType(tuple(sides[1:]), _INPUT_TYPES[kind.elem_type])}
    )
    making.moves = moves
    made_before: set[Any] = {obs}
    readers = Counter(name for node in source.node for name in node.input)
    making.once |= {obs} if readers[given[0].name] == 1 else set()
    for node in source.node:
        _convert(making, node, onnx)
        made = making.tensors.get(node.output[0])
        if made is not None and made in made_before:  # an alias: its readers are those of the tensor
            making.once -= {made} if readers[node.output[0]] != 1 else set()
        elif made is not None and readers[node.output[0]] == 1 and node.output[0] != source.output[0].name:
            making.once.add(made)
        made_before |= {made}
    wanted = source.output[0].name
    if wanted not in making.tensors:
        raise Unfit("its output does not depend on the observation")
    result = making.tensors[wanted]
    if isinstance(result, Table):
        raise Unfit(f"its output is a table of {result.rows} x {result.columns}, not a value for each action")
    if len(making.types[result].shape) != 1:
        result = making.emit(ops.Flatten(), result)
    nodes = making.nodes
    if not nodes:
        raise Unfit("it computes nothing")
    renamed = {result: Q}
    final = tuple(
        Node(node.op, tuple(renamed.get(name, name) for name in node.inputs), renamed.get(node.output, node.output))
        for node in nodes
    )
    return with_action(Graph({obs: making.types[obs]}, final, (Q,), making.weights))


def _convert(making: Making, node: Any, onnx: Any) -> None:
    """Add what one ONNX node computes."""
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    name = node.name or node.output[0]
    making.enter(node.output[0])
    live = [source for source in node.input if source in making.tensors]
    try:
        if not live:
            function = CONSTANT_OPS.get(node.op_type)
            if function is None or any(source and source not in making.arrays for source in node.input):
                raise Unfit("it computes a constant in a way that is not understood")
            values = [making.arrays[source] for source in node.input if source]
            making.arrays[node.output[0]] = np.asarray(function(attributes, *values))
            return
        if node.op_type == "Shape":
            making.arrays[node.output[0]] = _shape(making, making.tensors[node.input[0]])
            return
        inputs = [_input(making, source) for source in node.input]
        rules = ROW_RULES if any(isinstance(each, Table) for each in inputs) else RULES
        if node.op_type not in rules:
            raise Unfit(_SUPPORTED)
        making.tensors[node.output[0]] = rules[node.op_type](making, attributes, *inputs)
    except (Unfit, GraphError, TypeError, IndexError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnsupportedOpError(f"{node.op_type} ({name})", "the layer graph", reason) from None


def _shape(making: Making, tensor: Any) -> Array:
    """The shape of a tensor for one observation."""
    own = (tensor.rows, tensor.columns) if isinstance(tensor, Table) else making.types[tensor].shape
    return np.array([1, *own], np.int64)


def _input(making: Making, name: str) -> Any:
    """A tensor's name in the graph, an array, or None for an input left out."""
    if not name:
        return None
    return making.tensors[name] if name in making.tensors else making.arrays[name]
