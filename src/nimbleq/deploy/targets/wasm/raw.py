"""The environment's side of a policy in a module: what it gives in, its action out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from nimbleq.deploy.target import RawRun
from nimbleq.deploy.targets.c.entries import mask_member, numpy_type
from nimbleq.deploy.targets.c.raw import action_type, has_action
from nimbleq.deploy.targets.c.raw_harness import action_width, given_parts, raw_answer, raw_bytes, taken
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface
from nimbleq.types import Array

_JAVASCRIPT = {
    "int8_t": "Int8Array", "uint8_t": "Uint8Array", "int16_t": "Int16Array", "uint16_t": "Uint16Array",
    "int32_t": "Int32Array", "uint32_t": "Uint32Array", "int64_t": "BigInt64Array", "uint64_t": "BigUint64Array",
    "float": "Float32Array", "double": "Float64Array",
}  # fmt: skip
"""C type → array of JavaScript."""


def raw_module(graph: Graph, interface: Interface, name: str) -> str:
    """C that exports the environment's side: the place of each array, and two functions."""
    parts, inside, actions = given_parts(interface), mask_member(interface), has_action(interface)
    arrays = [f"static {part.c_type} given_{part.name}[{part.count}];" for part in parts]
    places = [(f"raw_{part.name}", f"given_{part.name}") for part in parts]
    members = [f"given_{part.name}{'[0]' if part.single else ''}" for part in parts]
    arguments = ["&state", "&raw"]
    if graph.masked:
        arrays.append(f"static uint8_t legal[{graph.actions}];")
        places.append(("legal", "legal"))
        (members if inside else arguments).append("legal")
    if actions:
        arrays.append(f"static {action_type(interface)} action[{action_width(interface)}];")
        places.append(("action", "action"))
        arguments.append("action")
    lines = [
        f'EXPORT("{outside}") void *{name}_at_{outside}(void);\nvoid *{name}_at_{outside}(void) {{ return {array}; }}\n'
        for outside, array in [*places, ("read", "state.obs")]
    ]
    return f"""/* What the outside sees of the environment's side: the places of its arrays, and two functions. */
#include "{name}_raw.h"

#define EXPORT(name) __attribute__((export_name(name)))

static {name}_state state;
{chr(10).join(arrays)}

{chr(10).join(lines)}
/* An episode starts. */
EXPORT("reset") void {name}_restart(void);
void {name}_restart(void) {{ {name}_reset(&state); }}

/* The index of the action for what lies in the arrays, or -1; the environment's action lies in action. */
EXPORT("act_raw") int {name}_decide_raw(void);
int {name}_decide_raw(void)
{{
    const {name}_raw raw = {{{", ".join(members)}}};
    return {name}_act_raw({", ".join(arguments)});
}}
"""


def raw_loader(graph: Graph, interface: Interface) -> tuple[str, str]:
    """JavaScript within ``load``: the environment's arrays, and the members of the policy that use them."""
    inside, actions = mask_member(interface), has_action(interface)
    views = {part.name: _view(part.c_type, f"raw_{part.name}", part.count) for part in given_parts(interface)}
    given = f"observation[{json.dumps(inside)}]" if inside else "allowed"
    mask = f'      put(flags, {given}, "mask");\n' if graph.masked else ""
    arrays = "".join(f"    {json.dumps(name)}: {view},\n" for name, view in views.items())
    answer, declared, member = "index", "", ""
    if actions:
        view = _view(action_type(interface), "action", action_width(interface))
        declared, member = f"  const action = {view};\n", "\n    action,"
        answer = "action[0]" if interface.commands is None else "action.slice()"
    if graph.masked:
        declared += f"  const flags = {_view('uint8_t', 'legal', graph.actions)};\n"
        member += "\n    legal: flags,"
    read = _view("uint8_t" if interface.obs.dtype == "uint8" else "float", "read", graph.obs_type.size)
    return (
        f"  const raw = {{\n{arrays}  }};\n{declared}",
        f"""    // What the environment gives, by name (integers of 64 bits as BigInt, half floats as their bits), in;
    // its action out, null where it is refused. reset() starts an episode.
    actRaw(observation, {"" if inside or not graph.masked else "allowed"}) {{
      for (const name of {json.dumps([part.name for part in given_parts(interface)])}) {{
        const value = observation[name];
        put(raw[name], value.length === undefined ? [value] : value, name);
      }}
{mask}      const index = exports.act_raw();
      return index < 0 ? null : {answer};
    }},
    reset: () => exports.reset(),
    given: raw,
    read: {read},{member}
    decide: () => exports.act_raw(),
""".replace("observation, )", "observation)"),
    )


def _view(c_type: str, export: str, count: int) -> str:
    return f"new {_JAVASCRIPT[c_type]}(memory.buffer, exports.{export}(), {count})"


class RawMemory(Protocol):
    """A module that is loaded, for `raw_run`."""

    def write(self, export: str, data: bytes) -> None:
        """Bytes to where ``export`` says."""
        ...

    def read(self, export: str, count: int) -> bytes:
        """So many bytes from where ``export`` says."""
        ...

    def call(self, export: str) -> int:
        """What the function answers; 0 for none."""
        ...


def raw_run(module: RawMemory, interface: Interface, masked: bool) -> RawRun:
    """A `RawRun` over the arrays of a module."""
    sizes = [
        (f"raw_{part.name}", part.count * np.dtype(numpy_type(part.c_type)).itemsize)
        for part in given_parts(interface)
    ]  # fmt: skip
    sizes += [("legal", interface.actions)] if masked else []
    answer = raw_answer(interface)

    def run(raws: Sequence[Any], mask: Array | None) -> tuple[Array, Array, Array]:
        answers = np.zeros(len(raws), answer)
        for row, (raw, data) in enumerate(zip(raws, raw_bytes(interface, raws, mask), strict=True)):
            at = 0
            if interface.frames is not None:
                at = 1
                if raw.first:
                    module.call("reset")
            for export, size in sizes:
                module.write(export, data[at : at + size])
                at += size
            index = np.int32(module.call("act_raw"))
            made = index.tobytes() + module.read("read", answer["obs"].itemsize)
            made += module.read("action", answer["action"].itemsize) if has_action(interface) else b""
            answers[row] = np.frombuffer(made, answer)[0]
        return answers["index"], answers["obs"], taken(interface, answers)

    return run
