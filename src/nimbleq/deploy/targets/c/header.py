"""The words around the code: the comment on top of a C file, and the header."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from nimbleq.deploy.identity import BYTES
from nimbleq.deploy.targets.c.layout import c_type
from nimbleq.deploy.targets.c.ops.dots import KERNELS as DOT_KERNELS
from nimbleq.deploy.targets.c.plan import Plan
from nimbleq.deploy.targets.c.text import comment_safe
from nimbleq.graph.cost import cost, node_macs
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface, describe
from nimbleq.version import VERSION

UNKNOWN_MEANING = "the network's own; compression may have moved all of them, so compare them with one another only"


def title(graph: Graph, name: str, source: str, plans: Sequence[Plan]) -> str:
    """Comment: what made the file, from what, what it takes of memory, and what each layer costs."""
    total = cost(graph)
    rows = [f"   {'op':<12} {'output':<24} {'type':<24} {'MACs':>10} {'weight bytes':>13}"]
    for node in graph.nodes:
        size = sum(graph.stored(weight).nbytes for weight in node.op.weight_names())
        kind = str(graph.types[node.output])
        rows.append(f"   {node.op.kind:<12} {node.output:<24} {kind:<24} {node_macs(graph, node):>10} {size:>13}")
    table = "\n".join(comment_safe(row).rstrip() for row in rows)
    sizes = "\n".join(_memory(plan) for plan in plans)
    return f"""/* {name}: a policy written by nimbleq {VERSION}; do not edit.
   from: {comment_safe(source) or "a graph in memory"}
   one decision: {total.macs} multiply-accumulates; the model: {total.size_bytes} bytes
{sizes}

{table}

{_compiling(name, plans)} */
"""


def _compiling(name: str, plans: Sequence[Plan]) -> str:
    """How the file is compiled, and for what."""
    vectors = [plan.isa.name for plan in plans if plan.isa.condition]
    here = " -march=native" if vectors else ""
    gets = f" x86-64 with {' or '.join(vectors)} gets vectors (unless -DNQ_SCALAR)." if vectors else ""
    used = {kernel for plan in plans for block in plan.blocks for kernel in block.code.kernels}
    if used & DOT_KERNELS and plans[-1].isa.dots:
        gets += f" {' or '.join(dot.name for dot in plans[-1].isa.dots)}: bytes are multiplied by those instructions."
    words = (
        "Any C99 compiler and processor will do, hosted or freestanding, with an int of 16 bits or more."
        f"{gets} Nothing is linked; GCC may turn loops into memcpy and memset, as in every program, unless "
        "-fno-tree-loop-distribute-patterns."
    )
    lines = textwrap.fill(words, 115, initial_indent="   ", subsequent_indent="   ", break_on_hyphens=False)
    standard = "gnu99" if plans[-1].isa.flash else "c99"
    return f"   Compile:  cc -std={standard} {'-O3' if vectors else '-O2'}{here} -c {name}.c\n{lines}"


def _memory(plan: Plan) -> str:
    where = "on the stack" if plan.on_stack else "static"
    padded = ", unpacked and padded to whole vectors" if plan.isa.lanes > 1 else ""
    return f"   {plan.isa.name}: constants {plan.constant_bytes} bytes{padded}; RAM {plan.arena_bytes} bytes, {where}"


def header(
    graph: Graph,
    name: str,
    top: str,
    q_meaning: str,
    interface: Interface | None,
    plans: Sequence[Plan],
    digest: str = "",
) -> str:
    """Text of ``<name>.h``."""
    identity = ""
    if digest:
        identity = f"/* Names the artefact, {digest[:24]}…: nimbleq identify FILE finds it in a program. */\n"
        identity = identity.replace("…", "...") + f"extern const unsigned char {name}_identity[{BYTES}];\n\n"
    real, element = not graph.obs_type.qtype.is_integer, c_type(graph.obs_type)
    arena_bytes, on_stack = max(plan.arena_bytes for plan in plans), all(plan.on_stack for plan in plans)
    shape, guard = graph.obs_type.shape, f"NIMBLEQ_{name.upper()}_H"
    layout = " row by row, channels outermost: (C, H, W)" if len(shape) == 3 else " in C order"
    values = (
        "in the units of the environment (normalisation is inside);\n"
        "   every entry must be finite: NaN or infinity is refused with -1. Values so large that an intermediate\n"
        "   overflows give an unspecified valid action."
        if real
        else "0..255 as the sensor gives them (scaling is inside)."
    )
    act, mask, given = "act", "", ""
    if graph.masked:
        act, mask = "act_masked", ", const uint8_t *mask"
        given = f"\n   Mask: uint8_t[{graph.actions}], not 0 where an action is legal; when none is, the answer is -1."
    state, kept = (", float *state", ", const float *state") if graph.units else ("", "")
    reset = ""
    if graph.units:
        reset = f"""/* What the policy remembers: state[{name.upper()}_STATE_SIZE], the caller's, one for each episode.
   {name}_{act} changes it, unless it refuses the observation; {name}_q does not. Before an episode: */
#define {name.upper()}_STATE_SIZE {graph.units}
void {name}_reset(float *state);

"""
    actions, choices = f"0..{graph.choices - 1}, the lowest index when action values tie", ""
    if graph.branches:
        sizes = ", ".join(map(str, graph.branches))
        actions = f"one number for {len(graph.branches)} dimensions of {sizes} choices; the lowest ones when values tie"
        given = given.replace("where an action", "where a choice of a dimension (one after the other)")
        given = given.replace("when none is", "when none of a dimension is")
        choices = f"""/* The choices[{len(graph.branches)}] of an action, from 0 on in each dimension. */
void {name}_choices(int index, int32_t *choices);

"""
    threads = (
        "All functions may be called from several threads at once: the arena is on the stack."
        if on_stack
        else f"{name}_{act} and {name}_q may share one static arena: one thread at a time. The *_with functions use\n"
        "   the caller's workspace and may run in parallel, each thread with its own."
    )
    meaning = textwrap.fill(f"Action values: {comment_safe(q_meaning) or UNKNOWN_MEANING}.", 116).replace("\n", "\n   ")
    lines = [] if interface is None else ["What the environment gives, and what it takes:", *describe(interface)]
    words = "".join(f"\n     {line}" for line in lines)
    return f"""{top}
#ifndef {guard}
#define {guard}

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

/* Observation: {element}[{graph.obs_type.size}], shape ({", ".join(map(str, shape))}){layout};
   {values}{words}
   Action: {actions}.{given}
   {meaning}
   {threads} */
#define {name.upper()}_OBS_SIZE {graph.obs_type.size}
#define {name.upper()}_ACTIONS {graph.actions}
#define {name.upper()}_WORKSPACE_BYTES {max(arena_bytes, 1)}

{reset}/* The {"best legal" if graph.masked else "greedy"} action, or -1 when the observation is refused. */
int {name}_{act}(const {element} *obs{state}{mask});

/* All action values into q[{graph.actions}]; 0, or -1 when the observation is refused (q is then untouched). */
int {name}_q(const {element} *obs{kept}, float *q);

/* The same with a workspace of {name.upper()}_WORKSPACE_BYTES bytes, aligned to 64. */
int {name}_{act}_with(void *workspace, const {element} *obs{state}{mask});
int {name}_q_with(void *workspace, const {element} *obs{kept}, float *q);

{choices}{identity}#ifdef __cplusplus
}}
#endif

#endif
"""
