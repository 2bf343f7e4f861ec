"""The row of WebAssembly: a freestanding module without imports, made by Clang or Zig, run by Node and wasmtime."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nimbleq.deploy.target import Files, Footprint, RawRun, Run, Source, Target
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import portable
from nimbleq.deploy.targets.c.ops.dots import SIMD128
from nimbleq.deploy.targets.c.raw import emit_raw, has_raw
from nimbleq.deploy.targets.cross.compiler import WARNINGS, Compiler, build, find, zig
from nimbleq.deploy.targets.wasm import node, wasmtime
from nimbleq.deploy.targets.wasm.page import page
from nimbleq.deploy.targets.wasm.parts import loader, module
from nimbleq.deploy.targets.wasm.raw import raw_module
from nimbleq.deploy.toolchain import NoCompilerError
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import Guard
from nimbleq.types import Array

FLAGS = ("-std=c99", "-Os", "-nostdlib", "-Wl,--no-entry", "-Wl,--gc-sections", "-Wl,-z,stack-size=16384")
COMPILERS = (
    Compiler("clang wasm32", ("clang",), ("--target=wasm32", "-mbulk-memory"), "apt install clang lld", ()),
    zig("wasm32-freestanding", "-mcpu=generic+bulk_memory"),
)


@dataclass(frozen=True)
class WasmOptions:
    """How WebAssembly is written.

    Attributes:
        page: an HTML file in which the policy plays this environment, beside the module.
    """

    page: Literal["none", "cartpole", "mountaincar", "acrobot"] = "none"


def compiler() -> Compiler | None:
    """The first that works: Clang needs its linker beside it."""
    return find([one for one in COMPILERS if one.command[0] != "clang" or _linker()])


def _linker() -> bool:
    return any(shutil.which(name) for name in ("wasm-ld", "wasm-ld-14", "wasm-ld-15", "wasm-ld-16", "wasm-ld-19"))


def _cannot_emit() -> str | None:
    if compiler() is None:
        return f"wasm needs a compiler: {' or '.join(one.install for one in COMPILERS)}"
    return None


def _cannot_open() -> str | None:
    if not (shutil.which("node") or importlib.util.find_spec("wasmtime")):
        return "running wasm needs Node or wasmtime: apt install nodejs or pip install wasmtime"
    return _cannot_emit()


def _emit(source: Source, name: str, options: WasmOptions) -> Files:
    files = {f"{name}.wasm": _compiled(source, name), f"{name}.mjs": loader(source.graph, source.interface)}
    if options.page != "none":
        files[f"{name}.html"] = page(options.page, source, name, files)
    return {f"wasm/{file}": data for file, data in files.items()}


def _compiled(source: Source, name: str) -> bytes:
    """The module."""
    chosen = compiler()
    if chosen is None:
        raise NoCompilerError(_cannot_emit() or "")
    isas = (portable(SIMD128),)
    texts = emit_c(source.graph, name, source.origin, source.q_meaning, source.interface, isas, source.digest)
    flags = (*FLAGS, *(["-msimd128"] if f"{name}_dot_" in texts[f"{name}.c"] else []))
    if source.interface is not None and (raw := emit_raw(source.graph, name, source.interface)):
        texts |= raw | {"module_raw.c": raw_module(source.graph, source.interface, name)}
    parts = {file: text.encode() for file, text in texts.items()} | {"module.c": module(source.graph, name)}
    with tempfile.TemporaryDirectory(prefix="nimbleq-wasm-") as folder:
        return build(chosen, parts, f"{name}.wasm", (*WARNINGS, *flags), Path(folder)).read_bytes()


def _open(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, Run]:
    """In every engine that is here."""
    made, runs = files[f"wasm/{name}.wasm"], {}
    if shutil.which("node"):
        runs["wasm (node)"] = node.run(made, files[f"wasm/{name}.mjs"], source.graph, folder)
    if importlib.util.find_spec("wasmtime"):
        runs["wasm (wasmtime)"] = wasmtime.run(made, source.graph)
    return runs


def _open_raw(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, RawRun]:
    """The environment's side in every engine; nothing where there is none."""
    interface, made, runs = source.interface, files[f"wasm/{name}.wasm"], dict[str, RawRun]()
    if interface is None or not has_raw(interface):
        return {}
    if shutil.which("node"):
        runs["wasm (node) raw"] = node.run_raw(made, files[f"wasm/{name}.mjs"], interface, folder)
    if importlib.util.find_spec("wasmtime"):
        runs["wasm (wasmtime) raw"] = wasmtime.run_raw(made, interface, source.graph.masked)
    return runs


def _footprint(graph: Graph, guard: Guard | None, obs: Array, folder: Path) -> Footprint:
    if guard is not None:
        raise ConfigError("wasm cannot run a guard: measure the artefact that it was made from")
    made = _compiled(Source(graph, digest="0" * 64), "policy")
    ram, instructions = None, None
    if importlib.util.find_spec("wasmtime"):
        ram, instructions = wasmtime.measured(made, graph, obs)
    chosen = compiler()
    assert chosen is not None
    return Footprint(
        "wasm", len(made), 0, ram or 0, None, instructions, "WebAssembly instructions", f"{chosen.name} -Os"
    )


WASM = Target(
    name="wasm",
    purpose="a WebAssembly module for browsers and Node",
    options=WasmOptions,
    emit=_emit,
    open=_open,
    raw=_open_raw,
    exact=True,
    timed=False,
    cannot_emit=_cannot_emit,
    cannot_open=_cannot_open,
    footprint=_footprint,
)
