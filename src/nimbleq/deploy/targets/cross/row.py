"""A processor as a row of the table of targets."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from nimbleq.deploy.periods import Periods
from nimbleq.deploy.target import Files, Footprint, GuardRun, NoOptions, RawRun, Run, Source, Target
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.guard import emit_guard, guard_bytes, guard_files
from nimbleq.deploy.targets.c.plan import plan
from nimbleq.deploy.targets.c.raw import emit_raw
from nimbleq.deploy.targets.c.raw_harness import raw_answer, raw_bytes, raw_harness, taken
from nimbleq.deploy.targets.c.selftest import selftest
from nimbleq.deploy.targets.cross.cmake import cmake
from nimbleq.deploy.targets.cross.compiler import WARNINGS, build, sizes
from nimbleq.deploy.targets.cross.emulator import qemu_counter
from nimbleq.deploy.targets.cross.processor import Processor, optimized, program
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Q
from nimbleq.graph.guard import Guard
from nimbleq.graph.interface import Interface
from nimbleq.types import Array

Answers = tuple[Array, int | None]
MAIN, PROGRAM = "selftest.c", "selftest.elf"
REPEATS, CYCLE_REPEATS = 100, 3
"""Decisions per observation when instructions of the whole program are counted, and when the board has a clock."""
SPARE_BYTES = 1_024
"""Of RAM, for the stack and the program around a policy."""
OBSERVATIONS = 8
"""Observations over which the instructions of a decision are averaged."""


def row(processor: Processor) -> Target:
    """The target of ``processor``: its files lie in a folder of its name."""

    def emit(source: Source, name: str, _: NoOptions) -> Files:
        _check_double(processor, source.graph)
        _check_memory(processor, source.graph, source.guard)
        return {f"{processor.name}/{file}": data for file, data in _files(processor, source, name).items()}

    def opened(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, Run]:
        start = f"{processor.name}/"
        own = {file.removeprefix(start): data for file, data in files.items() if file.startswith(start)}
        runs = {label(processor): run(processor, source.graph, own, name, folder)}
        if f"{name}_dot_".encode() not in own[f"{name}.c"]:
            return runs
        texts = {file: data for file, data in own.items() if file != f"{name}.o"}
        for flags in processor.compiler.more:
            other = replace(processor, flags=(*processor.flags, *flags))
            place = folder / "-".join(flags)
            place.mkdir()
            runs[label(other)] = run(other, source.graph, texts, name, place)
        return runs

    def raw(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, RawRun]:
        start, interface = f"{processor.name}/", source.interface
        own = {file.removeprefix(start): data for file, data in files.items() if file.startswith(start)}
        if interface is None or f"{name}_raw.c" not in own or not holds(processor, interface):
            return {}
        place = folder / "raw"
        place.mkdir()
        return {f"{label(processor)} raw": run_raw(processor, source.graph, interface, own, name, place)}

    def guarded(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, GuardRun]:
        start = f"{processor.name}/"
        own = {file.removeprefix(start): data for file, data in files.items() if file.startswith(start)}
        place = folder / "guard"
        place.mkdir()
        return {f"{label(processor)} guard": run_guard(processor, source.graph, own, name, place)}

    def footprint(graph: Graph, guard: Guard | None, obs: Array, folder: Path) -> Footprint:
        return _footprint(processor, graph, guard, obs, folder)

    return Target(
        name=processor.name,
        purpose=processor.purpose,
        emit=emit,
        open=opened,
        raw=None if processor.emulator is None else raw,
        exact=True,
        cannot_open=processor.lacks,
        timed=False,
        most=processor.most,
        footprint=None if processor.emulator is None else footprint,
        guard=guarded,
    )


def _check_double(processor: Processor, graph: Graph) -> None:
    """Raise `UnsupportedOpError` for float splits, whose sums are of doubles, where there are none."""
    trees = [node.op for node in graph.nodes if isinstance(node.op, ops.ObliqueTree)]
    if not processor.wide and any(graph.weights[op.split].dtype == np.float32 for op in trees):
        hint = "its C has no double of 64 bits: export the integer form (int8)"
        raise UnsupportedOpError("ObliqueTree with float splits", processor.name, hint)


def _networks(graph: Graph, guard: Guard | None) -> list[Graph]:
    """The policy, and what its guard holds beside it."""
    more = () if guard is None else (guard.larger, guard.backup)
    return [graph, *(one for one in more if one is not None)]


def ram_bytes(processor: Processor, graph: Graph, guard: Guard | None = None) -> int:
    """What the policy takes of memory, with an observation, the action values and `SPARE_BYTES` for its program."""
    total = SPARE_BYTES if guard is None else guard_bytes(graph, guard) + SPARE_BYTES
    total += sum(each.nbytes for each in graph.inputs.values()) + 4 * graph.types[Q].size
    for network in _networks(graph, guard):
        made = plan(network, processor.isa)
        total += made.arena_bytes
        total += sum(each.values.nbytes for each in made.constants if each.near or not processor.near_bytes)
    return total


def _check_memory(processor: Processor, graph: Graph, guard: Guard | None) -> None:
    """Raise `UnsupportedOpError` for a policy that does not fit where the linker would not notice."""
    if processor.ram_bytes is not None and (needed := ram_bytes(processor, graph, guard)) > processor.ram_bytes:
        hint = f"it has {processor.ram_bytes:,}: make the policy smaller or use another target"
        raise UnsupportedOpError(f"of a policy that takes {needed:,} bytes of RAM", processor.name, hint)
    if not processor.near_bytes:
        return
    held = sum(plan(network, processor.isa).constant_bytes for network in _networks(graph, guard))
    if held > processor.near_bytes:
        hint = f"its pointers reach {processor.near_bytes:,}: make the policy smaller or use another target"
        raise UnsupportedOpError(f"of a policy with {held:,} bytes of constants", processor.name, hint)


def fits(processor: Processor, graph: Graph, guard: Guard | None = None) -> bool:
    """Whether the processor can hold a policy and compute what it computes."""
    try:
        _check_double(processor, graph)
        _check_memory(processor, graph, guard)
    except UnsupportedOpError:
        return False
    return True


def holds(processor: Processor, interface: Interface) -> bool:
    """Whether a program for it holds an observation: boards that cannot read have no place for screens."""
    return interface.frames is None or processor.board.baked is None


def label(processor: Processor) -> str:
    """What a run is called: compiler, flags and emulator."""
    assert processor.emulator is not None
    flags = " ".join((optimized(processor.flags), *(flag for flag in processor.flags if flag.startswith("-march"))))
    return f"{processor.name} ({processor.compiler.name} {flags}, {processor.emulator.name})"


def _texts(processor: Processor, source: Source, name: str, raw: bool = False) -> dict[str, bytes]:
    """The policy in C, and its guard; ``raw``: the environment's side is there."""
    isas = (processor.isa,)
    texts = emit_c(source.graph, name, source.origin, source.q_meaning, source.interface, isas, source.digest)
    interface = source.interface if raw else None
    texts |= emit_guard(source.graph, name, source.guard, interface, source.origin, source.digest, isas)
    return {file: text.encode() for file, text in texts.items()}


