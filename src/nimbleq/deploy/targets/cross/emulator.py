"""Emulators: how a program for another processor is run here, and how its instructions are counted."""

from __future__ import annotations

import atexit
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nimbleq.deploy.toolchain import CompileError, NoCompilerError, find_compiler, words

TIMEOUT_SECONDS = 1200
BOARD = Path(__file__).parent / "board"
"""What is compiled beside a policy, and QEMU's plugins."""


@dataclass(frozen=True)
class Ran:
    """What a program answered, and how many instructions it took where they were counted."""

    output: bytes
    instructions: int | None = None


@dataclass(frozen=True)
class Emulator:
    """Attributes:
    name: for people.
    program: on the ``PATH``.
    install: what to do where it is missing.
    run: ``(program, input, folder, counter) → Ran``; ``counter`` is QEMU's plugin that counts, or None.
    """

    name: str
    program: str
    install: str
    run: Callable[[Path, bytes, Path, Path | None], Ran]

    @property
    def here(self) -> bool:
        """Whether it is installed."""
        return shutil.which(self.program) is not None


def qemu_user(processor: str) -> Emulator:
    """Programs of Linux on another processor."""
    emulator = f"qemu-{processor}"

    def run(program: Path, given: bytes, folder: Path, counter: Path | None) -> Ran:
        command = [emulator, *_counting(counter, folder), str(program)]
        return Ran(_run(command, folder, given), _counted(counter, folder))

    return Emulator(emulator, emulator, "apt install qemu-user", run)


def qemu_arm(machine: str) -> Emulator:
    """A board with a Cortex-M, which reads and writes files by semihosting."""
    emulator = "qemu-system-arm"

    def run(program: Path, given: bytes, folder: Path, counter: Path | None) -> Ran:
        (folder / "in.bin").write_bytes(given)
        (folder / "out.bin").unlink(missing_ok=True)
        command = [emulator, "-M", machine, "-display", "none", "-monitor", "none", "-serial", "none"]
        command += ["-semihosting-config", "enable=on,target=native", *_counting(counter, folder)]
        said = _run([*command, "-kernel", str(program)], folder, b"")
        made = folder / "out.bin"
        return Ran(made.read_bytes() if made.exists() else said, _counted(counter, folder))

    return Emulator(f"{emulator} {machine}", emulator, "apt install qemu-system-arm", run)


def simavr(part: str, clock_hz: int) -> Emulator:
    """An AVR, whose program holds its input: see `Board.baked`."""

    def run(program: Path, given: bytes, folder: Path, counter: Path | None) -> Ran:
        said = _run(["simavr", "-m", part, "-f", str(clock_hz), str(program)], folder, b"", both=True)
        return Ran(bytes.fromhex("".join(re.findall(r"=([0-9a-f]+)", said.decode(errors="replace")))))

    return Emulator(f"simavr {part}", "simavr", "apt install simavr", run)


def _run(command: list[str], folder: Path, given: bytes, both: bool = False) -> bytes:
    """Standard output, with ``both`` and standard error after it, of a command that ends well.

    Raises:
        NoCompilerError: it cannot be run.
        CompileError: it fails.
    """
    try:
        done = subprocess.run(
            command, cwd=folder, input=given, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCompilerError(f"cannot run {command[0]}: {error}") from error
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())[-200:]
        raise CompileError(
            f"the program failed under {command[0]} (exit {done.returncode}): {said or 'without a word'}"
        )
    return done.stdout + (done.stderr if both else b"")


def _counting(counter: Path | None, folder: Path) -> list[str]:
    return [] if counter is None else ["-plugin", str(counter), "-d", "plugin", "-D", str(folder / "count.txt")]


def _counted(counter: Path | None, folder: Path) -> int | None:
    if counter is None:
        return None
    found = re.search(r"instructions (\d+)", (folder / "count.txt").read_text())
    return int(found[1]) if found else None


def qemu_counter() -> Path | None:
    """QEMU's plugin that counts instructions; None without a compiler for this machine."""
    compiler = find_compiler()
    return None if compiler is None else _counter_by(compiler)


@cache
def _counter_by(compiler: str) -> Path | None:
    """The plugin, compiled once a process and compiler; None where it does not compile."""
    folder = tempfile.mkdtemp(prefix="nimbleq-counter-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    out = Path(folder, "counter.so")
    command = [*words(compiler), "-shared", "-fPIC", "-O2", "-o", str(out), str(BOARD / "qemu_counter.c")]
    return out if subprocess.run(command, capture_output=True, check=False).returncode == 0 else None
