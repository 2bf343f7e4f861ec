"""torch ⇄ graph: the public functions of the bridge.

`to_graph` exports a module to Core ATen and lowers every op by the table in `nimbleq.bridge.aten`; `to_module` makes a
trainable module of a float graph, and `from_module` brings its trained weights back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx, nn

from nimbleq.bridge.aten.builder import Builder, tensor_value
from nimbleq.bridge.aten.program import NARROW, Program, export, where, wide
from nimbleq.bridge.aten.shapes import move
from nimbleq.bridge.aten.table import INTEGER_OPS, MOVES, OPS
from nimbleq.bridge.aten.values import BATCH, Value
from nimbleq.bridge.torch_module import GraphModule, from_module, to_module
from nimbleq.errors import GraphError, UnsupportedOpError
from nimbleq.graph.graph import Graph, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.tensor import FLOAT32, UINT8, TensorType
from nimbleq.types import Array, ObsSpec

__all__ = ["GraphModule", "from_module", "to_graph", "to_module"]

_CHECKED = 5
"""Random observations on which the graph must answer as torch does."""
_TOLERANCE = {torch.float16: 2.0**-7, torch.bfloat16: 2.0**-4}
"""Tolerance relative to the largest action value, for modules in half precision; else `_EXACT`."""
_EXACT = 1e-3
_ROUNDS = "it rounds to {} inside the network, and the graph computes in float32: leave the cast (or autocast) out"
_NO_SUCH_OP = (
    "the graph has no such op: use layers, convolutions, pooling, ReLU, LeakyReLU, PReLU, Tanh, Hardtanh, Hardsigmoid, "
    "LayerNorm, BatchNorm, sums and means"
)
_MISUSED = (GraphError, TypeError, ValueError, RuntimeError, IndexError, NotImplementedError)


def to_graph(module: nn.Module, obs: ObsSpec) -> Graph:
    """The graph of ``module(obs[B, *O]) → q[B, A]`` as it computes in evaluation mode, with the greedy action added.

    The module may be anything that `torch.export` can trace: hooks, in-place writes, parametrized and reused layers
    work as in torch. The module stays unchanged. The graph computes in float32; of a module in float16 or
    bfloat16 it has the stored weights without the intermediate rounding, and agrees within 1/128 and 1/16 of
    the largest action value. A module that cannot take a uint8 observation is given its values 0 … 255 as floats.
    Random observations check that the graph agrees with the module.

    Raises:
        UnsupportedOpError: names the op, the module it is in, and what to do.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        program = export(module, obs)
        graph = _lowered(program, obs)
        _check(program, graph, type(module).__name__)
    return graph


def _lowered(program: Program, obs: ObsSpec) -> Graph:
    builder = Builder(TensorType(obs.shape, UINT8 if obs.dtype == "uint8" else FLOAT32))
    builder.enter("pixels")
    wants_floats = program.obs.meta["val"].dtype.is_floating_point
    values = {program.obs: tensor_value(builder.as_float(builder.obs) if wants_floats else builder.obs)}
    for node in program.nodes:
        if node is not program.obs:
            values[node] = _lower(builder, program, node, values)
    result = values[program.result]
    builder.enter("result")
    try:
        if not isinstance(result, Value):
            raise GraphError("it does not depend on the observation")
        return builder.finish(result)
    except GraphError as error:
        raise UnsupportedOpError("the network's result", "the layer graph", str(error)) from None


