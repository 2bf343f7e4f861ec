"""The program that shows how to call a policy in C."""

from __future__ import annotations

from nimbleq.graph.graph import Graph


def example(graph: Graph, name: str) -> str:
    """A program that decides once; the compile line is on top."""
    element = "uint8_t" if graph.obs_type.qtype.is_integer else "float"
    upper = name.upper()
    mask, given, act = "", "", "act"
    every = ", ".join("1" * graph.actions)
    if graph.masked:
        mask = f"static uint8_t mask[{upper}_ACTIONS] = {{{every}}}; /* not 0 where an action is legal */\n"
        given, act = ", mask", "act_masked"
    state, held = "", ""
    if graph.units:
        state, held = f"static float state[{upper}_STATE_SIZE]; /* zeros: an episode begins */\n", ", state"
    return f"""/* cc -std=c99 -O3 -march=native example.c {name}.c -o example && ./example */
#include "{name}.h"

#include <stdio.h>

static {element} obs[{upper}_OBS_SIZE]; /* zeros: fill in what the sensors say */
{mask}{state}
int main(void)
{{
    float q[{upper}_ACTIONS];
    if ({name}_q(obs{held}, q) < 0) return 1;
    for (int a = 0; a < {upper}_ACTIONS; ++a) printf("q[%d] = %g\\n", a, (double)q[a]);
    printf("action %d\\n", {name}_{act}(obs{held}{given}));
    return 0;
}}
"""
