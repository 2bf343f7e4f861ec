"""A policy as one freestanding C99 file and its header: constants, a planned arena, no allocation, no library.

Images are kept as ``(H, W, C)`` inside; the caller's observation is ``(C, H, W)``, as everywhere. Integer graphs give
the interpreter's integers with every compiler and on every processor; float graphs may differ by rounding.

Inside, C names begin with ``nq_``; the last step puts the policy's name in their place, so that any number of policies
fit one program, and one translation unit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nimbleq.deploy.targets.c import plan as c_plan
from nimbleq.deploy.targets.c import text as c_text
from nimbleq.deploy.targets.c.header import header, title
from nimbleq.deploy.targets.c.isa import ISAS, Isa
from nimbleq.deploy.targets.c.ops import parts, plain
from nimbleq.deploy.targets.c.ops.writer import Writer
from nimbleq.errors import GraphError, UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, MASK, Graph, Node, Q
from nimbleq.graph.interface import Interface
from nimbleq.graph.rewrite import with_action
from nimbleq.graph.tensor import FLOAT32, UINT8, Float32

INT_MAX = 32767
"""What every C compiler's ``int`` holds."""

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


@dataclass(frozen=True)
class _Profile:
    """The code for one instruction set: its text, the bytes of its arena, and the largest index in it."""

    text: str
    arena_bytes: int
    largest: int


def emit_c(
    graph: Graph,
    name: str = "policy",
    source: str = "",
    q_meaning: str = "",
    interface: Interface | None = None,
    isas: Sequence[Isa] = ISAS,
) -> dict[str, str]:
    """C source and header of a policy.

    Args:
        graph: one float32 or uint8 observation in (and a mask of the legal actions, where the graph takes one), outputs
            ``q`` and ``action`` (an ArgMax of ``q`` is added if missing).
        name: prefix of all C names and of the files.
        source: where the graph comes from (artefact and digest), for the comment on top.
        q_meaning: what the action values are, for the header; see `nimbleq.graph.artefact.Artefact.q_meaning`.
        interface: what the environment gives and takes, for the header.
        isas: instruction sets to write code for; the compiler takes the first that it has.

    Returns:
        ``{"<name>.c": text, "<name>.h": text}``; see the header's text for the functions.

    Raises:
        UnsupportedOpError: an op or number format has no C form.
        GraphError: there is no ``q``, or not one observation.
        ConfigError: the name is not a C identifier, or a weight is not finite.
    """
    c_text.identifier(name)
    graph = _with_outputs(graph)
    profiles = [_profile(graph, isa, name) for isa in isas]
    arena_bytes = max(profile.arena_bytes for profile in profiles)
    on_stack = all(profile.arena_bytes <= isa.stack_bytes for isa, profile in zip(isas, profiles, strict=True))
    top = title(graph, name, source)
    largest = max(profile.largest for profile in profiles)
    body = _needs_int(largest) + _alternatives(isas, profiles)
    texts = header(graph, name, top, q_meaning, interface, arena_bytes, on_stack)
    return {f"{name}.c": f'{top}\n#include "{name}.h"\n{body}', f"{name}.h": texts}


def _with_outputs(graph: Graph) -> Graph:
    if Q not in graph.outputs or graph.types[Q].qtype != FLOAT32 or len(graph.types[Q].shape) != 1:
        raise GraphError(f"C needs an output {Q!r} of type float32[A]")
    if graph.obs_type.qtype not in (FLOAT32, UINT8):
        raise UnsupportedOpError(f"of a {graph.obs_type} observation", "c", "use float32 or uint8 observations")
    if ACTION not in graph.outputs:
        graph = with_action(replace(graph, outputs=(Q,)))
    producer = graph.producer(ACTION)
    if producer is None or not isinstance(producer.op, ops.ArgMax):
        raise GraphError(f"C needs {ACTION!r} to be made by ArgMax")
    return graph


def _needs_int(largest: int) -> str:
    """Lines that stop the compiler where an ``int`` cannot count that far."""
    if largest <= INT_MAX:
        return ""
    return f'\n#include <limits.h>\n#if INT_MAX < {largest}\n#error "this policy needs an int of 32 bits"\n#endif\n'


def _alternatives(isas: Sequence[Isa], profiles: Sequence[_Profile]) -> str:
    """The profiles, of which the preprocessor takes the first that fits."""
    lines, opened = [], False
    for isa, profile in zip(isas, profiles, strict=True):
        if isa.condition:
            lines.append(f"\n#{'el' if opened else ''}if {isa.condition}")
            opened = True
        elif opened:
            lines.append("\n#else")
        lines.append(profile.text)
        if not isa.condition:
            break
    else:
        lines.append('#else\n#error "this policy was written for other processors"')
    return "\n".join([*lines, *(["#endif", ""] if opened else [])])