def _files(processor: Processor, source: Source, name: str) -> dict[str, bytes]:
    """The policy; for an artefact its self-test, and where a compiler is here both compiled."""
    raw = _raw(processor, source, name)
    files = _texts(processor, source, name, bool(raw)) | raw
    tests = selftest(source, name, raw=bool(raw))
    if not tests:
        return files
    files |= {file: text.encode() for file, text in tests.items()}
    if processor.emulator is not None:
        sources = [file for file in (f"{name}.c", f"{name}_raw.c", *guard_files(files, name)) if file in files]
        sources = [file for file in sources if file.endswith(".c")]
        files |= {MAIN: program(MAIN, source.graph, name), "CMakeLists.txt": cmake(processor, name, sources).encode()}
        files |= processor.board.files()
    if processor.lacks_compiler() is None:
        with tempfile.TemporaryDirectory(prefix="nimbleq-cross-") as folder:
            files |= _object(processor, files, name, Path(folder))
            files |= _linked(processor, files, name, Path(folder))
    return files


def _raw(processor: Processor, source: Source, name: str) -> dict[str, bytes]:
    """The environment's side, where there is one and the processor has the numbers that it computes with."""
    texts = emit_raw(source.graph, name, source.interface)
    if not processor.wide and any("double" in text for text in texts.values()):
        return {}
    return {file: text.encode() for file, text in texts.items()}


