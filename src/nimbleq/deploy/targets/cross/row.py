"""A processor as a row of the table of targets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nimbleq.deploy.target import Files, Footprint, NoOptions, Run, Source, Target
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import PORTABLE
from nimbleq.deploy.targets.cross.compiler import WARNINGS, build, sizes
from nimbleq.deploy.targets.cross.emulator import qemu_counter
from nimbleq.deploy.targets.cross.processor import Processor, optimized, program
from nimbleq.graph.graph import Graph
from nimbleq.types import Array

REPEATS = 100
"""Decisions per observation when instructions are counted."""
OBSERVATIONS = 8
"""Observations over which the instructions of a decision are averaged."""


def row(processor: Processor) -> Target:
    """The target of ``processor``: its files lie in a folder of its name."""

    def emit(source: Source, name: str, _: NoOptions) -> Files:
        return {f"{processor.name}/{file}": data for file, data in _files(processor, source, name).items()}

    def opened(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, Run]:
        start = f"{processor.name}/"
        own = {file.removeprefix(start): data for file, data in files.items() if file.startswith(start)}
        return {_label(processor): _run(processor, source.graph, own, name, folder)}

    def footprint(graph: Graph, obs: Array, folder: Path) -> Footprint:
        return _footprint(processor, graph, obs, folder)

    return Target(
        name=processor.name,
        purpose=processor.purpose,
        emit=emit,
        open=opened,
        exact=True,
        cannot_open=processor.lacks,
        most=processor.most,
        footprint=footprint,
    )


def _label(processor: Processor) -> str:
    assert processor.emulator is not None
    return f"{processor.name} ({processor.compiler.name} {optimized(processor.flags)}, {processor.emulator.name})"


def _texts(source: Source, name: str) -> dict[str, bytes]:
    texts = emit_c(source.graph, name, source.origin, source.q_meaning, source.interface, isas=(PORTABLE,))
    return {file: text.encode() for file, text in texts.items()}


def _files(processor: Processor, source: Source, name: str) -> dict[str, bytes]:
    return _texts(source, name)


def _object(processor: Processor, files: Files, name: str, folder: Path) -> dict[str, bytes]:
    """The policy's object file: the exported one, else compiled from the exported source."""
    file = f"{name}.o"
    if file in files:
        return {file: files[file]}
    sources = {file: files[file] for file in (f"{name}.c", f"{name}.h")}
    flags = ("-std=c99", *WARNINGS, *processor.flags, "-c")
    return {file: build(processor.compiler, sources, file, flags, folder).read_bytes()}


def _harness(processor: Processor, graph: Graph, files: Files, name: str, folder: Path) -> Path:
    """The program that answers observations."""
    board = processor.board
    parts = _object(processor, files, name, folder)
    parts |= {f"{name}.h": files[f"{name}.h"], "harness.c": program("harness.c", graph, name), **board.files()}
    return build(processor.compiler, parts, "harness", ("-std=c99", *processor.flags, *board.flags), folder)


def _run(processor: Processor, graph: Graph, files: Files, name: str, folder: Path) -> Run:
    harness, emulator = _harness(processor, graph, files, name, folder), processor.emulator
    assert emulator is not None
    answer = np.dtype([("action", "<i4"), ("q", "<f4", (graph.actions,))])

    def run(obs: Array, mask: Array | None) -> tuple[Array, Array]:
        output = emulator.run(harness, _input(obs, mask, 0, 0), folder, None).output
        found = np.frombuffer(output[: len(obs) * answer.itemsize], answer)
        assert len(found) == len(obs), f"{processor.name} answered {len(found)} of {len(obs)} observations"
        return found["action"], found["q"]

    return run


def _input(obs: Array, mask: Array | None, empties: int, decisions: int) -> bytes:
    """What the harness reads: two counts, then each observation and its mask."""
    rows = np.ascontiguousarray(obs, np.uint8 if obs.dtype == np.uint8 else np.float32).reshape(len(obs), -1)
    parts = [rows.view(np.uint8)]
    if mask is not None:
        parts.append(np.asarray(mask, np.uint8))
    return np.array([empties, decisions], "<u4").tobytes() + np.hstack(parts).tobytes()


def _footprint(processor: Processor, graph: Graph, obs: Array, folder: Path) -> Footprint:
    name, compiler = "policy", processor.compiler
    files = _texts(Source(graph), name)
    alone = ("-nostartfiles", "-static", "-Wl,--gc-sections", f"-Wl,-e,{_entry(graph, name)}", *processor.flags)
    files |= _object(processor, files, name, folder)
    whole = build(compiler, {f"{name}.o": files[f"{name}.o"]}, "alone", alone, folder)
    text, data, bss = sizes(compiler, whole)
    stack, instructions = None, None
    if processor.lacks() is None:
        stack, instructions = _measured(processor, graph, files, name, obs, folder)
    return Footprint(
        processor.name, text, data, data + bss, stack, instructions, processor.unit,
        f"{compiler.name} {optimized(processor.flags)}",
    )  # fmt: skip


def _entry(graph: Graph, name: str) -> str:
    return f"{name}_act_masked" if graph.masked else f"{name}_act"


def _measured(
    processor: Processor, graph: Graph, files: Files, name: str, obs: Array, folder: Path
) -> tuple[int, int | None]:
    """Stack bytes, and instructions or cycles, of one decision."""
    harness, emulator = _harness(processor, graph, files, name, folder), processor.emulator
    assert emulator is not None
    few = obs[:OBSERVATIONS]
    mask = np.ones((len(few), graph.actions), np.uint8) if graph.masked else None
    counter = qemu_counter()
    ran = [
        emulator.run(harness, _input(few, mask, *counts), folder, counter) for counts in ((REPEATS, 0), (0, REPEATS))
    ]
    measured = np.dtype([("action", "<i4"), ("q", "<f4", (graph.actions,)), ("stack", "<u4"), ("cycles", "<i4")])
    found = [np.frombuffer(one.output, measured) for one in ran]
    stack = int(found[0]["stack"].max())
    if ran[0].instructions is not None and ran[1].instructions is not None:
        return stack, round((ran[1].instructions - ran[0].instructions) / (REPEATS * len(few)))
    cycles = found[1]["cycles"] + found[0]["cycles"]  # the second is minus the empty calls
    return stack, round(float(cycles.mean()) / REPEATS) if cycles.any() else None
