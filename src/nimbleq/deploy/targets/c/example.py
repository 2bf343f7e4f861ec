"""The program that shows how to call a policy in C, with what the environment gives."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from nimbleq.deploy.targets.c.entries import entries, mask_member
from nimbleq.deploy.targets.c.raw import action_type, has_action, has_raw
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface
from nimbleq.graph.space import Discrete, MultiDiscrete


def example(graph: Graph, name: str, interface: Interface | None = None) -> str:
    """A program that decides once; the compile line is on top."""
    if interface is not None and has_raw(interface):
        return _of_the_environment(graph, name, interface)
    element = "uint8_t" if graph.obs_type.qtype.is_integer else "float"
    upper = name.upper()
    given, act = (", mask", "act_masked") if graph.masked else ("", "act")
    state, held = "", ""
    if graph.units:
        state, held = f"static float state[{upper}_STATE_SIZE]; /* zeros: an episode begins */\n", ", state"
    return f"""/* cc -std=c99 -O3 -march=native example.c {name}.c -o example && ./example */
#include "{name}.h"

#include <stdio.h>

static {element} obs[{upper}_OBS_SIZE]; /* zeros: fill in what the sensors say */
{_mask(graph) if graph.masked else ""}{state}
int main(void)
{{
    float q[{upper}_ACTIONS];
    if ({name}_q(obs{held}, q) < 0) return 1;
    for (int a = 0; a < {upper}_ACTIONS; ++a) printf("q[%d] = %g\\n", a, (double)q[a]);
    printf("action %d\\n", {name}_{act}(obs{held}{given}));
    return 0;
}}
"""


@dataclass(frozen=True)
class Member:
    """Of the struct ``NAME_raw``, filled in by an example.

    Attributes:
        name: its name.
        array: definition of the array that it points to; empty where it is a number.
        value: C expression of what it holds.
    """

    name: str
    array: str
    value: str


def members(graph: Graph, interface: Interface) -> list[Member]:
    """Of an observation in the environment's form, the first values of its space."""
    if interface.frames is not None:
        size = prod(interface.frames.shape)
        return [_array(name, "uint8_t", size) for name in ("before", "screen")]
    made = []
    for part in entries(interface):
        if isinstance(part.leaf, Discrete):
            made.append(Member(part.name, "", str(part.leaf.start)))
        else:
            starts = part.leaf.start if isinstance(part.leaf, MultiDiscrete) else ()
            made.append(_array(part.name, part.c_type, part.count, ", ".join(map(str, starts))))
    if mask_member(interface):
        made.append(_array("action_mask", "uint8_t", graph.actions, _ones(graph)))
    return made


def given_mask(graph: Graph, interface: Interface) -> bool:
    """Whether the mask is an argument of its own."""
    return graph.masked and not mask_member(interface)


def _array(name: str, kind: str, count: int, values: str = "") -> Member:
    start = f" = {{{values}}}" if values else ""
    return Member(name, f"static {kind} given_{name}[{count}]{start};", f"given_{name}")


def _ones(graph: Graph) -> str:
    return ", ".join("1" * graph.actions)


def _mask(graph: Graph) -> str:
    return f"static uint8_t mask[{graph.actions}] = {{{_ones(graph)}}}; /* not 0 where an action is legal */\n"


def _of_the_environment(graph: Graph, name: str, interface: Interface) -> str:
    parts = members(graph, interface)
    arrays = "".join(f"{part.array}\n" for part in parts if part.array)
    mask, given = (_mask(graph), ", mask") if given_mask(graph, interface) else ("", "")
    filled = ", ".join(f".{part.name} = {part.value}" for part in parts)
    action, out, said = "", "", 'printf("action %d\\n", index);'
    if has_action(interface):
        width = max(prod(interface.action_shape), 1)
        action, out = f"    {action_type(interface)} action[{width}];\n", ", action"
        said = 'printf("action %g\\n", (double)action[0]);'
    if has_action(interface) and width > 1:
        said = f'for (int i = 0; i < {width}; ++i) printf("action %g\\n", (double)action[i]);'
    return f"""/* cc -std=c99 -O3 -march=native example.c {name}.c {name}_raw.c -o example && ./example */
#include "{name}_raw.h"

#include <stdio.h>

/* What the environment gives: fill it in. */
{arrays}{mask}static {name}_state state;

int main(void)
{{
    const {name}_raw raw = {{{filled}}};
{action}    {name}_reset(&state); /* an episode begins */
    const int index = {name}_act_raw(&state, &raw{given}{out});
    if (index < 0) {{
        puts("refused: a value is outside of its space");
        return 1;
    }}
    {said}
    return 0;
}}
"""
