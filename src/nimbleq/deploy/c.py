"""A policy as one C99 file and its header: constants, a planned arena, no allocation, no libm, no dependencies.

Images are kept as ``(H, W, C)`` inside; the caller's observation is ``(C, H, W)``, as everywhere. Integer graphs give
the interpreter's integers with every compiler and on every processor; float graphs may differ by rounding.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from nimbleq.deploy import c_plan, c_text
from nimbleq.deploy.c_header import header, title
from nimbleq.deploy.c_ops import parts, plain
from nimbleq.deploy.c_ops.conv import conv2d
from nimbleq.deploy.c_ops.dense import linear
from nimbleq.deploy.c_ops.writer import Writer
from nimbleq.errors import GraphError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.tensor import FLOAT32, UINT8, Float32

STACK_BYTES = 16384
"""Arenas up to this size live on the stack, so `act` can be called from several threads at once."""

_WRITERS: dict[type[ops.Op], Callable[[Writer, Node], list[str]]] = {
    ops.Affine: plain.affine,
    ops.Activation: plain.activation,
    ops.LayerNorm: plain.layer_norm,
    ops.Pool: plain.pool,
    ops.Flatten: plain.flatten,
    ops.Add: plain.add,
    ops.Concat: plain.concat,
    ops.Slice: parts.slice_of,
    ops.Unflatten: parts.unflatten,
    ops.Dueling: plain.dueling,
    ops.Expectation: plain.expectation,
    ops.Quantize: plain.quantize,
    ops.Dequantize: plain.dequantize,
    ops.Requantize: plain.requantize,
    ops.ArgMax: plain.argmax,
}


def emit_c(graph: Graph, name: str = "policy", source: str = "") -> dict[str, str]:
    """C source and header of a policy.

    Args:
        graph: one float32 or uint8 observation in, outputs ``q`` and ``action`` (an ArgMax of ``q`` is added if
            missing).
        name: prefix of all C names and of the files.
        source: where the graph comes from (artefact and digest), for the comment on top.

    Returns:
        ``{"<name>.c": text, "<name>.h": text}``; see the header's text for the functions.

    Raises:
        UnsupportedOpError: an op or number format has no C form.
        GraphError: there is no ``q``, or not one observation.
        ConfigError: the name is not a C identifier, or a weight is not finite.
    """
    c_text.identifier(name)
    graph = _with_outputs(graph)
    steps = c_plan.steps(graph)
    order = [step for stage in ("both", "action", "q") for step in steps if step.stage == stage]
    writer, roots = _writer(graph, name)
    bodies: dict[str, list[str]] = {"both": _load_obs(writer), "action": [], "q": []}
    scratch: dict[str, int] = {}
    for index, step in enumerate(order):
        writer.scratch = 0
        lines = _write(writer, step)
        scratch[f"scratch{index}"] = writer.scratch
        if writer.scratch:
            lines = [f"unsigned char *const scratch = arena + SCRATCH{index}_;", *lines]
        if lines:
            label = c_text.comment_safe(f"{step.node.op.kind} -> {step.output}: {graph.types[step.output]}")
            bodies[step.stage] += [f"{{ /* {label} */", *(f"    {line}" for line in lines), "}"]
    slots, arena_bytes = _place(graph, writer, order, roots, scratch)
    for key, lines in bodies.items():
        bodies[key] = [
            re.sub(r"SCRATCH(\d+)_", lambda match: str(slots[f"scratch{match[1]}"].offset), _) for _ in lines
        ]
    variable = writer.variables[Q]
    bodies["q"].append(f"memcpy(q, {variable}, {graph.actions} * sizeof(float));")
    functions = {key: _declare(writer, graph, roots, slots, lines) for key, lines in bodies.items()}
    top = title(graph, name, source)
    kernels = "\n".join(c_text.kernel(kernel) for kernel in c_text.KERNEL_ORDER if kernel in _kernels(writer, graph))
    text = "\n".join(
        [
            top,
            f'#include "{name}.h"\n\n#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n',
            kernels,
            "/* ---- weights ---- */",
            *writer.constants,
            "/* ---- the network ---- */",
            _functions(graph, name, functions, arena_bytes),
        ]
    )
    return {f"{name}.c": text, f"{name}.h": header(graph, name, top, arena_bytes, arena_bytes <= STACK_BYTES)}


def _with_outputs(graph: Graph) -> Graph:
    if Q not in graph.outputs or graph.types[Q].qtype != FLOAT32 or len(graph.types[Q].shape) != 1:
        raise GraphError(f"C needs an output {Q!r} of type float32[A]")
    if graph.obs_type.qtype not in (FLOAT32, UINT8):
        raise UnsupportedOpError(f"of a {graph.obs_type} observation", "c", "use float32 or uint8 observations")
    if ACTION not in graph.outputs:
        node = Node(ops.ArgMax(), (Q,), ACTION)
        graph = replace(graph, nodes=(*graph.nodes, node), outputs=(Q, ACTION))
    producer = graph.producer(ACTION)
    if producer is None or not isinstance(producer.op, ops.ArgMax):
        raise GraphError(f"C needs {ACTION!r} to be made by ArgMax")
    return graph


def _writer(graph: Graph, name: str) -> tuple[Writer, dict[str, str]]:
    """A writer with a C variable for every tensor, and the tensor whose memory each one uses."""
    free = c_plan.free_flattens(graph)
    obs = graph.obs_name
    raw = not c_plan.permutes(graph.obs_type) or all(isinstance(n.op, ops.Flatten) for n in graph.consumers(obs))
    raw_obs = obs if raw and obs not in graph.outputs else None
    roots: dict[str, str] = {}
    for tensor in graph.types:
        producer = graph.producer(tensor)
        flat = producer is not None and isinstance(producer.op, ops.Flatten)
        if producer is not None and flat:
            (source,) = producer.inputs
            if tensor in free or source == raw_obs or not c_plan.permutes(graph.types[source]):
                roots[tensor] = roots[source]
                continue
        roots[tensor] = tensor
    numbers = {tensor: index for index, tensor in enumerate(graph.types)}
    variables = {tensor: f"t{numbers[root]}" for tensor, root in roots.items()}
    if raw_obs is not None:
        variables = {tensor: "obs" if roots[tensor] == raw_obs else variables[tensor] for tensor in variables}
    sparse = _sparse(graph)
    return Writer(graph, name, variables, free, sparse, raw_obs), roots


def _sparse(graph: Graph) -> frozenset[str]:
    """Tensors in which a ReLU left exact zeros."""
    sparse: set[str] = set()
    for node in graph.nodes:
        relu = isinstance(node.op, ops.Activation) and node.op.function == "relu"
        floor = isinstance(node.op, ops.Requantize) and node.op.zero_point == node.op.low == 0
        keeps = isinstance(node.op, ops.Flatten) and node.inputs[0] in sparse
        if relu or floor or keeps:
            sparse.add(node.output)
    return frozenset(sparse)


def _write(writer: Writer, step: c_plan.Step) -> list[str]:
    op = step.node.op
    if isinstance(op, ops.Linear):
        return linear(writer, step.node, step.epilogue)
    if isinstance(op, ops.Conv2d):
        return conv2d(writer, step.node, step.epilogue)
    if isinstance(op, ops.Flatten) and writer.variables[step.output] == writer.variables[step.node.inputs[0]]:
        return []
    if type(op) not in _WRITERS:
        raise UnsupportedOpError(op.kind, "c", "rewrite the network without it or use another target")
    return _WRITERS[type(op)](writer, step.node)


def _load_obs(writer: Writer) -> list[str]:
    """Lines that bring the observation into the arena's layout."""
    if writer.raw_obs is not None:
        return []
    obs = writer.graph.obs_name
    channels, height, width = writer.type(obs).shape
    element = writer.c_type(obs)
    suffix = "f32" if element == "float" else "u8"
    writer.use("shape")
    return [f"nq_to_hwc_{suffix}(obs, {writer.variables[obs]}, {channels}, {height * width});"]


