"""The row of libraries: one folder that Arduino, PlatformIO and Zephyr each take as it is.

Its files are compiled and run for two processors; Arduino's own build, with Debian's core for AVR, is done by the
tests. PlatformIO and Zephyr download at build time, so for them the metadata is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path

from nimbleq.deploy.target import Files, GuardRun, NoOptions, RawRun, Run, Source, Target
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.example import given_mask, members
from nimbleq.deploy.targets.c.guard import emit_guard
from nimbleq.deploy.targets.c.isa import portable
from nimbleq.deploy.targets.c.layout import c_type
from nimbleq.deploy.targets.c.ops.dots import DSP
from nimbleq.deploy.targets.c.raw import action_type, emit_raw, has_action, has_raw
from nimbleq.deploy.targets.c.selftest import selftest
from nimbleq.deploy.targets.cross.processor import Processor
from nimbleq.deploy.targets.cross.processors import PROCESSORS
from nimbleq.deploy.targets.cross.row import fits, holds, label, run, run_guard, run_raw
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface
from nimbleq.version import VERSION

BOARDS = ("avr", "cortex-m4")
"""Processors that its files are compiled for and run on here."""
_SOURCES = "arduino/src/"


def _emit(source: Source, name: str, _: NoOptions) -> Files:
    isas = (portable(DSP, flash=True),)
    texts = emit_c(source.graph, name, source.origin, source.q_meaning, source.interface, isas, source.digest)
    texts |= emit_raw(source.graph, name, source.interface)
    texts |= emit_guard(source.graph, name, source.guard, source.interface, source.origin, source.digest, isas)
    tests = selftest(source, name, raw=True)
    files = {f"src/{file}": text for file, text in (texts | tests).items()}
    files |= {
        "library.properties": _properties(name),
        "library.json": json.dumps({"name": name, "version": "1.0.0", "frameworks": "*", "platforms": "*"}, indent=2)
        + "\n",
        "examples/decide/decide.ino": _sketch(source, name),
        "zephyr/module.yml": "build:\n  cmake: zephyr\n  kconfig: zephyr/Kconfig\n",
        "zephyr/CMakeLists.txt": _zephyr(name, tuple(file for file in (*texts, *tests) if file.endswith(".c"))),
        "zephyr/Kconfig": f'config {name.upper()}\n\tbool "The policy {name}"\n\tdefault y\n',
    }
    if tests:
        files["examples/selftest/selftest.ino"] = _selftest_sketch(name)
    return {f"arduino/{file}": text.encode() for file, text in files.items()}


def _properties(name: str) -> str:
    return f"""name={name}
version=1.0.0
author=nimbleq {VERSION}
maintainer=nimbleq
sentence=A policy that nimbleq wrote.
paragraph=Plain C99, no heap, no library.
category=Data Processing
url=https://example.org
architectures=*
includes={name}.h
"""


def _sketch(source: Source, name: str) -> str:
    """Decides ten times a second and says what."""
    if source.guard is None and source.interface is not None and has_raw(source.interface):
        return _sketch_of_the_environment(source.graph, name, source.interface)
    graph, upper = source.graph, name.upper()
    mask = f"static uint8_t mask[{upper}_ACTIONS] = {{1}};  // not 0 where an action is legal\n" if graph.masked else ""
    call = f"{name}_act_masked(obs, mask)" if graph.masked else f"{name}_act(obs)"
    include, state, begin = "", "", ""
    if source.guard is not None:
        include, state = f"#include <{name}_guard.h>\n", f"static {name}_guard guard;\n"
        begin = f"\n  {name}_guard_init(&guard);"
        call = f"{name}_guard_act(&guard, obs{', mask' if graph.masked else ''})"
    return f"""#include <{name}.h>
{include}
static {c_type(graph.obs_type)} obs[{upper}_OBS_SIZE];  // fill in what the sensors say
{mask}{state}
void setup() {{
  Serial.begin(115200);{begin}
}}

