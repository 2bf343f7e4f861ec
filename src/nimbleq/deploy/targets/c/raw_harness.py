"""A program that answers observations as the environment gives them, for boards; and what goes in and comes out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nimbleq.deploy.targets.c.entries import entries, mask_member, numpy_type
from nimbleq.deploy.targets.c.raw import action_type, has_action
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface
from nimbleq.types import Array


def raw_harness(graph: Graph, interface: Interface, name: str) -> str:
    """``main`` of a program with the functions of ``board.h``."""
    parts, inside = given_parts(interface), mask_member(interface)
    given = [f"static {part.c_type} given_{part.name}[{part.count}];" for part in parts]
    members = [f"given_{part.name}{'[0]' if part.single else ''}" for part in parts]
    reads = [f"given_{part.name}" for part in parts]
    arguments = ["&state", "&raw"]
    reset = f"{name}_reset(&state);"
    if interface.frames is not None:
        given, reads, reset = ["static uint8_t first[1];", *given], ["first", *reads], f"if (first[0]) {reset}"
    if graph.masked:
        given.append(f"static uint8_t mask[{graph.actions}];")
        reads.append("mask")
        (members if inside else arguments).append("mask")
    writes = ["&index, sizeof index", "state.obs, sizeof state.obs"]
    if has_action(interface):
        given.append(f"static {action_type(interface)} action[{action_width(interface)}];")
        arguments.append("action")
        writes.append("action, sizeof action")
    first, *others = (f"if (!board_read({each}, sizeof {each})) return" for each in reads)
    lines = [f"{first} 0;", *(f"{each} 1;" for each in others)]
    lines += [
        f"const {name}_raw raw = {{{', '.join(members)}}};",
        reset,
        f"const int32_t index = {name}_act_raw({', '.join(arguments)});",
        *(f"board_write({each});" for each in writes),
    ]
    body = "\n".join(f"        {line}" for line in lines)
    return f"""/* Answers observations. In come their entries (and masks; before screens, whether an episode starts),
   out go the index of the action, what the network read, and the environment's action where that is another. */
#include "{name}_raw.h"

#include "board.h"

static {name}_state state;
{chr(10).join(given)}

int main(void)
{{
    for (;;) {{
{body}
    }}
}}
"""


@dataclass(frozen=True)
class Given:
    """An array that a program fills in before it decides: a member of the struct NAME_raw, or what that points to.

    Attributes:
        name: of the member.
        c_type: of its elements.
        count: of them.
        single: the member is the value itself.
    """

    name: str
    c_type: str
    count: int
    single: bool


def given_parts(interface: Interface) -> tuple[Given, ...]:
    """What the environment gives without its mask, in the order of the members."""
    if interface.frames is not None:
        size = math.prod(interface.frames.shape)
        return tuple(Given(name, "uint8_t", size, False) for name in ("before", "screen"))
    return tuple(Given(part.name, part.c_type, part.count, part.single) for part in entries(interface))


def raw_bytes(interface: Interface, raws: Sequence[Any], mask: Array | None) -> list[bytes]:
    """What the program reads, of each observation."""
    if interface.frames is not None:
        found = [bytes([raw.first]) + raw.before.tobytes() + raw.screen.tobytes() for raw in raws]
    else:
        parts = entries(interface)
        found = [b"".join(part.values(raw).tobytes() for part in parts) for raw in raws]
    return found if mask is None else [one + np.asarray(mask[at], np.uint8).tobytes() for at, one in enumerate(found)]


def raw_answer(interface: Interface) -> np.dtype[Any]:
    """What the program writes, of each observation."""
    fields: list[Any] = [("index", "<i4"), ("obs", np.dtype(interface.obs.dtype), interface.obs.shape)]
    if has_action(interface):
        fields.append(("action", np.dtype(numpy_type(action_type(interface))), (action_width(interface),)))
    return np.dtype(fields)


def taken(interface: Interface, answers: Array) -> Array:
    """The environment's actions ``[N, *A]`` of the program's answers."""
    if not has_action(interface):
        return answers["index"]
    return answers["action"].reshape(len(answers), *interface.action_shape)


def action_width(interface: Interface) -> int:
    """Values of the environment's action."""
    return math.prod(interface.action_shape)
