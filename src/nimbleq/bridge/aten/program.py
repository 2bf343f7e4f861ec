"""A torch module as an exported program in Core ATen; torch prints nothing, and the module stays unchanged."""

from __future__ import annotations

import copy
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from nimbleq.errors import UnsupportedOpError
from nimbleq.types import ObsSpec

_EXAMPLES = 7  # observations in the example; any number above 1 stands for every number
NARROW = (torch.float16, torch.bfloat16)
"""Formats of half precision."""
_SCRIPTED = "torch.jit modules cannot be exported: give the module that it was scripted or traced from"
_DATA_DEPENDENT = ("data-dependent", "unbacked", "GuardOnDataDependent")


@dataclass(frozen=True)
class Program:
    """A program of one input and one output.

    Attributes:
        runner: the program as torch runs it.
        nodes: those that the output depends on, in order.
        constants: placeholder → the module's name for it, and its value (halves as float32).
        obs: placeholder of the observation.
        result: what the network returns.
        precision: of the module's arithmetic: float32 unless all of its weights are narrower.
    """

    runner: nn.Module
    nodes: tuple[fx.Node, ...]
    constants: dict[fx.Node, tuple[str, Any]]
    obs: fx.Node
    result: fx.Node
    precision: torch.dtype

    def run(self, obs: Tensor) -> Tensor:
        """What torch computes: ``obs[B, *O] → q: float32[B, A]``."""
        wanted = self.obs.meta["val"].dtype
        with quiet():
            result: Tensor = self.runner(obs.to(wanted))
        return result.float()


def export(module: nn.Module, obs: ObsSpec) -> Program:
    """``module(obs[B, *O])`` in evaluation mode.

    Raises:
        UnsupportedOpError: torch cannot export it, or it is not a function of one observation; says what to do.
    """
    module = _plain_module(module)
    name = type(module).__name__
    exported, runner, precision = _exported(module, obs, name)
    inputs = [node for node in exported.graph.nodes if node.op == "placeholder"]
    specs = exported.graph_signature.input_specs
    values = {**exported.state_dict, **exported.constants}
    constants, given = {}, []
    for node, spec in zip(inputs, specs, strict=True):
        if spec.kind == InputKind.USER_INPUT:
            given += [node] if isinstance(node.meta.get("val"), Tensor) else []
        else:
            constants[node] = str(spec.target), wide(values.get(str(spec.target)))
    if len(given) != 1:
        raise _refused(name, "it takes more than the observation: give defaults to its other arguments")
    result = _result(exported, name)
    nodes = _needed(exported.graph, result)
    _check_memory(exported, constants, nodes, name)
    for node in (given[0], result):
        extents = node.meta["val"].shape[:1]
        if isinstance(next(iter(extents), None), int) and extents[0] == _EXAMPLES:
            raise _refused(name, f"it works for a batch of {_EXAMPLES} only: use x.shape[0] or -1 in view")
    return Program(runner, nodes, constants, given[0], result, precision)


