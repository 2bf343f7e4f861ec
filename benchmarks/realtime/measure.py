"""Measurements of emitted C: each compiles the policy into the loop of `harness.c` and runs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import ISAS, PORTABLE, Isa
from nimbleq.deploy.targets.cross.emulator import BOARD
from nimbleq.deploy.toolchain import find_compiler
from nimbleq.graph.graph import Graph
from nimbleq.types import Array

HERE = Path(__file__).parent
FAST, SCALAR = ("-O3", "-march=native"), ("-O2",)
_COMMON = ("-std=gnu99", "-Wall", "-Wextra", "-Werror")


class CannotMeasureError(Exception):
    """What is missing on this machine."""


@dataclass(frozen=True)
class Program:
    """A policy in the loop.

    Attributes:
        path: of the program.
        obs: ``[K, *O]`` that it goes round in.
    """

    path: Path
    obs: Array

    @classmethod
    def build(
        cls,
        graph: Graph,
        obs: Array,
        folder: Path,
        isas: Sequence[Isa] = ISAS,
        flags: Sequence[str] = FAST,
        skips: bool = True,
    ) -> Program:
        """Compile it in ``folder``, with a report of the stack that each function takes (``.su``).

        Args:
            skips: whether inputs that are zero are passed over.
        """
        for name, text in emit_c(graph, "policy", isas=tuple(isas), skips=skips).items():
            (folder / name).write_text(text)
        shutil.copy(HERE / "harness.c", folder)
        element = "uint8_t" if graph.obs_type.qtype.is_integer else "float"
        _compile([*flags, "-std=c99", "-fstack-usage", "-c", "policy.c", "-o", "policy.o"], folder)
        defined = [f"-DELEMENT={element}", f"-DCOUNT={len(obs)}"]
        # Exported, so that a preloaded library's function is found; static programs would be smaller, not different.
        _compile([*_COMMON, "-O2", *defined, "-rdynamic", "harness.c", "policy.o", "-o", "harness"], folder)
        dtype = np.uint8 if element == "uint8_t" else np.float32
        return cls(folder / "harness", np.ascontiguousarray(obs, dtype))

    def run(self, mode: str, decisions: int, before: Sequence[str] = (), **env: str) -> bytes:
        """Its standard output; ``before`` are words in front of the command."""
        command = [*before, str(self.path), mode, str(decisions)]
        done = subprocess.run(
            command, input=self.obs.tobytes(), capture_output=True, env={**os.environ, **env}, check=False
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise AssertionError(f"{mode} ended with {done.returncode} (−9, −31: it made a system call) {said}")
        return done.stdout


def _compile(words: Sequence[str], folder: Path) -> None:
    compiler = find_compiler()
    if compiler is None:
        raise CannotMeasureError("no C compiler")
    done = subprocess.run([compiler, *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stderr)


def preload(folder: Path) -> Path:
    """The library that counts allocations and locks."""
    library = folder / "audit.so"
    _compile([*_COMMON, "-O2", "-shared", "-fPIC", str(HERE / "audit.c"), "-o", str(library), "-ldl"], folder)
    return library


def allocations_and_locks(program: Program, decisions: int) -> tuple[int, int]:
    """During ``decisions``, in which any system call ends the program (seccomp, strict mode)."""
    library = preload(program.path.parent)
    words = program.run("audit", decisions, LD_PRELOAD=str(library)).split()
    return int(words[0]), int(words[1])


def instructions(program: Program) -> Array:
    """``int64[K]`` instructions of the decision for each observation, the loop around it included.

    Raises:
        CannotMeasureError: QEMU is not installed.
    """
    emulator = shutil.which(f"qemu-{os.uname().machine}")
    if emulator is None:
        raise CannotMeasureError(f"qemu-{os.uname().machine} is missing: apt install qemu-user")
    folder = program.path.parent
    flags = [*_COMMON, "-O2", "-shared", "-fPIC", f"-I{BOARD}"]
    _compile([*flags, str(HERE / "span.c"), "-o", str(folder / "span.so")], folder)
    log = folder / "span.txt"
    # "max": the processor with every instruction set that QEMU knows.
    words = [emulator, "-cpu", "max", "-plugin", str(folder / "span.so"), "-d", "plugin", "-D", str(log)]
    program.run("span", 0, words)
    return np.array(log.read_text().split(), np.int64)


@dataclass(frozen=True)
class Stack:
    """Bytes of stack and RAM.

    Attributes:
        claimed: ``POLICY_WORKSPACE_BYTES`` of the header.
        act: what the compiler reports of ``policy_act`` and, below it, of the functions that it may call.
        bounded: whether every function takes a fixed amount.
        static: variables outside of the stack.
    """

    claimed: int
    act: int
    bounded: bool
    static: int


def stack(program: Program) -> Stack:
    """By the compiler's own report (``-fstack-usage``) and its object file."""
    folder = program.path.parent
    found = re.search(r"POLICY_WORKSPACE_BYTES (\d+)", (folder / "policy.h").read_text())
    assert found is not None
    rows = [line.split("\t") for line in (folder / "policy.su").read_text().splitlines()]
    used = {row[0].split(":")[-1]: (int(row[1]), row[2]) for row in rows}
    entries = {name for name in used if name.startswith("policy_")}
    inner = sum(size for name, (size, _) in used.items() if name not in entries)  # at worst all below each other
    bounded = all(kind in ("static", "dynamic,bounded") for _, kind in used.values())
    sizes = subprocess.run(["size", "policy.o"], cwd=folder, capture_output=True, text=True, check=True).stdout
    _, data, bss = (int(word) for word in sizes.splitlines()[1].split()[:3])
    act = max(used[name][0] for name in ("policy_act", "policy_act_with") if name in used)
    return Stack(int(found[1]), act + inner, bounded, data + bss)


def times(program: Program, decisions: int) -> tuple[Array, Array]:
    """``float64[decisions]`` nanoseconds of decisions, and of empty loops of the same length between them."""
    both = np.frombuffer(program.run("time", decisions))
    return both[:decisions], both[decisions:]


def portable(graph: Graph, obs: Array, folder: Path) -> Program:
    """The C that runs on every processor."""
    return Program.build(graph, obs, folder, (PORTABLE,), SCALAR)