def _kernels(writer: Writer, graph: Graph) -> set[str]:
    return writer.kernels | ({"finite"} if isinstance(graph.obs_type.qtype, Float32) else set())


def _place(
    graph: Graph, writer: Writer, order: list[c_plan.Step], roots: dict[str, str], scratch: dict[str, int]
) -> tuple[dict[str, c_plan.Slot], int]:
    """Offsets of tensors and scratch in the arena."""
    lifetimes: dict[str, tuple[int, int]] = {}
    sizes: dict[str, int] = {}
    if writer.raw_obs is None:
        lifetimes[graph.obs_name] = (-1, -1)
        sizes[graph.obs_name] = graph.obs_type.size * c_plan.element_bytes(graph.obs_type)
    for index, step in enumerate(order):
        for name in (*step.node.inputs, step.output):
            root = roots[name]
            if name == ACTION or root == writer.raw_obs:
                continue
            start = lifetimes.get(root, (index, index))[0]
            lifetimes[root] = (start, index)
            # Kernels store whole vectors: 8 floats, 16 or 32 outputs of an integer layer.
            sizes[root] = -(-graph.types[root].size // 32) * 32 * c_plan.element_bytes(graph.types[root])
        if scratch[f"scratch{index}"]:
            lifetimes[f"scratch{index}"] = (index, index)
            sizes[f"scratch{index}"] = scratch[f"scratch{index}"]
    if roots[Q] in lifetimes:
        lifetimes[roots[Q]] = (lifetimes[roots[Q]][0], len(order))
    return c_plan.place(lifetimes, sizes)


def _declare(
    writer: Writer, graph: Graph, roots: dict[str, str], slots: dict[str, c_plan.Slot], lines: list[str]
) -> list[str]:
    """``lines`` with declarations of the tensors they mention in front."""
    text = "\n".join(lines)
    declared = []
    for root in dict.fromkeys(roots.values()):
        variable = writer.variables[root]
        if root in slots and re.search(rf"\b{variable}\b", text):
            element = writer.c_type(root)
            declared.append(f"{element} *const {variable} = ({element} *)(void *)(arena + {slots[root].offset});")
    return declared + lines


def _functions(graph: Graph, name: str, bodies: dict[str, list[str]], arena_bytes: int) -> str:
    element = "float" if isinstance(graph.obs_type.qtype, Float32) else "uint8_t"
    count = graph.obs_type.size
    refuse = f"    if (!nq_finite(obs, {count})) return -1;\n" if element == "float" else ""
    on_stack = arena_bytes <= STACK_BYTES
    storage = "" if on_stack else "static "
    arena = f"{storage}union {{ double align; unsigned char bytes[{max(arena_bytes, 64)}]; }} arena NQ_ALIGN;"
    indented = {key: "\n".join(f"    {line}" for line in lines) for key, lines in bodies.items()}
    unused = "    (void)arena;\n    (void)obs;\n"
    return f"""
static void {name}_trunk(unsigned char *const arena, const {element} *const obs)
{{
{unused}{indented["both"]}
}}

int {name}_act_with(void *workspace, const {element} *obs)
{{
    unsigned char *const arena = (unsigned char *)workspace;
    int action = 0;
{refuse}    {name}_trunk(arena, obs);
{indented["action"]}
    return action;
}}

int {name}_q_with(void *workspace, const {element} *obs, float *q)
{{
    unsigned char *const arena = (unsigned char *)workspace;
{refuse}    {name}_trunk(arena, obs);
{indented["q"]}
    return 0;
}}

int {name}_act(const {element} *obs)
{{
    {arena}
    return {name}_act_with(arena.bytes, obs);
}}

int {name}_q(const {element} *obs, float *q)
{{
    {arena}
    return {name}_q_with(arena.bytes, obs, q);
}}
"""
