"""The row of C: one C99 file, its header, and an example program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nimbleq.deploy.decider import Decider, TimedDecider, open_library
from nimbleq.deploy.target import Engine, Files, GuardRun, RawRun, Run, Source, Target, Timer
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.example import example
from nimbleq.deploy.targets.c.guard import emit_guard, guard_files
from nimbleq.deploy.targets.c.guard_call import CGuard
from nimbleq.deploy.targets.c.isa import isas_of_this_machine
from nimbleq.deploy.targets.c.learn import LearnOptions, emit_learn
from nimbleq.deploy.targets.c.loop import emit_loop
from nimbleq.deploy.targets.c.raw import emit_raw
from nimbleq.deploy.targets.c.raw_call import RawPolicy
from nimbleq.deploy.targets.c.selftest import selftest
from nimbleq.deploy.toolchain import FAST, CompileError, NoCompilerError, cached_library, compile_library, find_compiler
from nimbleq.errors import ConfigError
from nimbleq.graph.artefact import network_interface
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import Guard
from nimbleq.graph.interface import Interface
from nimbleq.types import Array

EXAMPLE = "example"
SCALAR = ("-O1", "-DNQ_SCALAR")


@dataclass(frozen=True)
class COptions:
    """How C is written.

    Attributes:
        constant_time: the same instructions for every observation in vector code: inputs of a layer that are zero are
            not passed over. In plain C the compiler may make branches of clamps.
        loop: write NAME_loop.c, too: sense, decide and act at a fixed rate on POSIX; the artefact needs a guard.
        learn: write NAME_learn.c, too: the policy goes on learning where it runs.
        learning: how.
    """

    constant_time: bool = False
    loop: bool = False
    learn: bool = False
    learning: LearnOptions = field(default_factory=LearnOptions)


def _emit(source: Source, name: str, options: COptions) -> Files:
    if name.lower() == EXAMPLE:
        raise ConfigError(f"{EXAMPLE!r} is the name of the program that shows how to use the policy: choose another")
    skips = not options.constant_time
    texts = emit_c(
        source.graph, name, source.origin, source.q_meaning, source.interface, digest=source.digest, skips=skips
    ) | selftest(source, name, raw=True)
    texts |= emit_raw(source.graph, name, source.interface)
    texts |= emit_guard(source.graph, name, source.guard, source.interface, source.origin, source.digest)
    if options.loop:
        if source.guard is None:
            raise ConfigError("a loop replaces late decisions, so it needs a guard: attach one with nimbleq guard")
        texts |= emit_loop(source.graph, name)
    if options.learn:
        texts |= emit_learn(source.graph, name, options.learning)
    texts[f"{EXAMPLE}.c"] = example(source.graph, name, source.interface)
    return {file: text.encode() for file, text in texts.items()}


def _open(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, Run]:
    """Compiled as plain scalar code and as fast as possible, with every compiler found.

    Raises:
        NoCompilerError: there is none that works.
        CompileError: one refuses the code.
    """
    texts = {file: files[file].decode() for file in (f"{name}.c", f"{name}.h")}
    runs: dict[str, Run] = {}
    for index, (compiler, flags) in enumerate(_builds()):
        library = compile_library(texts, folder / f"{index}.so", compiler, flags)
        opened = open_library(library, name, source.graph, network_interface(source.graph))
        runs[f"c ({Path(compiler).name} {' '.join(flags)})"] = opened.run
    return runs


def _builds() -> list[tuple[str, tuple[str, ...]]]:
    """Compilers and their flags.

    Raises:
        NoCompilerError: there is none that works.
    """
    fast = find_compiler()
    if fast is None:
        raise NoCompilerError("verifying C needs a C compiler: install gcc or clang, or pip install 'nimbleq[cross]'")
    other = find_compiler(("clang",))
    return [(fast, SCALAR), (fast, FAST), *([(other, FAST)] if other is not None and other != fast else [])]


def _open_guard(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, GuardRun]:
    """Compiled like the policy."""
    texts = {file: files[file].decode() for file in (f"{name}.c", f"{name}.h", *guard_files(files, name))}
    if any('_raw.h"' in text for text in texts.values()):
        texts |= {file: files[file].decode() for file in (f"{name}_raw.c", f"{name}_raw.h")}
    runs: dict[str, GuardRun] = {}
    for index, (compiler, flags) in enumerate(_builds()):
        library = compile_library(texts, folder / f"guard{index}.so", compiler, flags)
        runs[f"c guard ({Path(compiler).name} {' '.join(flags)})"] = CGuard(library, name, source.graph).run
    return runs


def _open_raw(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, RawRun]:
    """The environment's side, compiled as fast as possible; nothing where there is none."""
    interface, compiler = source.interface, find_compiler()
    if interface is None or source.graph.units or f"{name}_raw.c" not in files or compiler is None:
        return {}
    texts = {f"{name}{end}": files[f"{name}{end}"].decode() for end in (".c", ".h", "_raw.c", "_raw.h")}
    policy = RawPolicy(compile_library(texts, folder / "raw.so", compiler, FAST), name, source.graph, interface)
    return {f"c raw ({Path(compiler).name} {' '.join(FAST)})": policy.run}


def _load(graph: Graph, interface: Interface, fallback: int) -> tuple[Decider, str]:
    compiler = find_compiler()
    if compiler is None:
        raise CompileError("no C compiler found (cc, gcc, clang, or pip install 'nimbleq[cross]')")
    declared = interface if interface.obs.bits else None
    library = cached_library(emit_c(graph, "policy", isas=isas_of_this_machine(), interface=declared), compiler)
    return open_library(library, "policy", graph, interface, fallback), f"compiled with {compiler}"


def _guard(graph: Graph, guard: Guard) -> Callable[[], CGuard]:
    compiler = find_compiler()
    if compiler is None:
        raise CompileError("no C compiler found (cc, gcc, clang, or pip install 'nimbleq[cross]')")
    library = cached_library(emit_c(graph, "policy") | emit_guard(graph, "policy", guard), compiler)
    return lambda: CGuard(library, "policy", graph)


def _timers(decider: Decider, obs: Array, mask: Array | None) -> Mapping[str, Timer]:
    """Inside C, call by call, where the extension is there that does so."""
    if not isinstance(decider, TimedDecider):
        return {}
    return {"nimbleq-c": lambda calls: decider.time_act(obs, calls, mask), "empty-c": decider.time_empty}


COMPILED = Engine("c", _load, _timers, fast=True, guard=_guard, remembers=True)
C = Target(
    name="c",
    purpose="one C99 file and its header",
    emit=_emit,
    options=COptions,
    open=_open,
    raw=_open_raw,
    exact=True,
    engine=COMPILED,
    guard=_open_guard,
    remembers=True,
)
