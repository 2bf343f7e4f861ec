"""A processor as a row of the table of targets."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from nimbleq.deploy.target import Files, Footprint, NoOptions, Run, Source, Target
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import portable
from nimbleq.deploy.targets.c.selftest import selftest
from nimbleq.deploy.targets.cross.cmake import cmake
from nimbleq.deploy.targets.cross.compiler import WARNINGS, build, sizes
from nimbleq.deploy.targets.cross.emulator import qemu_counter
from nimbleq.deploy.targets.cross.processor import Processor, optimized, program
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.types import Array

Answers = tuple[Array, int | None]
MAIN, PROGRAM = "selftest.c", "selftest.elf"
REPEATS = 100
"""Decisions per observation when instructions are counted."""
OBSERVATIONS = 8
"""Observations over which the instructions of a decision are averaged."""


def row(processor: Processor) -> Target:
    """The target of ``processor``: its files lie in a folder of its name."""

    def emit(source: Source, name: str, _: NoOptions) -> Files:
        _check_double(processor, source.graph)
        return {f"{processor.name}/{file}": data for file, data in _files(processor, source, name).items()}

    def opened(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, Run]:
        start = f"{processor.name}/"
        own = {file.removeprefix(start): data for file, data in files.items() if file.startswith(start)}
        runs = {_label(processor): _run(processor, source.graph, own, name, folder)}
        if f"{name}_dot_".encode() not in own[f"{name}.c"]:
            return runs
        texts = {file: data for file, data in own.items() if file != f"{name}.o"}
        for flags in processor.more:
            other = replace(processor, flags=(*processor.flags, *flags))
            place = folder / "-".join(flags)
            place.mkdir()
            runs[_label(other)] = _run(other, source.graph, texts, name, place)
        return runs

    def footprint(graph: Graph, obs: Array, folder: Path) -> Footprint:
        return _footprint(processor, graph, obs, folder)

    return Target(
        name=processor.name,
        purpose=processor.purpose,
        emit=emit,
        open=opened,
        exact=True,
        cannot_open=processor.lacks,
        timed=False,
        most=processor.most,
        footprint=None if processor.emulator is None else footprint,
    )


def _check_double(processor: Processor, graph: Graph) -> None:
    """Raise `UnsupportedOpError` for float splits, whose sums are of doubles, where there are none."""
    trees = [node.op for node in graph.nodes if isinstance(node.op, ops.ObliqueTree)]
    if not processor.wide and any(graph.weights[op.split].dtype == np.float32 for op in trees):
        hint = "its C has no double of 64 bits: export the integer form (int8)"
        raise UnsupportedOpError("ObliqueTree with float splits", processor.name, hint)


def _label(processor: Processor) -> str:
    assert processor.emulator is not None
    flags = " ".join((optimized(processor.flags), *(flag for flag in processor.flags if flag.startswith("-march"))))
    return f"{processor.name} ({processor.compiler.name} {flags}, {processor.emulator.name})"


def _texts(processor: Processor, source: Source, name: str) -> dict[str, bytes]:
    """The policy in C."""
    isas = (portable(*processor.dots),)
    texts = emit_c(source.graph, name, source.origin, source.q_meaning, source.interface, isas, source.digest)
    return {file: text.encode() for file, text in texts.items()}


def _files(processor: Processor, source: Source, name: str) -> dict[str, bytes]:
    """The policy; for an artefact its self-test, and where a compiler is here both compiled."""
    files = _texts(processor, source, name)
    tests = selftest(source, name)
    if not tests:
        return files
    files |= {file: text.encode() for file, text in tests.items()}
    if processor.emulator is not None:
        files |= {MAIN: program(MAIN, source.graph, name), "CMakeLists.txt": cmake(processor, name).encode()}
        files |= processor.board.files()
    if processor.lacks_compiler() is None:
        with tempfile.TemporaryDirectory(prefix="nimbleq-cross-") as folder:
            files |= _object(processor, files, name, Path(folder))
            files |= _linked(processor, files, name, Path(folder))
    return files


def _linked(processor: Processor, files: Files, name: str, folder: Path) -> dict[str, bytes]:
    """The self-test as a program, which fits only if the policy fits the board."""
    if processor.emulator is None:
        return {}
    names = (f"{name}.o", f"{name}.h", f"{name}_selftest.c", f"{name}_selftest.h", MAIN, *processor.board.files())
    flags = ("-std=c99", *processor.flags, *processor.board.flags)
    return {
        PROGRAM: build(processor.compiler, {file: files[file] for file in names}, PROGRAM, flags, folder).read_bytes()
    }


def _object(processor: Processor, files: Files, name: str, folder: Path) -> dict[str, bytes]:
    """The policy's object file: the exported one, else compiled from the exported source."""
    file = f"{name}.o"
    if file in files:
        return {file: files[file]}
    sources = {file: files[file] for file in (f"{name}.c", f"{name}.h")}
    flags = ("-std=c99", *WARNINGS, *processor.flags, "-c")
    return {file: build(processor.compiler, sources, file, flags, folder).read_bytes()}