def _lower(builder: Builder, program: Program, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    """The value of one op of the program."""
    if node in program.constants:
        name, value = program.constants[node]
        builder.name_constant(value, name)
        return value
    args = fx.node.map_arg(node.args, values.__getitem__)
    kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
    packet = getattr(node.target, "overloadpacket", node.target)
    builder.enter(node.name)
    try:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise GraphError("it draws by chance, also in evaluation mode: leave it out, or draw in training only")
        kind = node.meta.get("val")
        if not _holds_value((args, kwargs)):
            return _constant(builder, node, packet, args, kwargs)
        if isinstance(kind, torch.Tensor) and _rounds(kind.dtype, program.precision):
            raise GraphError(_ROUNDS.format(str(kind.dtype).removeprefix("torch.")))
        if getattr(node.target, "__name__", "") == "getitem":
            return _item(args)
        number = isinstance(kind, torch.Tensor) and not kind.dtype.is_floating_point
        if number and packet not in MOVES and packet not in INTEGER_OPS and packet in OPS:
            raise GraphError("integer arithmetic: call .float() on the observation first")
        if packet in MOVES:
            return move(node.target, args, kwargs)
        if packet not in OPS:
            raise GraphError(_NO_SUCH_OP)
        return OPS[packet](builder, *args, **kwargs)
    except _MISUSED as error:
        reason = " ".join(str(error).split())[:200]
        raise _unsupported(node, packet, reason) from error


def _rounds(dtype: torch.dtype, precision: torch.dtype) -> bool:
    """Whether an op of this format rounds more than the whole network does."""
    return dtype.is_floating_point and dtype not in (torch.float32, torch.float64, precision)


def _constant(builder: Builder, node: fx.Node, packet: Any, args: Any, kwargs: Any) -> Any:
    """Torch computes what does not depend on the observation; a moved parameter keeps its name."""
    value = node.target(*args, **kwargs)  # type: ignore[operator]
    if packet is torch.ops.aten.empty:  # uninitialised memory must not get in; a program can only fill it
        value = torch.zeros_like(value)
    kind = node.meta.get("val")
    if isinstance(kind, torch.Tensor) and kind.dtype in NARROW:  # its arguments are float32: round as torch does
        value = wide(value.to(kind.dtype))
    if packet in MOVES and isinstance(value, torch.Tensor) and isinstance(args[0], torch.Tensor):
        builder.name_constant(value, builder.origin(args[0], "constant"))
    return value


def _item(args: Any) -> Any:
    item = args[0][args[1]]
    if item is None:
        raise GraphError("its second result (indices or statistics) has no graph form: use the values")
    return item


def _holds_value(nest: Any) -> bool:
    """Whether a nest of arguments depends on the observation."""
    if isinstance(nest, dict):
        return _holds_value(list(nest.values()))
    return any(map(_holds_value, nest)) if isinstance(nest, list | tuple) else isinstance(nest, Value)


def _unsupported(node: fx.Node, packet: Any, hint: str) -> UnsupportedOpError:
    name = getattr(packet, "__name__", str(packet)).lstrip("_")
    place = where(node)
    return UnsupportedOpError(f"{name} (in {place})" if place else name, "the layer graph", hint)


def _check(program: Program, graph: Graph, name: str) -> None:
    """Check that the graph agrees with the exported program, for `BATCH` and other numbers of observations."""
    obs = _random(graph.obs_type, _CHECKED)
    expected = program.run(torch.from_numpy(obs)).cpu().numpy()
    with np.errstate(all="ignore"):
        got = interpret(graph, obs)[Q]
    tolerance = _TOLERANCE.get(program.precision, _EXACT) * max(1.0, float(np.abs(expected).max(initial=0)))
    if expected.shape != got.shape or not np.allclose(got, expected, rtol=0, atol=tolerance, equal_nan=True):
        raise UnsupportedOpError(
            name, "the layer graph", "the graph would differ from the module: its result may depend on the "
            "size of the batch, on chance or on rounding; write the network without these"
        )  # fmt: skip


def _random(kind: TensorType, count: int) -> Array:
    assert count != BATCH
    rng = np.random.default_rng(0)
    if kind.qtype == UINT8:
        return rng.integers(0, 256, (count, *kind.shape)).astype(np.uint8)
    return rng.normal(size=(count, *kind.shape)).astype(np.float32)
