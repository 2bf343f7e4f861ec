"""The layer graph as an ONNX model.

float32 graphs become the obvious nodes. Integer graphs come in two forms:

- exact (the default): MatMulInteger, ConvInteger and 64-bit integer arithmetic, bit for bit the interpreter's integers,
  so that the policy that runs is the policy that was certified.
- QDQ: QuantizeLinear and DequantizeLinear around float layers, the form that ONNX Runtime, TensorRT and OpenVINO fuse
  into their int8 kernels. Rounding is theirs: a hidden level may be off by one, and an action may flip where two
  values nearly tie.

Opset 17 unless asked otherwise, which ONNX Runtime reads since 1.12 (2022). Older engines get what they know: 13 and
12 do without LayerNormalization, 9 to 11 take float32 policies only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from nimbleq.deploy.targets.onnx.build import CHOICES, TARGET, Build, is_byte, level_offset, storable
from nimbleq.deploy.targets.onnx.exact import EXACT
from nimbleq.deploy.targets.onnx.floats import FLOAT
from nimbleq.deploy.targets.onnx.qdq import QDQ
from nimbleq.deploy.targets.onnx.tree import TREE
from nimbleq.errors import ConfigError, UnsupportedOpError
from nimbleq.files import write_bytes
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, MASK, Graph, Node
from nimbleq.version import VERSION

OPSET = 17
OPSETS = range(9, 22)
Outputs = Literal["both", "q", "action"]
OUTPUTS: tuple[Outputs, ...] = ("both", "q", "action")
_BATCH = "batch"


def emit_onnx(
    graph: Graph,
    name: str = "policy",
    *,
    source: str = "",
    exact: bool = True,
    opset: int = OPSET,
    outputs: Outputs = "both",
) -> bytes:
    """A checked, serialized ONNX model.

    Input: the graph's own (``obs``), ``[batch, *O]``, float32 or, where the graph takes uint8, uint8; beside it, where
    the graph takes one and the action is given out, ``mask`` bool ``[batch, A]``. The batch axis is dynamic.

    Outputs: ``q`` float32 ``[batch, A]`` and ``action`` int64 ``[batch]`` (the lowest index on ties; −1 where the mask
    allows none). Of an action of several dimensions that is one number for all of them; ``choices`` int64
    ``[batch, D]`` has the choice of each.

    Args:
        graph: float32 or integer.
        name: of the ONNX graph.
        source: digest of the artefact it was made from; goes into the model's metadata as ``nimbleq.source``.
        exact: integer layers in the exact form rather than as QDQ; float32 layers are the same either way.
        opset: of `OPSETS`.
        outputs: which outputs the model has; engines without ArgMax want ``q`` only.

    Raises:
        ConfigError: there is no such opset or output.
        NimbleqError: the package onnx is not installed.
        UnsupportedOpError: ONNX, or this opset of it, cannot express an op.
    """
    if opset not in OPSETS:
        raise ConfigError(f"there is no opset {opset}: choose {OPSETS[0]} to {OPSETS[-1]}")
    if outputs not in OUTPUTS:
        raise ConfigError(f"there is no output {outputs!r}: choose {', '.join(OUTPUTS)}")
    wanted = graph.outputs if outputs == "both" else (outputs,)
    graph = _only(graph, wanted)
    build = Build(graph, exact, opset)
    inputs = [_input(build, tensor) for tensor in graph.inputs]
    for node in graph.nodes:
        _emit(build, node)
    results = [_output(build, tensor) for tensor in graph.outputs]
    if graph.branches and ACTION in graph.outputs:
        shape = [_BATCH, len(graph.branches)]
        results.append(build.onnx.helper.make_tensor_value_info(CHOICES, build.type_code(np.int64), shape))
    helper, versions = build.onnx.helper, [build.onnx.helper.make_opsetid("", opset)]
    model = helper.make_model(
        helper.make_graph(build.nodes, name, inputs, results, build.constants),
        opset_imports=versions,
        ir_version=helper.find_min_ir_version_for(versions),
        producer_name="nimbleq",
        producer_version=VERSION,
    )
    helper.set_model_props(model, {"nimbleq.version": VERSION, "nimbleq.source": source})
    build.onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _only(graph: Graph, outputs: tuple[str, ...]) -> Graph:
    """``graph`` with these outputs, and without the nodes and the mask that they do not need."""
    needed = set(outputs)
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
    inputs = {name: kind for name, kind in graph.inputs.items() if name != MASK or name in needed}
    return Graph(inputs, tuple(node for node in graph.nodes if node.output in needed), outputs, graph.weights)


def write_onnx(graph: Graph, path: Path, *, source: str = "", exact: bool = True) -> None:
    """Write `emit_onnx` to ``path``, atomically; the ONNX graph is named after the file.

    Raises:
        FileError: it cannot be written.
    """
    write_bytes(path, emit_onnx(graph, path.stem, source=source, exact=exact))


def _input(build: Build, tensor: str) -> Any:
    kind = build.graph.inputs[tensor]
    if tensor == MASK:
        build.stored[tensor] = tensor
        return build.onnx.helper.make_tensor_value_info(tensor, build.type_code(np.bool_), [_BATCH, *kind.shape])
    if kind.qtype.is_integer and not is_byte(kind.qtype):
        raise UnsupportedOpError(f"input {kind}", TARGET, "an input is float32 or has at most 8 bits")
    dtype: Any = np.float32
    if kind.qtype.is_integer:
        dtype = np.int8 if kind.qtype.low < 0 else np.uint8
    build.stored[tensor] = tensor
    if offset := level_offset(kind.qtype):
        shifted = build.add("Add", build.cast(tensor, np.int32), build.constant(offset, np.int32, f"{tensor}/offset"))
        build.stored[tensor] = build.cast(shifted, np.uint8)
    return build.onnx.helper.make_tensor_value_info(tensor, build.type_code(dtype), [_BATCH, *kind.shape])


def _emit(build: Build, node: Node) -> None:
    if not storable(build.qtype(node.output)):
        raise UnsupportedOpError(f"{node.op.kind} to {build.qtype(node.output)}", TARGET, "quantize to at most 8 bits")
    build.stored[node.output] = node.output
    integer = {} if _is_real(build, node) else EXACT if build.exact else QDQ
    table = {**FLOAT, **TREE, **integer}
    if type(node.op) not in table:
        raise UnsupportedOpError(node.op.kind, TARGET, "rewrite the network without it or use another target")
    table[type(node.op)](build, node, node.op)


def _is_real(build: Build, node: Node) -> bool:
    """Whether ``node`` computes in float32: its weights are, or everything that it touches."""
    if isinstance(node.op, ops.Linear | ops.Conv2d):
        return not build.qtype(node.output).is_integer
    return all(not build.qtype(tensor).is_integer for tensor in (*node.inputs, node.output) if tensor != MASK)


def _output(build: Build, tensor: str) -> Any:
    producer = build.graph.producer(tensor)
    is_action = producer is not None and isinstance(producer.op, ops.Choice)
    if not is_action and build.qtype(tensor).is_integer:
        kind = producer.op.kind if producer is not None else "input"
        raise UnsupportedOpError(
            f"{kind} as output {tensor!r}", TARGET, "give out float32 values (Dequantize) or an ArgMax"
        )
    if build.stored[tensor] != tensor or producer is None:
        build.add("Identity", build.stored[tensor], out=tensor)
    dtype = np.int64 if is_action else np.float32
    shape = [_BATCH, *build.graph.types[tensor].shape]
    return build.onnx.helper.make_tensor_value_info(tensor, build.type_code(dtype), shape)
