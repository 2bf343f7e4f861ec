"""torch ⇄ graph: the public functions of the bridge.

`to_graph` traces a module with torch.fx and lowers every call that the trace holds; `to_module` makes a trainable
module of a float graph, and `from_module` brings its trained weights back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from nimbleq.bridge.lowering import Lowering
from nimbleq.bridge.torch_calls import FUNCTIONS, METHODS
from nimbleq.bridge.torch_layers import MODULES
from nimbleq.bridge.torch_module import GraphModule, from_module, to_module
from nimbleq.errors import GraphError, UnsupportedOpError
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import FLOAT32, UINT8, TensorType
from nimbleq.types import ObsSpec

__all__ = ["GraphModule", "from_module", "to_graph", "to_module"]


def to_graph(module: nn.Module, obs: ObsSpec) -> Graph:
    """The graph of ``module(obs[B, *O]) → q[B, A]`` as it computes in evaluation mode, with the greedy action added.

    Dropout disappears, BatchNorm uses its running statistics. The module may be made of anything the tables in
    `nimbleq.bridge.torch_layers` and `nimbleq.bridge.torch_calls` know, in modules of any nesting.

    Raises:
        UnsupportedOpError: names the op, the module it is in, and what to do.
    """
    kind = TensorType(obs.shape, UINT8 if obs.dtype == "uint8" else FLOAT32)
    lowering = Lowering(kind)
    traced, root = _trace(module), module
    values: dict[fx.Node, Any] = {}
    for node in traced.nodes:
        lowering.enter(node.name, _where(node))
        if node.op == "output":
            return lowering.finish(fx.node.map_arg(node.args[0], values.__getitem__))
        try:
            values[node] = _lower(lowering, root, node, values)
        except GraphError as error:
            layer = type(root.get_submodule(str(node.target))).__name__ if node.op == "call_module" else _op_name(node)
            raise lowering.unsupported(layer, str(error)) from None
    raise AssertionError("a trace ends in an output")


def _trace(module: nn.Module) -> fx.Graph:
    training = {name: child.training for name, child in module.named_modules()}
    module.eval()
    try:
        return fx.Tracer().trace(module)
    except (fx.proxy.TraceError, TypeError, RuntimeError, ValueError, AttributeError, NotImplementedError) as error:
        raise UnsupportedOpError(
            f"{type(module).__name__}.forward",
            "the layer graph",
            f"torch.fx cannot trace it ({str(error).splitlines()[0]}); use plain layers and no control flow on tensors",
        ) from error
    finally:
        for name, child in module.named_modules():
            child.training = training[name]


def _lower(lowering: Lowering, root: nn.Module, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    """The value of one traced call."""
    if node.op == "placeholder":
        if any(other.op == "placeholder" for other in values):
            raise lowering.unsupported("a second input", "give the network one observation")
        return lowering.obs
    if node.op == "get_attr":
        return lowering.constant(str(node.target), _attribute(root, str(node.target)))
    args = fx.node.map_arg(node.args, values.__getitem__)
    kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
    if node.op == "call_module":
        layer = root.get_submodule(str(node.target))
        handler = MODULES.get(type(layer))
        if handler is None:
            raise lowering.unsupported(type(layer).__name__, "replace this layer by one that the graph has")
        return handler(lowering, layer, *lowering.tensors(args, type(layer).__name__))
    if not lowering.holds_tensor((args, kwargs)):
        # Arithmetic on constants (√(var + ε), say) is done here and now.
        with torch.no_grad():
            call = node.target if callable(node.target) else getattr(args[0], str(node.target))
            return call(*args, **kwargs) if callable(node.target) else call(*args[1:], **kwargs)
    table: dict[Any, Any] = METHODS if node.op == "call_method" else FUNCTIONS
    handler = table.get(node.target)
    if handler is None:
        raise lowering.unsupported(_op_name(node), "the graph has no such op; write the network with the layers it has")
    return lowering.call(handler, _op_name(node), args, kwargs)


def _attribute(root: nn.Module, path: str) -> Any:
    value: Any = root
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _op_name(node: fx.Node) -> str:
    return str(node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target))


def _where(node: fx.Node) -> str:
    """Path of the module that a call was made in, the root's is empty."""
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    return str(next(reversed(stack.values()))[0]) if stack else ""