def _profile(graph: Graph, isa: Isa, name: str) -> _Profile:
    steps = c_plan.steps(graph)
    order = [step for stage in ("both", "action", "q") for step in steps if step.stage == stage]
    writer, roots = _writer(graph, isa)
    bodies: dict[str, list[str]] = {"both": _load_obs(writer), "action": [], "q": []}
    scratch: dict[str, int] = {}
    for index, step in enumerate(order):
        writer.scratch = 0
        lines = _write(writer, isa, step)
        scratch[f"scratch{index}"] = writer.scratch
        if writer.scratch:
            lines = [f"unsigned char *const scratch = arena + SCRATCH{index}_;", *lines]
        if lines:
            label = c_text.comment_safe(f"{step.node.op.kind} -> {step.output}: {graph.types[step.output]}")
            bodies[step.stage] += [f"{{ /* {label} */", *(f"    {line}" for line in lines), "}"]
    slots, arena_bytes = _place(graph, writer, isa, order, roots, scratch)
    for key, lines in bodies.items():
        bodies[key] = [
            re.sub(r"SCRATCH(\d+)_", lambda match: str(slots[f"scratch{match[1]}"].offset), _) for _ in lines
        ]
    bodies["q"].append(f"for (int i = 0; i < {graph.actions}; ++i) q[i] = {writer.variables[Q]}[i];")
    functions = {key: _declare(writer, graph, roots, slots, lines) for key, lines in bodies.items()}
    if isinstance(graph.obs_type.qtype, Float32):
        writer.use("finite")
    kernels, code = c_text.kernels(writer.kernels), _functions(graph, isa, functions, arena_bytes)
    arrays = [text.split("\n", 1) for text in writer.constants]
    macros = c_text.macros("\n".join([kernels, code, *(head for head, _ in arrays)]))
    includes = [*isa.includes, *(["float.h"] if {"quantize", "real"} & writer.kernels else [])]
    # Names are put in here and not in the numbers, of which there may be millions.
    top = "\n".join([*(f"#include <{file}>" for file in sorted(includes)), "", macros, kernels])
    text = "\n".join(
        [
            c_text.renamed(top, name),
            "/* ---- weights ---- */",
            *(f"{c_text.renamed(head, name)}\n{numbers}" for head, numbers in arrays),
            "/* ---- the network ---- */",
            c_text.renamed(code, name),
        ]
    )
    largest = max(arena_bytes, writer.largest, *(kind.size for kind in graph.types.values()))
    return _Profile(text, arena_bytes, largest)


def _writer(graph: Graph, isa: Isa) -> tuple[Writer, dict[str, str]]:
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
    if graph.masked:
        variables[MASK] = "mask"
    return Writer(graph, isa.alignment, variables, free, _sparse(graph), raw_obs), roots


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


def _write(writer: Writer, isa: Isa, step: c_plan.Step) -> list[str]:
    op = step.node.op
    if isinstance(op, ops.Linear):
        return isa.linear(writer, step.node, step.epilogue)
    if isinstance(op, ops.Conv2d):
        return isa.conv2d(writer, step.node, step.epilogue)
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
    x, pixels = writer.variables[obs], height * width
    return [
        f"for (int p = 0; p < {pixels}; ++p)",
        f"    for (int c = 0; c < {channels}; ++c) {x}[p * {channels} + c] = obs[c * {pixels} + p];",
    ]


def _place(
    graph: Graph, writer: Writer, isa: Isa, order: list[c_plan.Step], roots: dict[str, str], scratch: dict[str, int]
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
            if name in (ACTION, MASK) or root == writer.raw_obs:
                continue
            start = lifetimes.get(root, (index, index))[0]
            lifetimes[root] = (start, index)
            count = -(-graph.types[root].size // isa.lanes) * isa.lanes
            sizes[root] = count * c_plan.element_bytes(graph.types[root])
        if scratch[f"scratch{index}"]:
            lifetimes[f"scratch{index}"] = (index, index)
            sizes[f"scratch{index}"] = scratch[f"scratch{index}"]
    if roots[Q] in lifetimes:
        lifetimes[roots[Q]] = (lifetimes[roots[Q]][0], len(order))
    return c_plan.place(lifetimes, sizes, isa.alignment)


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


def _functions(graph: Graph, isa: Isa, bodies: dict[str, list[str]], arena_bytes: int) -> str:
    element = "float" if isinstance(graph.obs_type.qtype, Float32) else "uint8_t"
    count = graph.obs_type.size
    refuse = f"    if (!nq_finite(obs, {count})) return -1;\n" if element == "float" else ""
    storage = "" if arena_bytes <= isa.stack_bytes else "static "
    aligned = " NQ_ALIGN" if isa.alignment > c_plan.ALIGNMENT else ""
    arena = f"{storage}union {{ double align; unsigned char bytes[{max(arena_bytes, 1)}]; }} arena{aligned};"
    indented = {key: "\n".join(f"    {line}" for line in lines) for key, lines in bodies.items()}
    unused = "    (void)arena;\n    (void)obs;\n"
    act, mask, given = ("act_masked", ", const uint8_t *mask", ", mask") if graph.masked else ("act", "", "")
    return f"""
static void nq_trunk(unsigned char *const arena, const {element} *const obs)
{{
{unused}{indented["both"]}
}}

int nq_{act}_with(void *workspace, const {element} *obs{mask})
{{
    unsigned char *const arena = (unsigned char *)workspace;
    int action = 0;
{refuse}    nq_trunk(arena, obs);
{indented["action"]}
    return action;
}}

int nq_q_with(void *workspace, const {element} *obs, float *q)
{{
    unsigned char *const arena = (unsigned char *)workspace;
{refuse}    nq_trunk(arena, obs);
{indented["q"]}
    return 0;
}}

int nq_{act}(const {element} *obs{mask})
{{
    {arena}
    return nq_{act}_with(arena.bytes, obs{given});
}}

int nq_q(const {element} *obs, float *q)
{{
    {arena}
    return nq_q_with(arena.bytes, obs, q);
}}
"""