def _plain_module(module: Any) -> nn.Module:
    """The module under ``torch.compile`` or ``DataParallel``; refuses modules that cannot be exported."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module = module.module
    module = getattr(module, "_orig_mod", module)
    name = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        raise _refused(name, _SCRIPTED)
    if not isinstance(module, nn.Module):
        raise _refused(name, "give a torch.nn.Module")
    for path, value in (*module.named_parameters(), *module.named_buffers()):
        if torch.nn.parameter.is_lazy(value):
            raise _refused(f"{name}.{path}", "it has no shape yet: call the module once on an observation")
        if value.is_inference():
            raise _refused(f"{name}.{path}", "it was made in torch.inference_mode: give copy.deepcopy(module)")
        if value.is_meta:
            raise _refused(f"{name}.{path}", "it is on the meta device and has no values: load the weights first")
    return module


def _exported(module: nn.Module, obs: ObsSpec, name: str) -> tuple[ExportedProgram, nn.Module, torch.dtype]:
    weights = [value for value in (*module.parameters(), *module.buffers()) if value.is_floating_point()]
    own = {value.dtype for value in weights}
    precision = own.pop() if len(own) == 1 else torch.float32
    device = weights[0].device if weights else torch.device("cpu")
    dtype = torch.uint8 if obs.dtype == "uint8" else torch.float32
    example = torch.zeros(_EXAMPLES, *obs.shape, dtype=dtype, device=device)
    with _untouched(module), quiet():
        try:
            try:
                return *_traced(module, example), precision
            except Exception:
                if precision == dtype:
                    raise
                return *_traced(module, example.to(precision)), precision
        except Exception as error:  # torch.export runs the module's code, which may raise anything
            for path, child in module.named_modules():
                if isinstance(child, torch.jit.ScriptModule):
                    raise _refused(f"{name}.{path}", _SCRIPTED) from error
            raise _refused(name, _reason(error)) from error


def _traced(module: nn.Module, example: Tensor) -> tuple[ExportedProgram, nn.Module]:
    parameters = list(inspect.signature(module.forward).parameters.values())
    sizes: Any = ({0: Dim.AUTO},)
    if parameters and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
        sizes = (sizes,)
    exported = torch.export.export(module, (example,), dynamic_shapes=sizes)
    exported = exported.run_decompositions(dict(_decompositions()))
    runner = exported.module()
    for path, buffer in list(runner.named_buffers()):  # they are the module's own; a run must not change them
        owner, _, name = path.rpartition(".")
        setattr(runner.get_submodule(owner), name, buffer.clone())
    with torch.no_grad():
        runner(example)  # mismatched formats fail only here
    return exported, runner


@cache
def _decompositions() -> dict[Any, Any]:
    """Torch's table to Core ATen, except PReLU, which would become a where() of products."""
    table: dict[Any, Any] = dict(torch.export.default_decompositions().materialize())
    table.pop(torch.ops.aten._prelu_kernel.default, None)
    return table


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:160] or type(error).__name__
    if any(mark in type(error).__name__ or mark in str(error) for mark in _DATA_DEPENDENT):
        return f"its control flow depends on the observation ({text}): write it without if, while or .item() on tensors"
    if isinstance(error, TypeError) and ("positional argument" in text or "required argument" in text):
        return f"it is called with one observation ({text}): give defaults to its other arguments"
    return f"torch.export cannot trace it ({type(error).__name__}: {text}): use layers on one tensor [batch, ...]"


def _refused(where: str, hint: str) -> UnsupportedOpError:
    return UnsupportedOpError(where, "the layer graph", hint)


def _result(exported: ExportedProgram, name: str) -> fx.Node:
    outputs = exported.graph_signature.output_specs
    (values,) = next(node for node in exported.graph.nodes if node.op == "output").args
    results = [
        value for value, spec in zip(values, outputs, strict=True) if spec.kind == OutputKind.USER_OUTPUT
    ]  # fmt: skip
    structure = exported.call_spec.out_spec
    if structure is None or structure.type is not None or len(results) != 1:
        kind = getattr(structure.type, "__name__", "nothing") if structure is not None else "nothing"
        raise _refused(f"{name}'s result", f"it returns a {kind}: return one tensor of action values [batch, actions]")
    (result,) = results
    if not isinstance(result, fx.Node) or not isinstance(result.meta.get("val"), Tensor):
        raise _refused(f"{name}'s result", "it is not a tensor: return action values [batch, actions]")
    return result


def _needed(graph: fx.Graph, result: fx.Node) -> tuple[fx.Node, ...]:
    needed, waiting = set(), [result]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    return tuple(node for node in graph.nodes if node in needed)


def _check_memory(
    exported: ExportedProgram, constants: dict[fx.Node, tuple[str, Any]], nodes: tuple[fx.Node, ...], name: str
) -> None:
    """Refuse a network with memory: a buffer that a call writes and the action values read."""
    written = {spec.target for spec in exported.graph_signature.output_specs if spec.kind == OutputKind.BUFFER_MUTATION}
    for node in nodes:
        if node in constants and constants[node][0] in written:
            raise _refused(
                f"{name}.{constants[node][0]}", "every call writes it and the next call reads it: make it an input"
            )


def wide(value: Any) -> Any:
    """The value on the CPU; of a tensor in half precision the same numbers as float32."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return value.float() if value.dtype in NARROW else value
    return value


@contextmanager
def _untouched(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards the modules are as before."""
    modules = list(module.modules())
    before = [
        {key: copy.copy(value) if isinstance(value, dict) else value for key, value in vars(child).items()}
        for child in modules
    ]
    try:
        for child in modules:
            child.training = False
        yield
    finally:
        for child, attributes in zip(modules, before, strict=True):
            vars(child).clear()
            vars(child).update(attributes)


@contextmanager
def quiet() -> Iterator[None]:
    """Torch prints no warnings, log lines or listings; errors are raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def where(node: fx.Node) -> str:
    """Path of the module that an op was called in, with its class; empty for the network itself."""
    stack = node.meta.get("nn_module_stack") or {}
    found = [entry for entry in stack.values() if entry[0] and not str(entry[0]).startswith("_")]
    if not found:
        return ""
    path, kind = found[-1]
    return f"{path}, {str(kind).rsplit('.', 1)[-1]}"
