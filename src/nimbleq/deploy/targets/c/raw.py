"""The environment's side of a policy in C: what it gives, entry by entry, in, and the action that it takes out.

``NAME_raw.c`` stands beside ``NAME.c``. It is written where the network's input or its actions are not already what the
environment gives and takes; its answers are `Interface`'s, value by value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod

from nimbleq.deploy.targets.c import text as c_text
from nimbleq.deploy.targets.c.emit import needs_int
from nimbleq.deploy.targets.c.entries import Entry, array_of_doubles, entries, literal, mask_member
from nimbleq.deploy.targets.c.screens import Screens
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface, describe

_KERNELS = ("half", "less", "less_whole")
_ACTION32 = range(-(2**31), 2**31)


def has_raw(interface: Interface | None) -> bool:
    """Whether there is anything to do between the environment and the network."""
    return interface is not None and bool(not interface.plain or mask_member(interface) or interface.frames)


def emit_raw(graph: Graph, name: str, interface: Interface | None) -> dict[str, str]:
    """``{"<name>_raw.c": text, "<name>_raw.h": text}``; nothing where `has_raw` says so."""
    if interface is None or not has_raw(interface):
        return {}
    screens = None if interface.frames is None else Screens.of(interface)
    parts = () if screens else entries(interface)
    return {
        f"{name}_raw.c": c_text.renamed(_source(graph, interface, parts, screens), name).replace(
            '"nq.h"', f'"{name}.h"'
        ),
        f"{name}_raw.h": c_text.renamed(_header(graph, interface, parts, screens), name).replace(
            "_NQ_RAW", f"_{name.upper()}_RAW"
        ),
    }


def action_type(interface: Interface) -> str:
    """C type of the environment's action, or of each value of its command."""
    if interface.commands is not None:
        kinds = {"float32": "float", "float64": "double"}
        return kinds.get(str(interface.commands.dtype), f"{interface.commands.dtype}_t")
    if interface.branches:
        return "int32_t"
    last = interface.action_start + interface.actions - 1
    return "int32_t" if interface.action_start in _ACTION32 and last in _ACTION32 else "int64_t"


def decide(graph: Graph, interface: Interface) -> str:
    """Head of the function that decides."""
    mask = ", const uint8_t *mask" if graph.masked and not mask_member(interface) else ""
    action = f", {action_type(interface)} *action" if has_action(interface) else ""
    return f"int nq_act_raw(nq_state *state, const nq_raw *raw{mask}{action})"


def has_action(interface: Interface) -> bool:
    """Whether the environment's action is another than the index."""
    return interface.commands is not None or interface.action_start != 0 or bool(interface.branches)


def _header(graph: Graph, interface: Interface, parts: Sequence[Entry], screens: Screens | None) -> str:
    element = "uint8_t" if interface.obs.dtype == "uint8" else "float"
    members = list(screens.members) if screens else [part.member for part in parts]
    if mask_member(interface):
        members.append(f"    {'const uint8_t *action_mask;':<32} /* not 0 where an action is legal */")
    words = "\n".join(f"   {line}" for line in describe(interface))
    says = ["the action (its index)", "-1 when the observation is refused"]
    says[1] += ": outside of its space, not finite" + (", or no action is legal" if graph.masked else "")
    out = ""
    if has_action(interface):
        what, them = "the action", "it"
        if interface.action_shape:
            what, them = f"the {prod(interface.action_shape)} values of the action", "them"
        out = f"\n   `action` gets {what} as the environment takes {them}; it is untouched when refused."
    lists = _listed(interface)
    taken = f"\n/* The environment's action of an index. */\n{_taken(interface)};\n" if has_action(interface) else ""
    return f"""/* What the environment gives in, and what it takes out:
{c_text.comment_lines(words)}
   No allocation, no static variables: the state is the caller's, one for each episode that runs at a time. */
#ifndef NIMBLEQ_NQ_RAW_H
#define NIMBLEQ_NQ_RAW_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

/* An observation, as the environment gives it: arrays in C order. */
typedef struct {{
{chr(10).join(members)}
}} nq_raw;

/* Between decisions. */
typedef struct {{
    {f"{element} obs[{graph.obs_type.size}];":<32} /* what the network reads; nq_q(state.obs, q): the action values */
{_memory(graph)}}} nq_state;

/* The state before the first observation of an episode. */
void nq_reset(nq_state *state);

/* The network's input into state->obs; 0, or -1 when a value is outside of its space (state->obs is then undefined). */
int nq_read(nq_state *state, const nq_raw *raw);

/* Read and decide: {says[0]}, or {says[1]}.{lists}{out} */
{decide(graph, interface)};
{taken}
#ifdef __cplusplus
}}
#endif

#endif
"""