@dataclass(frozen=True)
class _Harness:
    """The program that answers observations.

    Attributes:
        processor: that it is for.
        graph: the policy.
        files: what it is linked from; where the board cannot read, the input is compiled in.
        folder: where it is built and run.
    """

    processor: Processor
    graph: Graph
    files: Files
    folder: Path

    @classmethod
    def of(cls, processor: Processor, graph: Graph, files: Files, name: str, folder: Path) -> Self:
        """Of the exported ``files``."""
        parts = _object(processor, files, name, folder)
        parts |= {f"{name}.h": files[f"{name}.h"], "harness.c": program("harness.c", graph, name)}
        made = cls(processor, graph, parts | processor.board.files(), folder)
        if processor.board.baked is None:
            made._link({})
        return made

    def _link(self, more: Files, *flags: str) -> Path:
        processor = self.processor
        flags = ("-std=c99", *processor.flags, *processor.board.flags, *flags)
        return build(processor.compiler, {**self.files, **more}, "harness", flags, self.folder)

    def run(self, obs: Array, mask: Array | None, answer: np.dtype[Any], repeat: tuple[int, int] = (0, 0)) -> Answers:
        """Answers to ``obs[N, *O]``, as records, and the instructions of the whole where they are counted.

        Args:
            repeat: empty calls and decisions more of each observation.
        """
        emulator = self.processor.emulator
        assert emulator is not None
        counter = qemu_counter() if any(repeat) else None
        parts, instructions = [], None
        for part in self._parts(obs, mask):
            given = _input(obs[part], None if mask is None else mask[part], *repeat)
            made = self.folder / "harness"
            if self.processor.board.baked is not None:
                text = ",".join(map(str, given)).encode()
                made = self._link({"input.txt": text}, '-DBOARD_INPUT="input.txt"')
            ran = emulator.run(made, given, self.folder, counter)
            found = np.frombuffer(ran.output[: len(obs[part]) * answer.itemsize], answer)
            assert len(found) == len(obs[part]), f"{self.processor.name} answered {len(found)} of {len(obs[part])}"
            parts.append(found)
            instructions = ran.instructions
        return np.concatenate(parts), instructions

    def _parts(self, obs: Array, mask: Array | None) -> list[slice]:
        """The observations that fit into one program each."""
        room = self.processor.board.baked
        if room is None:
            return [slice(0, len(obs))]
        count = max((room - 8) // (obs[0].nbytes + (0 if mask is None else mask.shape[1])), 1)
        return [slice(start, start + count) for start in range(0, len(obs), count)]


def _run(processor: Processor, graph: Graph, files: Files, name: str, folder: Path) -> Run:
    harness = _Harness.of(processor, graph, files, name, folder)
    answer = np.dtype([("action", "<i4"), ("q", "<f4", (graph.actions,))])

    def run(obs: Array, mask: Array | None) -> tuple[Array, Array]:
        found, _ = harness.run(obs, mask, answer)
        return found["action"], found["q"]

    return run


def _input(obs: Array, mask: Array | None, empties: int, decisions: int) -> bytes:
    """What the harness reads."""
    return np.array([empties, decisions], "<u4").tobytes() + rows(obs, mask)


def rows(obs: Array, mask: Array | None) -> bytes:
    """Each observation of ``obs[N, *O]`` and its row of ``mask[N, A]``, one after the other."""
    flat = np.ascontiguousarray(obs, np.uint8 if obs.dtype == np.uint8 else np.float32).reshape(len(obs), -1)
    parts = [flat.view(np.uint8), *([] if mask is None else [np.asarray(mask, np.uint8)])]
    return np.hstack(parts).tobytes()


def _footprint(processor: Processor, graph: Graph, obs: Array, folder: Path) -> Footprint:
    name, compiler = "policy", processor.compiler
    files = _texts(processor, Source(graph, digest="0" * 64), name)  # the mark counts too
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
    harness, few = _Harness.of(processor, graph, files, name, folder), obs[:OBSERVATIONS]
    mask = np.ones((len(few), graph.actions), np.uint8) if graph.masked else None
    answer = np.dtype([("action", "<i4"), ("q", "<f4", (graph.actions,)), ("stack", "<u4"), ("cycles", "<i4")])
    (empty, before), (found, after) = (
        harness.run(few, mask, answer, repeat) for repeat in ((REPEATS, 0), (0, REPEATS))
    )
    stack = int(found["stack"].max())
    if before is not None and after is not None:
        return stack, round((after - before) / (REPEATS * len(few)))
    cycles = found["cycles"] + empty["cycles"]  # the second is minus the empty calls
    return stack, round(float(cycles.mean()) / REPEATS) if cycles.any() else None
