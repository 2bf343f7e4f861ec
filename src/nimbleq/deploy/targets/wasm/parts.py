"""The files around a module: what it exports, how JavaScript loads it."""

from __future__ import annotations

import re
from pathlib import Path

from nimbleq.deploy.targets.c.layout import c_type
from nimbleq.deploy.targets.c.raw import has_raw
from nimbleq.deploy.targets.c.text import renamed
from nimbleq.deploy.targets.wasm.raw import raw_loader
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface

FOLDER = Path(__file__).parent / "files"


def module(graph: Graph, name: str) -> bytes:
    """The C that exports the policy ``name``."""
    defines = [f"#define NQ_ELEMENT {c_type(graph.obs_type)}", *(["#define NQ_ACT_MASKED"] if graph.masked else [])]
    text = "\n".join([*defines, (FOLDER / "module.c").read_text()])
    return renamed(text.replace('"nq.h"', f'"{name}.h"'), name).encode()


def loader(graph: Graph, interface: Interface | None) -> bytes:
    """JavaScript that loads the module."""
    arrays, members = raw_loader(graph, interface) if interface is not None and has_raw(interface) else ("", "")
    text = filled("policy.mjs", graph)
    return text.replace("RAW_ARRAYS", arrays).replace("RAW_MEMBERS", members).encode()


def filled(file: str, graph: Graph) -> str:
    """A file of `FOLDER` for the sizes of a policy."""
    element = "Uint8Array" if graph.obs_type.qtype.is_integer else "Float32Array"
    words = {"ELEMENT": element, "SIZE": str(graph.obs_type.size), "ACTIONS": str(graph.actions)}
    return re.sub(r"\b(ELEMENT|SIZE|ACTIONS)\b", lambda found: words[found[1]], (FOLDER / file).read_text())