def _listed(interface: Interface) -> str:
    if interface.mask is None or mask_member(interface):
        return ""
    return (
        f"\n   `mask` has a flag for each index, not 0 where it is legal; the environment gives it as {interface.mask}."
    )


def _source(graph: Graph, interface: Interface, parts: Sequence[Entry], screens: Screens | None) -> str:
    element = "uint8_t" if interface.obs.dtype == "uint8" else "float"
    constants = screens.constants() if screens else [line for part in parts for line in part.constants()]
    constants += _commands(interface)
    if screens:
        functions, code = screens.functions, screens.code
    else:
        functions = []
        code = [line for part in parts for line in [f"/* {c_text.comment_safe(part.words())} */", *part.code()]]
    body = "\n".join(f"    {line}" for line in code)
    used = {kernel for kernel in _KERNELS if f"nq_{kernel}(" in body}
    largest = max(graph.obs_type.size, *(part.count for part in parts), screens.largest if screens else 0)
    includes = "#include <float.h>\n\n" if used & {"less", "less_whole"} else ""
    may_refuse = re.search(r"\bbad\b", body) is not None
    return f"""/* The environment's side of the policy: see nq_raw.h. */
#include "nq_raw.h"

#include "nq.h"

{includes}{needs_int(largest)}{c_text.kernels(used)}
{"".join(constants)}{chr(10).join(functions)}
void nq_reset(nq_state *state)
{{
    for (int i = 0; i < {graph.obs_type.size}; ++i) state->obs[i] = 0;
{_forget(graph)}}}

int nq_read(nq_state *state, const nq_raw *raw)
{{
    {element} *const obs = state->obs;
{"    int bad = 0;" + chr(10) if may_refuse else ""}{body}
    return {"bad ? -1 : 0" if may_refuse else "0"};
}}
{_action(interface)}
{decide(graph, interface)}
{{
{_decision(graph, interface)}
}}
"""


def _memory(graph: Graph) -> str:
    """The member that holds what the policy remembers."""
    return f"    {f'float memory[{graph.units}];':<32} /* what the policy remembers */\n" if graph.units else ""


def _forget(graph: Graph) -> str:
    return f"    for (int i = 0; i < {graph.units}; ++i) state->memory[i] = 0.0f;\n" if graph.units else ""


def _commands(interface: Interface) -> list[str]:
    if interface.commands is None:
        return []
    values = interface.commands.reshape(-1)
    if values.dtype == "float64":
        return [array_of_doubles("nq_commands", values)]
    return [c_text.array("nq_commands", values, False)]


def _decision(graph: Graph, interface: Interface) -> str:
    mask = "raw->action_mask" if mask_member(interface) else "mask"
    held = ", state->memory" if graph.units else ""
    call = f"nq_act_masked(state->obs{held}, {mask})" if graph.masked else f"nq_act(state->obs{held})"
    lines = ["if (nq_read(state, raw) < 0) return -1;"]
    if not has_action(interface):
        lines.append(f"return {call};")
    else:
        lines += [
            f"const int index = {call};",
            "if (index >= 0) nq_environment_action(index, action);",
            "return index;",
        ]
    return "\n".join(f"    {line}" for line in lines)


def _taken(interface: Interface) -> str:
    """Head of the function that gives the environment's action; empty where that is the index."""
    return f"void nq_environment_action(int index, {action_type(interface)} *action)" if has_action(interface) else ""


def _action(interface: Interface) -> str:
    """That function."""
    if not has_action(interface):
        return ""
    kind, start = action_type(interface), interface.action_start
    if interface.branches:
        lines = ["nq_choices(index, action);"]
        lines += [
            f"action[{at}] {'+' if first > 0 else '-'}= {abs(first)};"
            for at, first in enumerate(interface.starts)
            if first
        ]
        return "\n".join([f"\n{_taken(interface)}", "{", *(f"    {line}" for line in lines), "}\n"])
    if interface.commands is not None:
        width = prod(interface.action_shape)
        line = f"for (int i = 0; i < {width}; ++i) action[i] = nq_commands[index * {width} + i];"
    elif start > 0 or start == -(2**31):
        line = f"*action = index + {literal(start, kind)};"
    else:
        line = f"*action = index - {literal(-start, kind)};"
    return f"\n{_taken(interface)}\n{{\n    {line}\n}}\n"
