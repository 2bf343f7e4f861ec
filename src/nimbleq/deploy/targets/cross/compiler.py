"""Compilers for other processors: GCC as Debian packages it, and Zig's, which pip installs."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nimbleq.deploy.toolchain import TIMEOUT_SECONDS, CompileError, NoCompilerError

WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
SECTIONS = ("-ffunction-sections", "-fdata-sections")
"""Lets the linker drop what a program does not call."""


@dataclass(frozen=True)
class Compiler:
    """Attributes:
    name: for people.
    command: program and first words.
    flags: of the processor.
    install: what to do where it is missing.
    size: programs that tell the sizes of sections, the first one found is taken.
    more: flags of other compilations that are run too, for those of the processor's kind that have more instructions.
    """

    name: str
    command: tuple[str, ...]
    flags: tuple[str, ...]
    install: str
    size: tuple[str, ...]
    more: tuple[tuple[str, ...], ...] = ()

    @property
    def here(self) -> bool:
        """Whether it is installed."""
        if self.command[:2] == _ZIG[:2]:
            return importlib.util.find_spec("ziglang") is not None
        return shutil.which(self.command[0]) is not None


_ZIG = (sys.executable, "-m", "ziglang", "cc")


def gcc(prefix: str, package: str, *flags: str) -> Compiler:
    """GCC for the processor that ``prefix`` names, from Debian's ``package``."""
    return Compiler(f"{prefix}-gcc", (f"{prefix}-gcc",), flags, f"apt install {package}", (f"{prefix}-size",))


def zig(target: str, *flags: str) -> Compiler:
    """Zig's C compiler for one of its targets."""
    sizes = ("size", "llvm-size")
    name = f"zig cc {target}"
    return Compiler(name, _ZIG, ("-target", target, "-fno-sanitize=undefined", *flags), "pip install ziglang", sizes)


def find(candidates: Sequence[Compiler]) -> Compiler | None:
    """The first of them that is installed."""
    return next((compiler for compiler in candidates if compiler.here), None)


def build(compiler: Compiler, files: Mapping[str, bytes], out: str, flags: Sequence[str], folder: Path) -> Path:
    """Compile (with ``-c`` among the flags) or link ``files`` in ``folder``; C files and objects are the inputs.

    Returns:
        ``folder / out``.

    Raises:
        CompileError: the compiler or the linker refused them; says what it said first.
        NoCompilerError: it does not run, or a library that comes with it is missing.
    """
    for name, data in files.items():
        (folder / name).write_bytes(data)
    inputs = [name for name in files if name.endswith((".c", ".o"))]
    command = [*compiler.command, *compiler.flags, *SECTIONS, *flags, *inputs, "-o", out]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCompilerError(f"cannot run {compiler.name}: {error}") from error
    if done.returncode != 0:
        if missing := re.search(r"cannot find (-l\w+|crt\w+\.o)", done.stderr):
            raise NoCompilerError(f"{compiler.name} cannot find {missing[1]}: {compiler.install}")
        said = [line for line in done.stderr.splitlines() if re.search(r"error|overflow|undefined", line)]
        first = said[0] if said else done.stderr.strip()[-200:]
        raise CompileError(f"{compiler.name} refused the code: {first}")
    return folder / out


def sizes(compiler: Compiler, program: Path) -> tuple[int, int, int]:
    """Bytes of text (constants included), data and bss of a file, as the compiler's own ``size`` counts them.

    Raises:
        NoCompilerError: there is no such program.
    """
    tool = next((path for name in compiler.size if (path := shutil.which(name))), None)
    if tool is None:
        raise NoCompilerError(f"{compiler.size[-1]} is not installed: apt install binutils")
    done = subprocess.run([tool, str(program)], capture_output=True, text=True, timeout=60, check=True)
    text, data, bss = (int(word) for word in done.stdout.splitlines()[1].split()[:3])
    return text, data, bss
