"""What a row of the family is, and the programs that are made for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nimbleq.deploy.targets.c.isa import Isa, portable
from nimbleq.deploy.targets.c.layout import c_type
from nimbleq.deploy.targets.c.ops.dots import Dot
from nimbleq.deploy.targets.c.text import renamed
from nimbleq.deploy.targets.cross.compiler import Compiler, find
from nimbleq.deploy.targets.cross.emulator import BOARD, Emulator
from nimbleq.deploy.toolchain import NoCompilerError
from nimbleq.graph.graph import Graph


@dataclass(frozen=True)
class Board:
    """The files that make a policy a program.

    Attributes:
        sources: C files of `board` beside the program's own.
        scripts: of the linker, the first is named on the command line.
        link: flags of the linker.
        baked: bytes of input that fit into a program, for boards that cannot read any; None: the board reads it.
    """

    sources: tuple[str, ...]
    scripts: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    baked: int | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """Of the command that links."""
        return (*self.link, "-Wl,--gc-sections", *(("-T", self.scripts[0]) if self.scripts else ()))

    def files(self) -> dict[str, bytes]:
        """Name → content of what a program needs of the board."""
        return {file: (BOARD / file).read_bytes() for file in ("board.h", *self.sources, *self.scripts)}


@dataclass(frozen=True)
class Consumption:
    """What a part takes while it computes, by its data sheet.

    Attributes:
        part: which one.
        ua_per_mhz: current of code from flash, microamperes a megahertz.
        volts: of its supply.
    """

    part: str
    ua_per_mhz: float
    volts: float

    @property
    def nj_per_cycle(self) -> float:
        """Energy of a cycle, nanojoules."""
        return self.ua_per_mhz * self.volts / 1e3

    def __str__(self) -> str:
        return f"{self.part}, {self.ua_per_mhz:g} µA/MHz at {self.volts:g} V"


@dataclass(frozen=True, kw_only=True)
class Processor:
    """Attributes:
    name: of the target.
    purpose: what it is, in one phrase.
    compilers: candidates, the first one installed is taken.
    flags: of every compilation.
    board: what a program is made with.
    emulator: what runs it; None: it is compiled only.
    unit: of what one decision costs.
    most: observations that one verification runs, for slow emulators; None: all.
    wide: whether its C has a double of 64 bits.
    dots: instructions for products of bytes that one of its kind may have.
    ram_bytes: of the part, where nothing else says that it is full; None elsewhere.
    near_bytes: of constants that its pointers reach in flash, which it reads by other instructions; 0: it does not.
    unpacked: bytes that a small weight may take more where that spares the code that unpacks it; for flash.
    consumption: of a part with this processor, for estimates; None: no figure.
    """

    name: str
    purpose: str
    compilers: tuple[Compiler, ...]
    flags: tuple[str, ...]
    board: Board
    emulator: Emulator | None
    unit: str = "instructions"
    most: int | None = None
    wide: bool = True
    dots: tuple[Dot, ...] = ()
    ram_bytes: int | None = None
    near_bytes: int = 0
    unpacked: int = 0
    consumption: Consumption | None = None

    @property
    def isa(self) -> Isa:
        """What C is written for."""
        return portable(*self.dots, unpacked=self.unpacked, flash=self.near_bytes > 0)

    @property
    def compiler(self) -> Compiler:
        """The first one installed.

        Raises:
            NoCompilerError: there is none.
        """
        found = find(self.compilers)
        if found is None:
            raise NoCompilerError(self.lacks_compiler() or "")
        return found

    def lacks_compiler(self) -> str | None:
        """What to install to compile for it; None where a compiler is here."""
        if find(self.compilers) is not None:
            return None
        return f"{self.name} needs a compiler: {' or '.join(compiler.install for compiler in self.compilers)}"

    def lacks(self) -> str | None:
        """What to install to compile for it and to run it; None where all is here."""
        if self.emulator is None:
            return f"{self.name} is compiled only: nothing here runs it"
        if why := self.lacks_compiler():
            return why
        if not self.emulator.here:
            return f"running {self.name} needs {self.emulator.program}: {self.emulator.install}"
        return None


def program(file: str, graph: Graph, name: str, *macros: str) -> bytes:
    """A C file of `board` for the policy ``name``, with ``macros`` defined."""
    text = (BOARD / file).read_text()
    known = {"NQ_ELEMENT": f" {c_type(graph.obs_type)}", **({"NQ_ACT_MASKED": ""} if graph.masked else {})}
    known |= dict.fromkeys(macros, "")
    text = "".join(f"#define {macro}{value}\n" for macro, value in known.items() if macro in text) + text
    return renamed(re.sub(r'"nq(\w*\.h)"', rf'"{name}\1"', text), name).encode()


def optimized(flags: Sequence[str]) -> str:
    """The flag that says for what is optimized, for labels."""
    return next((flag for flag in flags if flag.startswith("-O")), "")