void loop() {{
  Serial.println({call});
  delay(100);
}}
"""


def _sketch_of_the_environment(graph: Graph, name: str, interface: Interface) -> str:
    """The same with what the environment gives, and the index of the action."""
    parts = members(graph, interface)
    arrays = "".join(f"{part.array}\n" for part in parts if part.array)
    filled = "".join(f"  raw.{part.name} = {part.value};\n" for part in parts)
    ones, mask, given = ", ".join("1" * graph.actions), "", ""
    if given_mask(graph, interface):
        mask, given = (
            f"static uint8_t mask[{graph.actions}] = {{{ones}}};  // not 0 where an action is legal\n",
            ", mask",
        )
    action, out = "", ""
    if has_action(interface):
        width = max(prod(interface.action_shape), 1)
        action, out = f"static {action_type(interface)} action[{width}];  // as the environment takes it\n", ", action"
    return f"""#include <{name}_raw.h>

// What the environment gives: fill it in.
{arrays}{mask}{action}static {name}_state state;

void setup() {{
  Serial.begin(115200);
  {name}_reset(&state);  // an episode begins
}}

void loop() {{
  {name}_raw raw;
{filled}  Serial.println({name}_act_raw(&state, &raw{given}{out}));
  delay(100);
}}
"""


def _selftest_sketch(name: str) -> str:
    return f"""#include <{name}_selftest.h>

void setup() {{
  static char line[{name.upper()}_SELFTEST_LINE];
  Serial.begin(115200);
  {name}_selftest(line);
  Serial.println(line);
}}

void loop() {{}}
"""


def _zephyr(name: str, sources: tuple[str, ...]) -> str:
    listed = " ".join(f"../src/{file}" for file in sources)
    return f"""if(CONFIG_{name.upper()})
  zephyr_library_named({name})
  zephyr_library_sources({listed})
  zephyr_include_directories(../src)
endif()
"""


def _boards(source: Source) -> list[Processor]:
    """Two that people put Arduino on, of those that can be compiled for and run here and that the policy fits."""
    here = [processor for processor in PROCESSORS if processor.name in BOARDS and processor.lacks() is None]
    return [processor for processor in here if fits(processor, source.graph, source.guard)]


def _own(files: Files) -> dict[str, bytes]:
    return {file.removeprefix(_SOURCES): data for file, data in files.items() if file.startswith(_SOURCES)}


def _open(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, Run]:
    """The library's own files in a program for each board."""
    runs = {}
    for board in _boards(source):
        place = folder / board.name
        place.mkdir()
        runs[f"arduino: {label(board)}"] = run(board, source.graph, _own(files), name, place)
    return runs


def _guard(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, GuardRun]:
    """The guard on each board."""
    runs = {}
    for board in _boards(source):
        place = folder / f"{board.name}-guard"
        place.mkdir()
        runs[f"arduino: {label(board)} guard"] = run_guard(board, source.graph, _own(files), name, place)
    return runs


def _open_raw(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, RawRun]:
    """The environment's side on the boards that have the numbers that it computes with."""
    runs, own = dict[str, RawRun](), _own(files)
    if source.interface is None or f"{name}_raw.c" not in own:
        return {}
    for board in _boards(source):
        if (b"double" in own[f"{name}_raw.c"] and not board.wide) or not holds(board, source.interface):
            continue
        place = folder / f"{board.name}-raw"
        place.mkdir()
        runs[f"arduino: {label(board)} raw"] = run_raw(board, source.graph, source.interface, own, name, place)
    return runs


def _cannot_open() -> str | None:
    lacking = [why for one in PROCESSORS if one.name in BOARDS and (why := one.lacks())]
    return lacking[0] if len(lacking) == len(BOARDS) else None


ARDUINO = Target(
    name="arduino",
    purpose="a library for Arduino, PlatformIO and Zephyr",
    emit=_emit,
    open=_open,
    raw=_open_raw,
    exact=True,
    timed=False,
    cannot_open=_cannot_open,
    guard=_guard,
    most=1_000,
)