def _linked(processor: Processor, files: Files, name: str, folder: Path) -> dict[str, bytes]:
    """The self-test as a program, which fits only if the policy fits the board."""
    if processor.emulator is None:
        return {}
    names = [f"{name}.o", f"{name}.h", f"{name}_selftest.c", f"{name}_selftest.h", MAIN, *processor.board.files()]
    names += [file for file in (f"{name}_raw.c", f"{name}_raw.h", *guard_files(files, name)) if file in files]
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
        files: what it is linked from; where the board cannot read, the input is compiled in.
        folder: where it is built and run.
    """

    processor: Processor
    files: Files
    folder: Path

    @classmethod
    def of(
        cls, processor: Processor, graph: Graph, files: Files, name: str, folder: Path, macros: Sequence[str] = ()
    ) -> Self:
        """Of the exported ``files``; the program is compiled with ``macros``."""
        parts = _object(processor, files, name, folder)
        parts |= {f"{name}.h": files[f"{name}.h"], "harness.c": program("harness.c", graph, name, *macros)}
        parts |= {file: files[file] for file in guard_files(files, name) if macros}
        return cls.linked(processor, parts, folder)

    @classmethod
    def linked(cls, processor: Processor, files: Files, folder: Path) -> Self:
        """Of ``files`` and the board's."""
        made = cls(processor, {**files, **processor.board.files()}, folder)
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
        whole = rows(obs, mask)
        size = len(whole) // len(obs)
        given = [whole[start : start + size] for start in range(0, len(whole), size)]
        return self.answers(given, answer, np.array(repeat, "<u4").tobytes(), qemu_counter() if any(repeat) else None)

    def answers(
        self, given: Sequence[bytes], answer: np.dtype[Any], head: bytes = b"", counter: Path | None = None
    ) -> Answers:
        """Records that the program writes, one for each of ``given``, and the instructions where ``counter`` counts.

        Args:
            head: what it reads before.
        """
        emulator, board, parts, instructions = self.processor.emulator, self.processor.board, [], None
        assert emulator is not None
        count = len(given) if board.baked is None else max((board.baked - len(head)) // len(given[0]), 1)
        for start in range(0, len(given), count):
            part = given[start : start + count]
            read, made = head + b"".join(part), self.folder / "harness"
            if board.baked is not None:
                text = ",".join(map(str, read)).encode()
                made = self._link({"input.txt": text}, '-DBOARD_INPUT="input.txt"')
            ran = emulator.run(made, read, self.folder, counter)
            found = np.frombuffer(ran.output[: len(part) * answer.itemsize], answer)
            assert len(found) == len(part), f"{self.processor.name} answered {len(found)} of {len(part)}"
            parts.append(found)
            instructions = ran.instructions
        return np.concatenate(parts), instructions


def run(processor: Processor, graph: Graph, files: Files, name: str, folder: Path) -> Run:
    """The policy of ``files``, linked from their object file or else compiled."""
    harness = _Harness.of(processor, graph, files, name, folder)
    answer = np.dtype([("action", "<i4"), ("q", "<f4", (graph.actions,))])

    def answers(obs: Array, mask: Array | None) -> tuple[Array, Array]:
        found, _ = harness.run(obs, mask, answer)
        return found["action"], found["q"]

    return answers


def run_raw(processor: Processor, graph: Graph, interface: Interface, files: Files, name: str, folder: Path) -> RawRun:
    """The environment's side of ``files``."""
    parts = _object(processor, files, name, folder)
    parts |= {file: files[file] for file in (f"{name}.h", f"{name}_raw.c", f"{name}_raw.h")}
    parts["harness.c"] = raw_harness(graph, interface, name).encode()
    harness, answer = _Harness.linked(processor, parts, folder), raw_answer(interface)

    def answers(raws: Sequence[Any], mask: Array | None) -> tuple[Array, Array, Array]:
        found, _ = harness.answers(raw_bytes(interface, raws, mask), answer)
        return found["index"], found["obs"], taken(interface, found)

    return answers


def run_guard(processor: Processor, graph: Graph, files: Files, name: str, folder: Path) -> GuardRun:
    """The guard of ``files``."""
    parts = _object(processor, files, name, folder) | {f"{name}.h": files[f"{name}.h"]}
    parts |= {file: files[file] for file in guard_files(files, name)}
    parts |= {file: files[file] for file in (f"{name}_raw.c", f"{name}_raw.h") if file in files}
    parts["guard.c"] = program("guard.c", graph, name)
    harness = _Harness.linked(processor, parts, folder)
    answer = np.dtype([("standby", "<i4"), ("action", "<i4"), ("faults", "<i4")])

    def answers(periods: Periods) -> tuple[Array, Array, Array]:
        whole = rows(periods.obs, periods.mask)
        size = len(whole) // len(periods.obs)
        flags = (periods.begins + 2 * periods.came + 4 * periods.masked).astype(np.uint8)
        given = [bytes([flag]) + whole[at * size : (at + 1) * size] for at, flag in enumerate(flags.tolist())]
        found, _ = harness.answers(given, answer)
        return found["standby"], found["action"], found["faults"]

    return answers


def rows(obs: Array, mask: Array | None) -> bytes:
    """Each observation of ``obs[N, *O]`` and its row of ``mask[N, A]``, one after the other."""
    flat = np.ascontiguousarray(obs, np.uint8 if obs.dtype == np.uint8 else np.float32).reshape(len(obs), -1)
    parts = [flat.view(np.uint8), *([] if mask is None else [np.asarray(mask, np.uint8)])]
    return np.hstack(parts).tobytes()


def _footprint(processor: Processor, graph: Graph, guard: Guard | None, obs: Array, folder: Path) -> Footprint:
    name, compiler = "policy", processor.compiler
    files = _texts(processor, Source(graph, digest="0" * 64, guard=guard), name)  # the mark counts too
    files |= _object(processor, files, name, folder)
    entry, parts = _entry(graph, name), {f"{name}.o": files[f"{name}.o"]}
    if guard is not None:
        parts |= {file: files[file] for file in (f"{name}.h", *guard_files(files, name))}
        entry, parts["step.c"] = "board_step", program("step.c", graph, name)
    alone = ("-std=c99", "-nostartfiles", "-static", "-Wl,--gc-sections", f"-Wl,-e,{entry}", *processor.flags)
    whole = build(compiler, parts, "alone", alone, folder)
    text, data, bss = sizes(compiler, whole)
    stack, instructions = None, None
    if processor.lacks() is None:
        stack, instructions = _measured(processor, graph, guard, files, name, obs, folder)
    part = processor.consumption
    energy = None if instructions is None or part is None else instructions * part.nj_per_cycle
    counted = "" if processor.unit == "cycles" else ", one cycle an instruction"
    return Footprint(
        processor.name, text, data, data + bss, stack, instructions, processor.unit,
        f"{compiler.name} {optimized(processor.flags)}", energy, "" if part is None else f"{part}{counted}",
    )  # fmt: skip


def _entry(graph: Graph, name: str) -> str:
    return f"{name}_act_masked" if graph.masked else f"{name}_act"


def _measured(
    processor: Processor, graph: Graph, guard: Guard | None, files: Files, name: str, obs: Array, folder: Path
) -> tuple[int, int | None]:
    """Stack bytes, and instructions or cycles, of one decision; with a guard, one that it looks through and lets be."""
    few, macros = obs[:OBSERVATIONS], ["NQ_GUARDED"] if guard is not None else []
    if guard is not None and guard.envelope is not None:
        flat = np.clip(few.reshape(len(few), -1), guard.envelope.low, guard.envelope.high)
        few, macros = flat.reshape(few.shape), [*macros, "NQ_ENVELOPE"]
    harness = _Harness.of(processor, graph, files, name, folder, macros)
    mask = np.ones((len(few), graph.actions), np.uint8) if graph.masked else None
    answer = np.dtype([("action", "<i4"), ("q", "<f4", (graph.actions,)), ("stack", "<u4"), ("cycles", "<i4")])
    repeats = CYCLE_REPEATS if processor.unit == "cycles" else REPEATS
    (empty, before), (found, after) = (
        harness.run(few, mask, answer, repeat) for repeat in ((repeats, 0), (0, repeats))
    )
    stack = int(found["stack"].max())
    if before is not None and after is not None:
        return stack, round((after - before) / (repeats * len(few)))
    cycles = found["cycles"] + empty["cycles"]  # the second is minus the empty calls
    return stack, round(float(cycles.mean()) / repeats) if cycles.any() else None
