"""The layer graph as an ONNX model.

float32 graphs become the obvious nodes. Integer graphs come in two forms:

- exact (the default): MatMulInteger, ConvInteger and 64-bit integer arithmetic, bit for bit the interpreter's integers,
  so that the policy that runs is the policy that was certified.
- QDQ: QuantizeLinear and DequantizeLinear around float layers, the form that ONNX Runtime, TensorRT and OpenVINO fuse
  into their int8 kernels. Rounding is theirs: a hidden level may be off by one, and an action may flip where two
  values nearly tie.

Opset 17 and IR version 8, which ONNX Runtime reads since 1.12 (2022).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.deploy.onnx_build import TARGET, Build, level_offset, storable
from nimbleq.deploy.onnx_exact import EXACT
from nimbleq.deploy.onnx_float import FLOAT
from nimbleq.deploy.onnx_qdq import QDQ
from nimbleq.errors import UnsupportedOpError
from nimbleq.files import write_bytes
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import Float32, Int
from nimbleq.version import VERSION

OPSET = 17
IR_VERSION = 8
_BATCH = "batch"


def emit_onnx(graph: Graph, name: str = "policy", *, source: str = "", exact: bool = True) -> bytes:
    """A checked, serialized ONNX model.

    Input: the graph's own (``obs``), ``[batch, *O]``, float32 or, where the graph takes uint8, uint8. Outputs: ``q``
    float32 ``[batch, A]`` and ``action`` int64 ``[batch]`` (the lowest index on ties). The batch axis is dynamic.

    Args:
        graph: float32 or integer.
        name: of the ONNX graph.
        source: digest of the artefact it was made from; goes into the model's metadata as ``nimbleq.source``.
        exact: integer layers in the exact form rather than as QDQ; float32 layers are the same either way.

    Raises:
        NimbleqError: the package onnx is not installed.
        UnsupportedOpError: ONNX cannot express an op.
    """
    build = Build(graph, exact)
    inputs = [_input(build, tensor) for tensor in graph.inputs]
    for node in graph.nodes:
        _emit(build, node)
    outputs = [_output(build, tensor) for tensor in graph.outputs]
    helper = build.onnx.helper
    model = helper.make_model(
        helper.make_graph(build.nodes, name, inputs, outputs, build.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="nimbleq",
        producer_version=VERSION,
    )
    helper.set_model_props(model, {"nimbleq.version": VERSION, "nimbleq.source": source})
    build.onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def write_onnx(graph: Graph, path: Path, *, source: str = "", exact: bool = True) -> None:
    """Write `emit_onnx` to ``path``, atomically; the ONNX graph is named after the file.

    Raises:
        FileError: it cannot be written.
    """
    write_bytes(path, emit_onnx(graph, path.stem, source=source, exact=exact))


def _input(build: Build, tensor: str) -> Any:
    kind = build.graph.inputs[tensor]
    if not storable(kind.qtype):
        raise UnsupportedOpError(f"input {kind}", TARGET, "an input is float32 or has at most 8 bits")
    dtype: Any = np.float32
    if isinstance(kind.qtype, Int):
        dtype = np.int8 if kind.qtype.signed else np.uint8
    build.stored[tensor] = tensor
    if offset := level_offset(kind.qtype):
        shifted = build.add("Add", build.cast(tensor, np.int32), build.constant(offset, np.int32, f"{tensor}/offset"))
        build.stored[tensor] = build.cast(shifted, np.uint8)
    return build.onnx.helper.make_tensor_value_info(tensor, build.type_code(dtype), [_BATCH, *kind.shape])


def _emit(build: Build, node: Node) -> None:
    if not storable(build.qtype(node.output)):
        raise UnsupportedOpError(f"{node.op.kind} to {build.qtype(node.output)}", TARGET, "quantize to at most 8 bits")
    build.stored[node.output] = node.output
    table = FLOAT
    if not _is_real(build, node):
        integer = EXACT if build.exact else QDQ
        table = integer if type(node.op) in integer else FLOAT
    table[type(node.op)](build, node, node.op)


def _is_real(build: Build, node: Node) -> bool:
    """Whether ``node`` computes in float32: its weights are, or everything that it touches."""
    if isinstance(node.op, ops.Linear | ops.Conv2d):
        return build.graph.weights[node.op.weight].dtype == np.float32
    return all(isinstance(build.qtype(tensor), Float32) for tensor in (*node.inputs, node.output))


def _output(build: Build, tensor: str) -> Any:
    producer = build.graph.producer(tensor)
    is_action = producer is not None and isinstance(producer.op, ops.ArgMax)
    if not is_action and not isinstance(build.qtype(tensor), Float32):
        kind = producer.op.kind if producer is not None else "input"
        raise UnsupportedOpError(
            f"{kind} as output {tensor!r}", TARGET, "give out float32 values (Dequantize) or an ArgMax"
        )
    if build.stored[tensor] != tensor or producer is None:
        build.add("Identity", build.stored[tensor], out=tensor)
    dtype = np.int64 if is_action else np.float32
    shape = [_BATCH, *build.graph.types[tensor].shape]
    return build.onnx.helper.make_tensor_value_info(tensor, build.type_code(dtype), shape)
